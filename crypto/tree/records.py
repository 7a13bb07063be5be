"""What a run remembers of each file it finished, each line proven by the key.

The journal of a run that is not over and the manifest of one that is hold the same lines. Names stand in the clear, as
they do in the tree; what is derived from a source or from a hidden file is an HMAC under the key, which says nothing to
anyone without it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crypto.files.recipe import Recipe
from crypto.files.streams import decoding
from crypto.keys import Key
from crypto.tree.walk import Stamp
from medveil.errors import IntegrityError
from medveil.files import check_format, storage_error

FORMAT = "medveil-manifest"
VERSION = 1
HIDE, SHOW = "encrypt", "decrypt"
LARGEST_LINE = 2**22
_PURPOSE = "manifest"
_READ_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished file.

    Parameters
    ----------
    source, target
        Names relative to the two roots, with slashes.
    kind
        Of the source.
    frames, size
        Images in it, and bytes of the target.
    stamp, digest
        HMACs of the source's size and time, and of the target's bytes; 64 hex digits each.
    warnings, removed, replaced
        As in `crypto.files.kinds.FileReport`.
    """

    source: str
    target: str
    kind: str
    frames: int
    size: int
    stamp: str
    digest: str
    warnings: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The first line of a journal or manifest: what was done, how, and under which key.

    Parameters
    ----------
    action
        ``"encrypt"`` or ``"decrypt"``.
    fingerprint
        Of the key that proves the lines.
    recipe
        How files were hidden, as plain data; empty for ``"decrypt"``.
    """

    action: str
    fingerprint: str
    recipe: dict[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """As it is written."""
        return line_of({"format": FORMAT, "version": VERSION, **asdict(self)})


def heading_of(action: str, key: Key, recipe: Recipe | None) -> Heading:
    """The heading of a run."""
    plain = json.loads(json.dumps(asdict(recipe))) if recipe is not None else {}
    return Heading(action=action, fingerprint=key.fingerprint, recipe=plain)


class Marks:
    """The HMACs of a key over names, times and files; SHA-256, each for one use."""

    def __init__(self, key: Key) -> None:
        self._subkey = key.subkey("mac", _PURPOSE)

    def stamp(self, stamp: Stamp) -> str:
        """Of a source's size and time."""
        return self._over("stamp", f"{stamp.size} {stamp.mtime_ns}".encode("ascii"))

    def record(self, line: bytes) -> str:
        """Of a record."""
        return self._over("record", line)

    def file(self, path: Path) -> str:
        """Of a file's bytes.

        Raises
        ------
        StorageError
            It cannot be read.
        """
        made = self._start("file")
        with decoding(path), open(path, "rb") as stream:
            while data := stream.read(_READ_BYTES):
                made.update(data)
        return made.hexdigest()

    def manifest(self) -> hmac.HMAC:
        """One to be fed all lines of a manifest."""
        return self._start("manifest")

    def _start(self, use: str) -> hmac.HMAC:
        return hmac.new(self._subkey, f"{use}\0".encode("ascii"), "sha256")

    def _over(self, use: str, data: bytes) -> str:
        made = self._start(use)
        made.update(data)
        return made.hexdigest()


def record_line(record: Record, marks: Marks) -> bytes:
    """A record as it is written, with its MAC."""
    plain = {name: value for name, value in vars(record).items() if value != ()}
    return line_of({**plain, "mac": marks.record(line_of(plain))})


def parse_record(line: bytes, marks: Marks) -> Record | None:
    """Read a record; None where it is not whole, or nobody with the key wrote it."""
    try:
        document = json.loads(line)
        mac = document.pop("mac")
        if not hmac.compare_digest(marks.record(line_of(document)), mac):
            return None
        plain: dict[str, Any] = {name: _plain(value) for name, value in document.items()}
        return Record(**plain)
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError):
        return None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def parse_heading(line: bytes, *, where: Path) -> Heading:
    """Read the first line of a journal or manifest.

    Raises
    ------
    FormatError
        It is neither, or of a newer version.
    IntegrityError
        It is damaged.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise IntegrityError("its first line is damaged", where=where, cure="restore it from a copy") from None
    check_format(document, name=FORMAT, newest=VERSION, where=where)
    kinds = {"action": str, "fingerprint": str, "recipe": dict}
    if any(not isinstance(document.get(name), kind) for name, kind in kinds.items()):
        raise IntegrityError("its first line is damaged", where=where, cure="restore it from a copy")
    return Heading(**{name: document[name] for name in kinds})


def read_heading(path: Path) -> Heading | None:
    """The heading of a journal or manifest, or None where there is no file; errors as `parse_heading`.

    Raises
    ------
    StorageError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return parse_heading(stream.readline(LARGEST_LINE), where=path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path, "read the file") from error


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its line break; one longer than any of ours comes in pieces.

    Raises
    ------
    StorageError
        It cannot be read.
    """
    with decoding(path), open(path, "rb") as stream:
        while line := stream.readline(LARGEST_LINE):
            yield line


def line_of(document: dict[str, Any]) -> bytes:
    """A document as one line, the same for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
