"""When what is written must be on the disk: each file at once, or many small ones together.

A disk takes some milliseconds for each request to write out what it holds, however little that is (5 ms on the machine
this was measured on), so that 10,000 small files wait 50 s for nothing else. A process that works for another may
leave them to it, which brings them to the disk many at once, before it counts on any.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

SMALL_BYTES = 2**23
"""A file up to this size may be left to be synced with others."""


class _Syncing:
    """Whether this process brings its files to the disk one by one."""

    each = True


def leave_small_files_unsynced() -> None:
    """Leave the small files of this process to another, which calls `sync_disk` before it counts on them."""
    _Syncing.each = False


def sync_file(handle: int) -> None:
    """Bring an open file to the disk, if this process does so for one of its size. `OSError` passes."""
    if _Syncing.each or os.fstat(handle).st_size > SMALL_BYTES:
        os.fsync(handle)


def sync_folder(folder: str | Path) -> None:
    """Bring the names in a folder to the disk, if this process does so. `OSError` passes."""
    if not _Syncing.each:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def can_sync_disk() -> bool:
    """Whether `sync_disk` works here: on Linux."""
    return _syncfs() is not None


def sync_disk(path: str | Path) -> None:
    """Bring all files and names of the disk that holds `path` to it.

    Raises
    ------
    OSError
        The disk refused: a file written since the last time may not be whole.
    """
    sync = _syncfs()
    assert sync is not None
    handle = os.open(path, os.O_RDONLY)
    try:
        if sync(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


@cache
def _syncfs() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    return found
