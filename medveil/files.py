"""Files that are either whole or not there: atomic writes, JSON documents and their versions."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from medveil.bounded import DOCUMENT, Bounds, parse_json
from medveil.disks import sync_file, sync_folder
from medveil.errors import FormatError, IntegrityError, StorageError

_CURES = {
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "free some of your quota and run again",
    errno.EROFS: "choose a folder on a writable disk",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.ENOTDIR: "choose a path whose parents are folders",
}

_LONGEST_NAME = 40
T = TypeVar("T")


def storage_error(error: OSError, path: str | Path, doing: str) -> StorageError:
    """Say an operating-system error in our own words."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    cure = _CURES.get(error.errno or 0)
    if doing.startswith("read") and error.errno in {errno.EACCES, errno.EPERM}:
        cure = "ask for the right to read it"
    return StorageError(f"cannot {doing}: {reason.lower()}", where=path, cure=cure)


def make_folder(path: str | Path, mode: int = 0o777) -> Path:
    """Create a folder and its parents, all with `mode` less the umask; one that is there already is left as it is.

    Raises
    ------
    StorageError
        The folder cannot be made or written to.
    """
    path = each = Path(path)
    try:
        # `Path.mkdir` gives parents another mode, and a folder for its owner alone would lie in one for all.
        for each in () if path.is_dir() else (*reversed(path.parents), path):
            if not each.is_dir():
                each.mkdir(exist_ok=True, mode=mode)
    except FileExistsError:
        raise StorageError("is a file where a folder is needed", where=each, cure="move it away") from None
    except OSError as error:
        raise storage_error(error, path, "create the folder") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StorageError("cannot write into the folder", where=path, cure="choose a folder you may write to")
    return path


@contextlib.contextmanager
def new_file(path: str | Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Write a file in pieces under a temporary name, and move it into place when all of it is on disk.

    Small files of a process that leaves their syncing to another (`medveil.disks`) are moved before that.

    The stream can be written, sought and read back. When the block raises, nothing of it remains and an older file at
    `path` is untouched; an error other than `OSError` passes as it is.

    Parameters
    ----------
    mode
        Of the file, less the umask, as the file is made: nobody reads a part of it who may not read the whole.

    Raises
    ------
    StorageError
        The disk is full, read-only, or refuses a write.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        # Cut, so that a name as long as a disk allows still has room for what makes it a part.
        part = _part(path, path.name[:_LONGEST_NAME])
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        temporary = str(part)
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            sync_file(stream.fileno())
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path, "write the file") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_bytes(path: str | Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old content or all of the new, never a part.

    Raises
    ------
    StorageError
        The disk is full, read-only, or refuses the write. The old file is untouched.
    """
    with new_file(path, mode=mode) as stream:
        stream.write(data)


def write_text(path: str | Path, text: str, *, mode: int = 0o644) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"), mode=mode)


def write_json(path: str | Path, document: Any, *, mode: int = 0o644) -> None:
    """`write_bytes` for a JSON document (`json_text`)."""
    write_text(path, json_text(document), mode=mode)


def json_text(document: Any) -> str:
    """A JSON document as we write it: two-space indent, one line break at the end; ValueError for NaN."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_bytes(path: str | Path, *, most: int | None = None) -> bytes:
    """Read a file, with our own errors for one that is missing or unreadable, or larger than it may be."""
    data = read_head(path, -1 if most is None else most + 1)
    if most is not None and len(data) > most:
        raise IntegrityError(f"is larger than the {most} bytes it can be", where=path)
    return data


def read_head(path: str | Path, most: int) -> bytes:
    """Read no more than the first bytes of a file, which may be of any size, or a device; -1: all of it.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(most)
    except FileNotFoundError:
        raise StorageError("no such file", where=path) from None
    except OSError as error:
        raise storage_error(error, path, "read the file") from error
    except ValueError:
        raise StorageError("no file can have this name", where=path) from None


def read_json(path: str | Path, *, bounds: Bounds = DOCUMENT) -> Any:
    """Read a JSON document.

    Parameters
    ----------
    path
        The file.
    bounds
        Most it may hold; less for one that came from elsewhere.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    IntegrityError
        It is not whole JSON, or holds too much.
    """
    data = read_bytes(path, most=bounds.length)
    return parse_json(data, where=path, bounds=bounds, kind=IntegrityError)


@contextlib.contextmanager
def new_folder(path: str | Path, *, mode: int = 0o755) -> Iterator[Path]:
    """Build a folder under a temporary name beside `path` and move it into place when all of it is written.

    An older folder at `path` is replaced only then. When the block raises, nothing of it remains.

    Raises
    ------
    StorageError
        The disk is full, read-only, or refuses a write.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        building = _part(path, path.name[:_LONGEST_NAME])
        building.mkdir(mode=mode)
    except OSError as error:
        raise storage_error(error, path, "create the folder") from error
    try:
        yield building
        for inner in building.rglob("*"):
            if inner.is_file():
                with open(inner, "rb+") as stream:
                    os.fsync(stream.fileno())
        old = building.with_suffix(".old") if path.exists() else None
        if old is not None:
            os.replace(path, old)
        os.replace(building, path)
        sync_folder(path.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, path, "write the folder") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _part(path: Path, name: str) -> Path:
    """Where something is made before it gets its name: beside it, and never called as anything else."""
    return path.with_name(f".{name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an advisory lock beside `path` (``PATH.lock``), so that processes that make the same thing take turns.

    Parameters
    ----------
    path
        What is made; it need not exist.
    wait
        Wait while another process holds the lock; otherwise that is an error. The lock goes with its process.

    Raises
    ------
    StorageError
        The lock file cannot be made, or another process holds it and `wait` is false.
    """
    lock = Path(f"{path}.lock")
    make_folder(lock.parent)
    try:
        # Its owner's alone: whoever can open a lock can hold it.
        stream = open(lock, "ab", opener=private)  # noqa: SIM115 - closed with the block below
    except OSError as error:
        raise storage_error(error, lock, "create the lock file") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError("is in use by another process", where=path, cure="wait for it to end") from None
        except OSError as error:
            raise storage_error(error, lock, "lock the file") from error
        yield


@contextlib.contextmanager
def changing(path: str | Path, read: Callable[[], T]) -> Iterator[T]:
    """What a file holds, read while no other process changes it; its folder is made, for its owner alone.

    Parameters
    ----------
    path
        The file; it need not exist.
    read
        Reads it, or gives what is meant where there is none.

    Raises
    ------
    StorageError
        As `make_folder` and `locked`.
    """
    make_folder(Path(path).parent, mode=0o700)
    with locked(path):
        yield read()


def private(path: str, flags: int) -> int:
    """What opens a new file for its owner alone, as the ``opener`` of `open`."""
    return os.open(path, flags, 0o600)


def sweep_parts(folder: str | Path) -> int:
    """Remove what killed writers left in a folder (`.NAME.*.part`, `.old`); returns how many."""
    gone = 0
    for left in Path(folder).glob(".*.*"):
        if left.suffix not in {".part", ".old"}:
            continue
        gone += 1
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    return gone


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise storage_error(error, path, "read the file") from error


def check_format(document: Any, *, name: str, newest: int, where: str | Path) -> int:
    """Check the `format` and `version` every persistent file of ours carries.

    Parameters
    ----------
    document
        The parsed header: a mapping with `format` (str) and `version` (int).
    name
        The format expected, for example ``"medveil-key"``.
    newest
        The newest version this MedVeil reads.

    Returns
    -------
    int
        The version of the file, between 1 and `newest`.

    Raises
    ------
    FormatError
        The file is of another format or of a newer version.
    """
    found = document.get("format") if isinstance(document, dict) else None
    if found != name:
        raise FormatError(f"is not a {name} file", where=where)
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FormatError(f"has no valid {name} version", where=where)
    if version > newest:
        raise FormatError(
            f"is {name} version {version}; this MedVeil reads up to {newest}",
            where=where,
            cure="upgrade MedVeil",
        )
    return version
