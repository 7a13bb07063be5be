"""Filling in pages: everything that is not Markup is escaped, and nothing of it is obeyed by a terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medveil.plain import shown

# Control characters but for line breaks, marks of direction, halves of characters.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def pages_of(*folders: tuple[str, str]) -> Environment:
    """The templates of packages, (package, folder) each, with the frame of every page (``base.html``)."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(*each) for each in (*folders, ("medveil", "pages"))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )


def style() -> Markup:
    """The style of every page."""
    return Markup(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    """What is filled in, with nothing in it that a terminal would obey: pages are shown with ``cat`` too."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    # Our own words hold spaces that do not break, which are no letters to `shown` and harmless.
    return _OBEYED.sub(lambda found: shown(found[0]), value)
