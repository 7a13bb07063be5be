"""Which files are documentation, and what they are called on the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ROOT_PAGES = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository's root that are pages of the site too, by their name there."""
ELSEWHERE = {**ROOT_PAGES, ".github/overview.svg": "overview.svg"}
"""All files outside `docs/` that the site holds."""
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[#)])")


def written() -> list[Path]:
    """Every page a person wrote: README, the root's pages, and docs."""
    return [ROOT / "README.md", *(ROOT / name for name in ROOT_PAGES), *sorted(DOCS.rglob("*.md"))]


def named(path: Path) -> str:
    """A page as errors name it."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def for_site(text: str, page: str) -> str:
    """Make links between `docs/` and the repository's root right for the site, where all pages lie in one folder.

    Parameters
    ----------
    text
        Markdown whose links are right in the repository.
    page
        The page's path on the site, as ``explanation/stem.md``.

    Returns
    -------
    str
        The same with every link to a root page, and every link of a root page into ``docs/``, rewritten.
    """
    of_root = {there: here for here, there in ROOT_PAGES.items()}
    base = "." if page in of_root else posixpath.join("docs", posixpath.dirname(page))

    def moved(match: re.Match[str]) -> str:
        link = match[1]
        if "://" in link or link.startswith("mailto:"):
            return link
        target = posixpath.normpath(posixpath.join(base, link))
        target = ELSEWHERE.get(target, target.removeprefix("docs/") if target.startswith("docs/") else target)
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return _LINK.sub(moved, text)
