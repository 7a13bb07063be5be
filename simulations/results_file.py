"""Records of finished runs in one small file: what tables are made of, and no model, no image and no key.

A zip archive. ``results.json`` is its table of contents: each run with its settings, and the size and SHA-256 of each
of its files, which are the other members. It may come from anyone, so that every claim is looked at before it is
believed: the size of the archive, of the table and of each member, and names, which must be those of a run's records.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medveil.bounded import MIB, Bounds, parse_json, word
from medveil.errors import ConfigError, FormatError, IntegrityError
from medveil.files import check_format, json_text, new_file, storage_error
from medveil.shapes import check_shape
from medveil.versions import medveil_version

FORMAT, VERSION = "medveil-results", 1
_INDEX = "results.json"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/seed--?[0-9]{1,20}")
_SITE = r"sites/site-[0-9]{1,6}"
_FILE = re.compile(
    rf"manifest\.json|metrics\.jsonl|summary\.json|{_SITE}/(site\.json|predictions\.npz|basis/[0-9a-f-]{{36}}\.json)"
)
_LARGEST, _LARGEST_FILE, _LARGEST_RUN = 64 * MIB, 64 * MIB, 256 * MIB
_MOST_RUNS, _MOST_FILES, _MOST_MEMBERS = 4096, 4096, 2**16
_BOUNDS = Bounds(length=64 * MIB, depth=16, values=2_000_000)
_SHAPE = {"medveil": str, "runs": {str: {"settings": dict, "files": {str: {"size": int, "sha256": str}}}}}
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_CURE = "pack it again: medveil-sim pack"
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError, RuntimeError, ValueError)
"""What zipfile raises at files made to break it; a RuntimeError is a password's, or a method's."""
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Record:
    """One finished run: its settings, and the contents of its files by their paths in its folder."""

    settings: dict[str, Any]
    files: dict[str, bytes]


def is_record(name: str) -> bool:
    """Whether a file of a run folder, by its path there, is one that tables are made of."""
    return _FILE.fullmatch(name) is not None


def is_run(name: str) -> bool:
    """Whether a run's path in a comparison is one that a results file can name."""
    return _RUN.fullmatch(name) is not None


def write_results(path: Path, records: Mapping[str, Record]) -> None:
    """Write records by the paths of their runs, for their owner alone: the same records are the same bytes.

    Raises
    ------
    ConfigError
        Something else lies there.
    StorageError
        The disk refuses.
    """
    if path.exists() and not _is_ours(path):
        raise ConfigError("is there already, and is no file of results", where=path, cure="name another file")
    runs = {name: {"settings": each.settings, "files": _contents(each.files)} for name, each in records.items()}
    index = {"format": FORMAT, "version": VERSION, "medveil": medveil_version(), "runs": runs}
    with new_file(path, mode=0o600) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, _INDEX, json_text(index).encode())
        for name, each in records.items():
            for file, data in each.files.items():
                _add(archive, f"{name}/{file}", data)


class Results:
    """A file of results, its table of contents read and its records not yet.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    medveil : str
        The version that packed it.
    settings : dict of str to dict
        Settings of each run, by its path in the comparison it was packed from; as they are written, and not checked.

    Raises
    ------
    StorageError
        It is missing or unreadable.
    FormatError
        It is something else, or of a newer version.
    IntegrityError
        It is cut or changed, or holds more or something else than records of runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as archive:
            members = self._members(archive)
            index = self._read(members, archive, _INDEX, _BOUNDS.length)
        document = parse_json(index, where=path, bounds=_BOUNDS)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise _no_results(path)
        check_format(document, name=FORMAT, newest=VERSION, where=path)
        check_shape(document, _SHAPE, where=path, cure=_CURE)
        self.medveil: str = document["medveil"]
        self._files = {name: each["files"] for name, each in document["runs"].items()}
        self.settings = {name: each["settings"] for name, each in document["runs"].items()}
        self._check_claims()
        listed = 1 + sum(map(len, self._files.values()))
        if len(members) != listed:
            raise IntegrityError(f"holds {len(members)} files, and lists {listed}", where=path, cure=_CURE)

    def files(self, run: str) -> dict[str, bytes]:
        """The contents of a run's files, by their paths in its folder; errors as of the class."""
        made = {}
        with self._open() as archive:
            members = self._members(archive)
            for name, claimed in self._files[run].items():
                data = self._read(members, archive, f"{run}/{name}", claimed["size"])
                if len(data) != claimed["size"] or hashlib.sha256(data).hexdigest() != claimed["sha256"]:
                    raise IntegrityError(f"'{run}/{name}' is not what was packed", where=self.path, cure=_CURE)
                made[name] = data
        return made

    def _check_claims(self) -> None:
        if len(self._files) > _MOST_RUNS or any(len(each) > _MOST_FILES for each in self._files.values()):
            raise IntegrityError("names more runs or files than a comparison has", where=self.path)
        for run, files in self._files.items():
            other = next((name for name in files if not is_record(name)), None) if is_run(run) else run
            if other is not None:
                raise IntegrityError(f"names '{word(other)}', which is no record of a run", where=self.path)
            sizes = [each["size"] for each in files.values()]
            if any(not 0 <= size <= _LARGEST_FILE for size in sizes) or sum(sizes) > _LARGEST_RUN:
                raise IntegrityError(f"claims more of '{run}' than records take", where=self.path)

    def _members(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        """What the archive holds, by name."""
        infos = archive.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise IntegrityError(f"holds {len(infos)} files, more than the {_MOST_MEMBERS} it can", where=self.path)
        found: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.filename in found:
                raise IntegrityError(f"holds '{word(info.filename)}' twice", where=self.path, cure=_CURE)
            found[info.filename] = info
        return found

    def _read(self, members: Mapping[str, zipfile.ZipInfo], archive: zipfile.ZipFile, name: str, most: int) -> bytes:
        """A member, which unpacks to no more than that and is not encrypted."""
        info = members.get(name)
        if info is None:
            raise (
                _no_results(self.path)
                if name == _INDEX
                else IntegrityError(f"does not hold '{name}'", where=self.path, cure=_CURE)
            )
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _PACKED or info.file_size > most:
            raise IntegrityError(f"'{name}' is larger than it may be, or packed in another way", where=self.path)
        with archive.open(info) as stream:
            # Reading past the end makes zipfile compare the checksum.
            return stream.read(most + 1)

    @contextlib.contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            found = self.path.stat()
            # Opening a pipe would wait for its writer for ever.
            if not stat.S_ISREG(found.st_mode) or not zipfile.is_zipfile(self.path):
                raise _no_results(self.path)
            if found.st_size > _LARGEST:
                raise IntegrityError(f"is larger than {_LARGEST // MIB} MiB", where=self.path)
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except _DAMAGED as error:
            raise IntegrityError("is cut short or damaged", where=self.path, cure=_CURE) from error
        except OSError as error:
            # zipfile seeks to where a damaged directory says; anything else is the disk's.
            if error.errno == errno.EINVAL:
                raise IntegrityError("is cut short or damaged", where=self.path, cure=_CURE) from error
            raise storage_error(error, self.path, "read the file") from error


def _contents(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=_FIRST_DAY)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
    archive.writestr(info, data)


def _is_ours(path: Path) -> bool:
    try:
        Results(path)
    except (FormatError, IntegrityError):
        return False
    return True


def _no_results(path: Path) -> FormatError:
    return FormatError("is no file of results", where=path, cure="one that 'medveil-sim pack' wrote")
