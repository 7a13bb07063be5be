"""Reading what others wrote: every failure is one of our own errors, which names the file."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from medveil.errors import DataError, IntegrityError, MedVeilError, StorageError
from medveil.files import storage_error

_LONGEST_REASON = 160
_DAMAGED = "what is packed in it is damaged"
"""Where a decoder says nothing, or what only its authors know, as zlib its numbers of errors."""

Opener = Callable[[Path], AbstractContextManager[BinaryIO]]
"""Opens what a file holds, which can be sought: the file itself, or what is sealed in it."""
Output = Callable[[Path], AbstractContextManager[BinaryIO]]
"""Makes a file: its stream can be written, sought and read back, and the file is there when the block ends."""


def open_file(path: Path) -> BinaryIO:
    """Open a file that holds itself; errors of the system pass."""
    return open(path, "rb")


def size_of(stream: BinaryIO) -> int:
    """How many bytes a stream has; it stays where it is."""
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(here)
    return size


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


def _reason(error: Exception) -> str:
    """What a decoder said, cut to a line that cannot speak to a terminal."""
    text = _DAMAGED if isinstance(error, zlib.error) else " ".join(str(error).split()) or _DAMAGED
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST_REASON]
