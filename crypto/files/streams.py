"""Reading what others wrote, and writing files too large for memory: every failure one of our own errors."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from medveil.errors import DataError, IntegrityError, MedVeilError
from medveil.files import storage_error

_LONGEST_REASON = 160
_LONGEST_NAME = 40


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
            raise storage_error(error, where, "read the file") from error
        raise DataError(f"cannot be decoded: {_reason(error)}", where=where) from error
    except Exception as error:
        raise DataError(f"cannot be decoded: {_reason(error)}", where=where) from error


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
    block reads must be ours already (`decoding`), or they would be taken for errors of this file.

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
