"""Names of files: which of them are ours, which cannot stand beside another, and how to print any of them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from medveil.errors import ConfigError, StorageError

WORK = ".medveil-run"
MANIFEST = "medveil-manifest.jsonl"
REPORT = "medveil-report.json"
MOST_ABOVE = 16
OURS = frozenset({WORK, MANIFEST, REPORT})
"""What a run leaves in the top folder beside the files."""


def folded(name: str) -> str:
    """A name as disks see it that ignore case and how accents are composed (Windows, macOS)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folders_above(root: Path) -> tuple[str, ...]:
    """The folders a tree lies in, the nearest first: a part of a tree that was hidden keeps the names of the whole."""
    parts = Path(os.path.realpath(root)).parts[1:]
    return tuple("/".join(parts[first:]) for first in range(len(parts) - 1, max(-1, len(parts) - 1 - MOST_ABOVE), -1))


def check_apart(source: Path, target: Path) -> None:
    """Refuse an output inside the input, an input inside the output, and both in one.

    Raises
    ------
    ConfigError
        It is so, by any name the folders have.
    """
    real_source, real_target = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    cure = "choose a folder apart from the input"
    if _same(real_source, real_target):
        raise ConfigError("is the input itself", where=target, cure=cure)
    if any(_same(above, real_source) for above in real_target.parents):
        raise ConfigError(f"lies inside the input {source}", where=target, cure=cure)
    if any(_same(above, real_target) for above in real_source.parents):
        raise ConfigError(f"holds the input {source}", where=target, cure=cure)


def _same(one: Path, other: Path) -> bool:
    if one == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def make_folders(root: Path, relative: Path, *, mode: int) -> None:
    """Create the folders of a file below `root`, none of which may be a link: it could lead out of the output.

    Raises
    ------
    StorageError
        One is a link or a file, or cannot be made. `OSError` of the system passes.
    """
    here = root
    for part in relative.parts:
        here = here / part
        try:
            os.mkdir(here, mode)
        except FileExistsError:
            if here.is_symlink() or not here.is_dir():
                raise StorageError("is not a folder", where=here, cure="move it away") from None
