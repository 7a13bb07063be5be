"""Digests of what is in the images of a source: read once, and again only of a file that was touched since.

Size and modification time tell nothing of a file that was replaced with both kept, as copies and archives keep them.
The time of its last change of any kind (ctime) is the system's own and no program sets it: while that, the inode and
the size stay, so do the contents. It moves for other reasons too; then the file is read, and nothing has changed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from fl_client.data.base import Source
from fl_client.data.documents import Documents
from medveil.errors import MedVeilError, StorageError
from medveil.files import sha256_file
from medveil.log import logger

FORMAT = "medveil-contents"
VERSION = 1
FILE = "contents.json"
UNREADABLE = hashlib.sha256(b"unreadable").digest()
"""The digest of a file that cannot be read: it is one of the images all the same, and differs once it can be."""
_SETTLED_NS = 2 * 10**9
"""A file that changed less long before it was read may change again within one tick of its disk's clock."""
_SHAPE = {"files": {str: [str]}}
_MOST_SEEN = 500_000
_seen: dict[tuple[str, str], bytes] = {}
"""What this process read, by path and stamp: the sites of a simulation look at one folder."""
_log = logger("contents")


def contents_of(
    source: Source, indices: Iterable[int], *, kept: Documents | None = None, named: bool = True
) -> dict[int, bytes]:
    """SHA-256 of the contents of some images of a source, by index.

    Parameters
    ----------
    source
        The images.
    indices
        Which of them.
    kept
        Where to keep what was read, for the next time; None keeps nothing.
    named
        Whether a frame of a file is told from the same frame of a copy of that file, by the name of the file.

    Raises
    ------
    StorageError
        The disk refuses what is to be kept. An image that cannot be read has a digest of its own, and no error.
    """
    wanted = list(indices)
    known = {} if kept is None else _known(kept)
    digests: dict[str, list[str]] = {}
    made: dict[int, bytes] = {}
    for index in wanted:
        path = source.file_of(index)
        if path is None:
            made[index] = source.contents(index)
            continue
        digest = _of_file(path, known, digests)
        # The frames of one file are different images.
        page = b""
        if source.shares_file(index):
            name = source.items[index].id
            page = (name if named else name.rpartition("#")[2]).encode("utf-8", "surrogateescape")
        made[index] = hashlib.sha256(digest + page).digest() if page else digest
    if kept is not None and digests and digests != known:
        kept.write(FILE, {"format": FORMAT, "version": VERSION, "files": digests})
    return made


def _of_file(path: Path, known: dict[str, list[str]], kept: dict[str, list[str]]) -> bytes:
    name = os.fsencode(path).hex() if not str(path).isprintable() else str(path)
    if name in kept:
        return bytes.fromhex(kept[name][1])
    stamp = _stamp(path)
    found = known.get(name)
    if stamp and found is not None and len(found) == 2 and found[0] == stamp:
        digest: bytes | None = _hex(found[1])
    else:
        digest = _seen.get((name, stamp)) if stamp else None
    if digest is None:
        digest = _read(path)
    if stamp:
        _remember((name, stamp), digest)
    kept[name] = [stamp, digest.hex()]
    return digest


def _remember(key: tuple[str, str], digest: bytes) -> None:
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen[key] = digest


def _stamp(path: Path) -> str:
    """What stays while a file does; empty where that is not to be relied on."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if not found.st_ino or time.time_ns() - found.st_ctime_ns < _SETTLED_NS:
        return ""
    return f"{found.st_dev}.{found.st_ino}.{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns}"


def _read(path: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_file(path))
    except StorageError:
        # A file that cannot be read is one of the images all the same: it differs once it can be.
        return UNREADABLE


def _known(kept: Documents) -> dict[str, list[str]]:
    """What was read before; nothing where that cannot be told: then all is read again."""
    if kept.find(FILE) is None:
        return {}
    try:
        found: dict[str, list[str]] = kept.read(FILE, _SHAPE, format_=FORMAT, newest=VERSION)["files"]
    except MedVeilError as error:
        _log.info("reads all images again: %s", error)
        return {}
    return found


def _hex(text: str) -> bytes | None:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None
