"""Files of named arrays (npz: a ZIP of npy), which may come from anyone: claims are looked at before they are read.

A few kilobytes can claim, or unpack to, more than a machine has memory. So names, sizes and types of all members wanted
are read first, compared with each other and with this machine's memory, and only then their contents.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from medveil.errors import DataError, StorageError
from medveil.files import storage_error
from medveil.plain import shown

_MOST_MEMBERS = 256
_LONGEST_HEADER = 10_000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MOST_NAMED = 2**14
_PATH = re.compile(r"[A-Za-z0-9_./-]{1,200}")
"""Of weights in Google's archives: layers within layers, and what an optimiser kept of each."""
_ENCRYPTED = 0x1
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
)
"""What zipfile and numpy raise at files made to break them; a RuntimeError is a password's, or a method's, and tokens
are looked at by numpy where a header may be Python 2's."""
Arrays = dict[str, npt.NDArray]
_CURE = "write it anew with numpy.savez"


def load_arrays(path: Path, wanted: Callable[[str], bool] = lambda name: True, *, most: int | None = None) -> Arrays:
    """Read the arrays of a file, and of these the wanted ones alone.

    Parameters
    ----------
    path
        The file.
    wanted
        Whether an array of this name is read; what else the file holds is not looked at.
    most
        Bytes that these arrays may take; None: as many as this machine has memory for.

    Raises
    ------
    DataError
        There is no such file, it is none of arrays, is encrypted, names an array twice, holds objects instead of
        numbers and texts, claims more than it holds, or more than there is memory for, or than `most`.
    """
    with _own_errors(path):
        if not stat.S_ISREG(path.stat().st_mode):
            # Opening a pipe would wait for its writer for ever.
            raise DataError("is no plain file", where=path)
        if not zipfile.is_zipfile(path):
            raise DataError("cannot be read as npz: it is no zip archive", where=path)
        with zipfile.ZipFile(path) as archive:
            members = {name: info for name, info in _members(archive, path).items() if wanted(name)}
            _check_claims(archive, members, path, most=most)
            return {name: _array(archive, info, path) for name, info in members.items()}


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all arrays of a file, whose names may be paths; no contents are read.

    Raises
    ------
    DataError
        As `load_arrays` does.
    """
    with _own_errors(path), zipfile.ZipFile(path) as archive:
        members = _members(archive, path, names=_PATH, most=_MOST_NAMED)
        _check_claims(archive, members, path)
        return {name: _shape(archive, info) for name, info in members.items()}


def memory() -> int:
    """Bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _members(
    archive: zipfile.ZipFile, path: Path, *, names: re.Pattern[str] = _NAME, most: int = _MOST_MEMBERS
) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > most:
        raise DataError(f"holds {len(infos)} files, more than the {most} it can", where=path)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name, dot, kind = info.filename.rpartition(".")
        if not dot or kind != "npy" or not names.fullmatch(name):
            continue
        if name in found:
            raise DataError(f"names '{name}' twice", where=path)
        if info.flag_bits & _ENCRYPTED:
            raise DataError(f"its '{name}' is encrypted", where=path, cure="unpack it with its password first")
        if info.compress_type not in _READ:
            raise DataError(f"its '{name}' is packed in a way numpy does not write", where=path)
        found[name] = info
    return found


def _check_claims(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path, *, most: int | None = None
) -> None:
    claimed = sum(_claimed(archive, info, path) for info in members.values())
    if most is not None and claimed > most:
        raise DataError(f"holds {claimed / 1e9:.1f} GB of arrays, and at most {most / 1e9:.1f} GB may be", where=path)
    if claimed > memory():
        problem = f"holds {claimed / 1e9:.1f} GB of arrays, and this machine has {memory() / 1e9:.1f} GB of memory"
        raise DataError(problem, where=path)


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    with archive.open(info) as stream:
        return _header(stream)[0]


def _claimed(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> int:
    """Bytes an array will take, as its own header and the archive agree on it."""
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as stream:
        shape, dtype = _header(stream)
        if dtype.hasobject:
            raise DataError(f"its '{name}' holds Python objects, which are not read", where=path)
        if dtype.names is not None:
            raise DataError(f"its '{name}' holds records, which are not read", where=path, cure="an array a field")
        size = math.prod(shape) * dtype.itemsize
        if stream.tell() + size != info.file_size:
            problem = f"its '{name}' claims {size} bytes, and the archive says {info.file_size - stream.tell()}"
            raise DataError(problem, where=path)
    return size


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"an array of version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream, max_header_size=_LONGEST_HEADER)
    if any(size < 0 for size in shape):
        raise ValueError("an array of a size below 0")
    return shape, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> npt.NDArray:
    with archive.open(info) as stream:
        made = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)
        # Reading past the end makes zipfile compare the checksum.
        if stream.read(1):
            raise DataError("holds more than it says", where=path)
    _check_text(made, info, path)
    return made


def _check_text(made: npt.NDArray, info: zipfile.ZipInfo, path: Path) -> None:
    """Refuse texts of numbers that are no letter: Python ends in an error of its own wherever one is looked at."""
    if made.dtype.kind == "U" and made.dtype.itemsize and made.size:
        codes = np.frombuffer(made.tobytes(), dtype=f"{made.dtype.byteorder}u4")
        if codes.max() > sys.maxunicode:
            raise DataError(f"its '{info.filename.removesuffix('.npy')}' is no text", where=path, cure=_CURE)


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", where=path, cure="set data.path to an .npz file") from None
    except OSError as error:
        # zipfile seeks to where a damaged directory says; anything else is the disk's.
        if error.errno != errno.EINVAL:
            raise StorageError(storage_error(error, path, "read the file").problem, where=path) from error
        raise DataError("cannot be read as npz: its directory is damaged", where=path, cure=_CURE) from error
    except _DAMAGED as error:
        raise DataError(f"cannot be read as npz: {_said(error)}", where=path, cure=_CURE) from error


def _said(error: Exception) -> str:
    """What is wrong with a file, in words that are not about the program."""
    if isinstance(error, zlib.error):
        return "what is packed in it is damaged"
    # What numpy quotes of a header that is no Python literal is an address in memory.
    if isinstance(error, tokenize.TokenError) or " object at 0x" in str(error):
        return "the header of an array is damaged"
    # As numpy begins to say it of a header or of values.
    if str(error).startswith("EOF: "):
        return f"it is cut short, {shown(str(error).removeprefix('EOF: '), most=200)}"
    return shown(error, most=200) or "it is damaged"
