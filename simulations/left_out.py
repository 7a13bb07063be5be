"""Files that a run left out, as its sites wrote them down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fl_client.data.items import by_reason
from medveil.errors import MedVeilError
from medveil.files import read_json

SHARED = "data set"
"""In place of a site: a file left out before the data set was dealt to sites."""


class LeftOut(NamedTuple):
    """A file that no one trained on, and why."""

    site: str
    path: str
    reason: str


def left_out(sites: Mapping[str, Mapping[str, Any]]) -> list[LeftOut]:
    """Files left out, by the ``site.json`` of each site; those of a shared data set once."""
    shared = [each for document in list(sites.values())[:1] for each in _entries(document, "shared_skipped", SHARED)]
    return [*shared, *(each for site, document in sites.items() for each in _entries(document, "skipped", site))]


def read_left_out(run: Path) -> list[LeftOut]:
    """`left_out` of a run folder; a site whose description cannot be read has none."""
    sites = {}
    for path in sorted(run.glob("sites/*/site.json")):
        try:
            sites[path.parent.name] = read_json(path)
        except MedVeilError:
            continue
    return left_out(sites)


def as_text(files: list[LeftOut]) -> str:
    """One line for people: how many, and for which reasons, the first of each by name."""
    count = "1 file was" if len(files) == 1 else f"{len(files)} files were"
    reasons = by_reason((f"{each.site}: {each.path}", each.reason) for each in files)
    return f"{count} left out: {'; '.join(reasons)}{', see the report' if len(files) > len(reasons) else ''}"


def _entries(document: Mapping[str, Any], key: str, site: str) -> Iterator[LeftOut]:
    found = document.get(key) if isinstance(document, Mapping) else None
    for each in found if isinstance(found, list) else []:
        if isinstance(each, Mapping):
            yield LeftOut(site, str(each.get("path", "")), str(each.get("reason", "")))
