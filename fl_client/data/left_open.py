"""What lies open in a site's own folder, as MedVeil left it before it sealed stores: found by names, without a key."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from medveil.errors import IntegrityError
from medveil.files import storage_error

STORES = "stores"
"""Folder of stores, in the site's own."""
HEADER, CONTENTS = "header.json", "contents.sealed"
"""Files of a store; one that lies open has no second."""
NAMES = ("site.json", "predictions.npz", "contents.json", "similar.json", "basis/*.json")
"""What a site keeps beside stores, stems and models: the names that it has plain, with patterns."""


class LeftOpen(NamedTuple):
    """What lies open, and how many stores lie sealed.

    Attributes
    ----------
    stores : tuple of Path
        Folders of stores that lie open.
    files : tuple of str
        Names of other files, from the site's own folder.
    sealed : int
        Stores that lie sealed.
    """

    stores: tuple[Path, ...] = ()
    files: tuple[str, ...] = ()
    sealed: int = 0

    def plain(self) -> dict[str, int]:
        """How many, as plain data."""
        return {"stores": len(self.stores), "files": len(self.files), "sealed_stores": self.sealed}


class LiesOpenError(IntegrityError):
    """A store or a file lies open at a site that seals: an older MedVeil's, or anybody's who put it there."""

    def __init__(self, place: Path, because: str = "") -> None:
        cure = "where it is this site's own, of an older MedVeil: medveil-site seal; else remove it"
        super().__init__(f"lies open, and what this site keeps is sealed{because}", where=place, cure=cure)


def left_open(folder: Path) -> LeftOpen:
    """Look through a site's own folder (StorageError where it cannot be read)."""
    try:
        places = sorted(each.parent for each in (folder / STORES).glob(f"[!.]*/{HEADER}"))
        found = (path for name in NAMES for path in folder.glob(name) if not path.name.startswith("."))
        files = sorted(str(path.relative_to(folder)) for path in found)
    except OSError as error:
        raise storage_error(error, folder, "read the folder") from error
    stores = tuple(each for each in places if not (each / CONTENTS).exists())
    return LeftOpen(stores, tuple(files), len(places) - len(stores))


def was_plain(name: str) -> bool:
    """Whether an older MedVeil kept a file of this name plain: no other is anybody's of this site's."""
    return any(fnmatchcase(name, each) for each in NAMES)


def has_sealed(folder: Path) -> bool:
    """Whether a store, or a file beside it, lies sealed in a site's own folder (StorageError as `left_open`)."""
    names = (f"{STORES}/[!.]*/{CONTENTS}", *(f"{each}.sealed" for each in NAMES))
    try:
        return any(any(folder.glob(name)) for name in names)
    except OSError as error:
        raise storage_error(error, folder, "read the folder") from error


def said(found: dict[str, int]) -> str:
    """One line about what `LeftOpen.plain` tells."""
    if found["stores"] or found["files"]:
        told = f"{_count(found['stores'], 'store')} and {_count(found['files'], 'file')}"
        return f"{told} lie open, as an older MedVeil left them: 'medveil-site seal' seals them"
    return f"stores: {found['sealed_stores']}, sealed" if found["sealed_stores"] else "stores: none"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
