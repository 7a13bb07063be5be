"""Links from a page to files beside it: relative, to what is there, and never anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote


class Link(NamedTuple):
    """A file by its name, and where a click leads."""

    name: str
    href: str


def links(folder: Path, names: Iterable[str]) -> list[Link]:
    """Links to those of some files below a folder that are there."""
    return [Link(name, href(name)) for name in names if (folder / name).is_file()]


def href(path: str) -> str:
    """A relative path as a reference: a name with a colon, a quote or a space stays a name."""
    return "./" + quote(path, safe="/")


def relative(folder: Path, target: Path) -> str | None:
    """The reference to a file below a folder; None for one that lies elsewhere or is not there."""
    try:
        inside = target.resolve().relative_to(folder.resolve())
    except ValueError:
        return None
    return href(inside.as_posix()) if target.is_file() else None
