"""The manifest of a tree: what belongs to it, under one MAC, so that nothing can be added, changed or taken out."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from pathlib import Path

from crypto.keyring import Keyring
from crypto.tree.records import Heading, Marks, Record, line_of, lines_of, parse_record, read_heading
from medveil.errors import IntegrityError, KeyMaterialError
from medveil.files import new_file


def write_manifest(path: Path, heading: Heading, lines: Iterable[bytes], marks: Marks) -> None:
    """Write a manifest of record lines.

    Raises
    ------
    StorageError
        The disk refused.
    """
    mac, files = marks.manifest(), 0
    with new_file(path) as stream:
        first = heading.line()
        mac.update(first)
        stream.write(first)
        for line in lines:
            mac.update(line)
            stream.write(line)
            files += 1
        stream.write(line_of({"files": files, "mac": mac.hexdigest()}))


def read_manifest(path: Path, keys: Keyring) -> Iterator[Record]:
    """The records of a manifest, which is proven whole before the first of them is given.

    Raises
    ------
    KeyMaterialError
        It was written under a key the ring does not hold.
    IntegrityError
        It is cut short or was changed.
    FormatError, StorageError
        As `read_heading`.
    """
    heading = read_heading(path)
    if heading is None:
        raise IntegrityError("there is no manifest", where=path, cure="finish the run that writes it")
    try:
        marks = Marks(keys.find(heading.fingerprint))
    except KeyMaterialError as error:
        raise KeyMaterialError(error.problem, where=path, cure=error.cure) from None
    _check_whole(path, marks)
    return _records(path, marks)


def _check_whole(path: Path, marks: Marks) -> None:
    mac, files, last = marks.manifest(), -1, b""
    for line in lines_of(path):
        mac.update(last)
        files, last = files + 1, line
    # Of the lines, the first is the heading and the last the MAC.
    wanted = line_of({"files": files - 1, "mac": mac.hexdigest()})
    if not hmac.compare_digest(last, wanted):
        raise IntegrityError("is cut short or was changed", where=path, cure="restore it from a copy")


def _records(path: Path, marks: Marks) -> Iterator[Record]:
    lines = lines_of(path)
    next(lines)
    held = next(lines, b"")
    for line in lines:
        record = parse_record(held, marks)
        if record is None:
            raise IntegrityError("holds a line that is no record", where=path, cure="restore it from a copy")
        yield record
        held = line
