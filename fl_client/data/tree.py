"""What lies below a folder of images: its files, each with what tells it from every other, whatever links lead there.

A symbolic link is a second name of a file. What lies below the folder itself is found first, links after it, so that
no order of a directory decides under which name, and so in which class, an image counts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crypto.reading.look import JUNK_FILES, JUNK_FOLDERS
from fl_client.data.items import Skipped
from medveil.errors import DataError

_MOST_LINKS = 100_000
_NO_TEXT = "its name is not valid UTF-8"


class Place(NamedTuple):
    """A file below the folder: `linked` where a link leads to it, `real` the same for every name of one file."""

    path: Path
    linked: bool
    real: tuple[int, int] | str


@dataclass(frozen=True)
class Tree:
    """What was found.

    Attributes
    ----------
    places : list of Place
        The files, sorted by path; of several names of one file, each.
    folders : set of str
        Every folder, empty ones too, relative to the root.
    skipped : list of Skipped
        Links that lead nowhere or in a circle, folders that cannot be opened, and what is no regular file.
    odd : list of Path
        Of these, what is neither a folder nor a link to one.
    """

    places: list[Place]
    folders: set[str]
    skipped: list[Skipped]
    odd: list[Path]


class _Folder(NamedTuple):
    path: Path
    above: tuple[str, ...]
    linked: bool


@dataclass
class _Survey:
    root: Path
    places: list[Place] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)
    odd: list[Path] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    links: deque[_Folder] = field(default_factory=deque)
    followed: int = 0

    def walk(self, start: _Folder) -> None:
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder.path)
            name = self._named(folder.path)
            self.folders.add(name)
            if not folder.linked:
                self.own[real] = name
            waiting += self._inside(folder, (*folder.above, real))

    def follow(self, link: _Folder) -> None:
        """Walk what a link to a folder leads to, unless it is walked anyway or holds the link itself."""
        real, name = os.path.realpath(link.path), self._named(link.path)
        if any(f"{each}/".startswith(f"{real.rstrip('/')}/") for each in link.above):
            self._skip(link.path, "is a link that leads in a circle")
        elif real in self.own:
            self._skip(link.path, f"is a link to the folder '{self.own[real]}', whose images count there")
        elif self.followed == _MOST_LINKS:
            cure = "copy the images, or link to one folder that holds them"
            raise DataError(f"more than {_MOST_LINKS} links to folders lead on from here", where=name, cure=cure)
        else:
            self.followed += 1
            self.walk(link)

    def _inside(self, folder: _Folder, above: tuple[str, ...]) -> Iterator[_Folder]:
        try:
            with os.scandir(folder.path) as found:
                entries = list(found)
        except OSError as error:
            self._skip(folder.path, f"cannot be opened: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in JUNK_FILES | JUNK_FOLDERS:
                continue
            path = folder.path / entry.name
            try:
                found_here = entry.stat()
            except OSError as error:
                circle = error.errno == errno.ELOOP
                dead = "is a link that leads in a circle" if circle else "is a dead link: nothing is where it leads"
                self._skip(path, dead if entry.is_symlink() else f"cannot be read: {error.strerror}")
                self.odd.append(path)
                continue
            linked = folder.linked or entry.is_symlink()
            if not stat.S_ISDIR(found_here.st_mode):
                self._file(path, found_here, linked)
            elif entry.is_symlink():
                self.links.append(_Folder(path, above, True))
            else:
                yield _Folder(path, above, linked)

    def _file(self, path: Path, found: os.stat_result, linked: bool) -> None:
        if not stat.S_ISREG(found.st_mode):
            self._skip(path, "is a pipe, a socket or a device")
            self.odd.append(path)
            return
        # Where a disk numbers no files, the path they really have tells them apart.
        real = (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)
        self.places.append(Place(path, linked, real))

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(self._named(path), reason))

    def _named(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        return name if is_text(name) else ascii(name)


def survey(root: Path) -> Tree:
    """Find every visible file below a folder.

    Names that begin with a dot, and what operating systems leave behind, are passed over. Links to files and to folders
    elsewhere are followed.

    Raises
    ------
    DataError
        Links lead on and on.
    """
    made = _Survey(root)
    made.walk(_Folder(root, (), False))
    while made.links:
        # Sorted, so that what is said does not depend on the order of a directory either.
        waiting = sorted(made.links)
        made.links.clear()
        for link in waiting:
            made.follow(link)
    places = sorted(made.places, key=lambda each: each.path.as_posix())
    return Tree(places, made.folders - {"."}, sorted(made.skipped), made.odd)


def is_text(name: str) -> bool:
    """Whether a file name can be written down; Linux allows any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def no_text(name: str) -> Skipped:
    """That a file is left out because its name cannot be written down."""
    return Skipped(ascii(name), _NO_TEXT)
