"""The built site fetches nothing from elsewhere: no font, script, style or picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_FETCHED = {"src", "srcset", "data", "poster", "action"}
_RELATIONS = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest", "modulepreload"}
_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)")


def fetched(site: Path) -> list[str]:
    """Everything a browser would fetch from another host to show these pages, with the page that names it."""
    found = []
    for page in sorted(site.rglob("*.html")):
        reader = _Reader()
        reader.feed(page.read_text())
        found += [f"{page.relative_to(site)}: {each}" for each in reader.found]
    for sheet in sorted(site.rglob("*.css")):
        found += [f"{sheet.relative_to(site)}: {each}" for each in _STYLE.findall(sheet.read_text())]
    return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found += [f"<{tag}> {value}" for value in _asked(tag, given) if re.match(r"(https?:)?//", value)]

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() and (self.get_starttag_text() or "").startswith("<style"):
            self.found += _STYLE.findall(data)


def _asked(tag: str, given: dict[str, str]) -> Iterator[str]:
    yield from (value for name, value in given.items() if name in _FETCHED)
    if tag == "link" and set(given.get("rel", "").split()) & _RELATIONS:
        yield given.get("href", "")
    yield from _STYLE.findall(given.get("style", ""))
