"""Reading what others wrote, and writing files too large for memory: every failure one of our own errors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from medveil.errors import DataError, IntegrityError, MedVeilError, StorageError
from medveil.files import storage_error

SMALL_BYTES = 2**23
"""A file up to this size may be left to be synced with others."""

_LONGEST_REASON = 160
_LONGEST_NAME = 40


class _Syncing:
    """Whether files are brought to the disk one by one."""

    each = True


def leave_small_files_unsynced() -> None:
    """Leave it to another process to bring small files to the disk, many at once (`sync_disk`).

    A disk takes some milliseconds for each request to write what it holds, however little that is: 5 ms here, so
    that 10,000 small files would wait 50 s for nothing else.
    """
    _Syncing.each = False


def can_sync_disk() -> bool:
    """Whether `sync_disk` works here: on Linux."""
    return _syncfs() is not None


def sync_disk(path: str | Path) -> None:
    """Bring all files of the disk that holds `path` to it.

    Raises
    ------
    StorageError
        The disk refused: a file written since the last time may not be whole.
    """
    sync = _syncfs()
    assert sync is not None
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            if sync(handle) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(handle)
    except OSError as error:
        raise storage_error(error, path, "write to the disk") from error


@cache
def _syncfs() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    return found


@contextlib.contextmanager
def decoding(where: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises over a file into one error that names the file.

    Decoders raise many types for a damaged file (Pillow alone OSError, SyntaxError, ValueError, struct.error); to a
    hospital all of them mean one file that cannot be read.

    Raises
    ------
    StorageError
        The disk refused to be read.
    DataError
        Anything else that is not ours.
    """
    try:
        yield
    except MedVeilError:
        raise
    except MemoryError:
        raise DataError("needs more memory than there is", where=where) from None
    except OSError as error:
        if error.errno:
            raise read_error(error, where) from error
        raise DataError(f"cannot be decoded: {_reason(error)}", where=where) from error
    except Exception as error:
        raise DataError(f"cannot be decoded: {_reason(error)}", where=where) from error


def read_error(error: OSError, where: str | Path, what: str = "file") -> StorageError:
    """Say an operating-system error over something that was read; the cures for writing are none for it."""
    return StorageError(storage_error(error, where, f"read the {what}").problem, where=where)


@contextlib.contextmanager
def reading_hidden(where: str | Path) -> Iterator[None]:
    """As `decoding`, for a file that MedVeil wrote: what cannot be decoded was damaged since.

    Raises
    ------
    StorageError
        The disk refused to be read.
    IntegrityError
        The file is damaged.
    """
    try:
        with decoding(where):
            yield
    except DataError as error:
        raise IntegrityError(error.problem, where=where, cure="restore it from a copy") from error


@contextlib.contextmanager
def new_file(path: str | Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Write a file of any size so that a reader sees the old content or all of the new, never a part.

    The stream can be read and written anywhere. When the block raises, nothing of it remains. Errors of what the
    block reads must be ours already (`decoding`), or they would be taken for errors of this file. The file is on the
    disk when the block is left, but for small ones after `leave_small_files_unsynced`.

    Raises
    ------
    StorageError
        The disk is full, read-only, or refuses the write. The old file is untouched.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        # The name is cut, so that a name as long as a disk allows still has room for what makes it a part.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_LONGEST_NAME]}.", suffix=".part")
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            if _Syncing.each or os.fstat(stream.fileno()).st_size > SMALL_BYTES:
                os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise storage_error(error, path, "write the file") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _reason(error: Exception) -> str:
    """What a decoder said, cut to a line that cannot speak to a terminal."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST_REASON]
