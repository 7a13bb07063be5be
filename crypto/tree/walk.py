"""The files below a folder, one at a time: no link is followed, nothing but a plain file is ever opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from crypto.files.streams import read_error
from crypto.tree.paths import OURS
from medveil.plain import shown

FILE = "file"
PASSED = "passed"
REFUSED = "refused"


class Stamp(NamedTuple):
    """What tells a file that changed from one that did not."""

    size: int
    mtime_ns: int


_NO_STAMP = Stamp(0, 0)


@dataclass(frozen=True)
class Found:
    """An entry of the tree.

    Parameters
    ----------
    name
        Relative to the root, with slashes; undecodable bytes as Python's surrogates.
    status
        ``FILE``; ``PASSED`` for what is no file of its own (a link to another one, a socket); ``REFUSED`` for what may
        be one that is missed (a link that leads out or nowhere, a folder that cannot be read).
    stamp
        Of a file.
    why
        Why it is passed or refused.
    """

    name: str
    status: str
    stamp: Stamp = _NO_STAMP
    why: str = ""


def walk(root: Path) -> Iterator[Found]:
    """Walk a tree lazily, depth last; memory holds the names of folders still to enter, and no more.

    What MedVeil itself left in the root is not seen. Hard links are files of their own, for they have names of their
    own; symbolic links are not followed, so there are no loops and no file comes twice.
    """
    inside = os.path.realpath(root)
    folders = [""]
    while folders:
        folder = folders.pop()
        below = []
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if name in OURS:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(name)
                    else:
                        yield _found(entry, name, inside)
        except OSError as error:
            yield Found(folder or ".", REFUSED, why=read_error(error, folder, "folder").problem)
        folders.extend(sorted(below, reverse=True))


def _found(entry: os.DirEntry[str], name: str, inside: str) -> Found:
    if entry.is_symlink():
        return _link(entry, name, inside)
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Found(name, REFUSED, why=read_error(error, name).problem)
    if not stat.S_ISREG(status.st_mode):
        return Found(name, PASSED, why="is a pipe, a socket or a device")
    return Found(name, FILE, Stamp(status.st_size, status.st_mtime_ns))


def _link(entry: os.DirEntry[str], name: str, inside: str) -> Found:
    leads = os.path.realpath(entry.path)
    if not os.path.exists(leads):
        return Found(name, REFUSED, why="is a link that leads nowhere")
    if leads == inside or leads.startswith(inside.rstrip(os.sep) + os.sep):
        return Found(
            name, PASSED, why=f"is a link to {shown(os.path.relpath(leads, inside))}, which is taken as itself"
        )
    return Found(name, REFUSED, why="is a link that leads out of the input; links are not followed")
