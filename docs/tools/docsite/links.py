"""Links between the pages as they lie in the repository: files that are not there, headings that are not there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from docsite.places import DOCS, named
from docsite.prose import without_code

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def broken(pages: Iterable[Path], *, generated: Collection[str]) -> list[str]:
    """Every link that leads nowhere.

    Parameters
    ----------
    pages
        Markdown files.
    generated
        Pages of the site that no file holds, by their path below ``docs/``; their headings are looked at by MkDocs.
    """
    made = {(DOCS / each).resolve() for each in generated}
    found = []
    for page in pages:
        text = without_code(page.read_text())
        for match in _LINK.finditer(text):
            link = match[1]
            if re.match(r"[a-z]+:", link):
                continue
            why = _why(page, link, made)
            if why:
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{named(page)}:{line}: {link}: {why}")
    return found


def _why(page: Path, link: str, made: Collection[Path]) -> str:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if target in made:
        return ""
    if not target.exists():
        return "no such file"
    if anchor and anchor not in anchors(target.read_text()):
        return "no such heading"
    return ""


def anchors(text: str) -> set[str]:
    """The anchors GitHub and MkDocs give a page's headings; both agree on the ones we write."""
    return {slug(heading) for heading in _HEADING.findall(without_code(text))}


def slug(heading: str) -> str:
    """A heading's anchor: lower case, marks gone, spaces as hyphens."""
    plain = re.sub(r"[*`_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip())
