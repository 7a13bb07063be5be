"""The journal of a run: appended to as files are finished, synced in batches, read back when the run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from crypto.tree.records import Heading, Marks, Record, lines_of, parse_record, record_line
from medveil.errors import IntegrityError
from medveil.files import storage_error, write_bytes

VOID = -1
"""The size in a record that takes an earlier one back."""


class Journal:
    """The lines of a run that is not over, in a file that only grows.

    Parameters
    ----------
    path
        The file; it need not exist.
    heading
        Of this run. The file's own, if it is there, must have been checked to be the same.
    marks
        Of the key.

    Raises
    ------
    StorageError
        The disk refused.
    """

    def __init__(self, path: Path, heading: Heading, marks: Marks) -> None:
        self._path, self._marks = path, marks
        if not path.exists():
            write_bytes(path, heading.line())
        try:
            self._stream = path.open("ab")
        except OSError as error:
            raise storage_error(error, path, "write the journal") from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, records: Iterable[Record]) -> None:
        """Append records; they are on the disk when this returns.

        Raises
        ------
        StorageError
            The disk refused.
        """
        lines = b"".join(record_line(record, self._marks) for record in records)
        try:
            self._write(lines)
        except OSError as error:
            raise storage_error(error, self._path, "write the journal") from error

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        os.fsync(self._stream.fileno())


def read_journal(path: Path, marks: Marks, *, mend: bool = True) -> Iterator[Record]:
    """The records of a journal. What its writer was killed over, at its end, is no record.

    Parameters
    ----------
    path, marks
        The file, and the HMACs of the key that proves it.
    mend
        Whether to cut such an end off the file, so that it can be appended to.

    Raises
    ------
    IntegrityError
        A line is damaged that others follow: no writer's end explains that.
    StorageError
        The disk refused.
    """
    damaged = 0
    lines = lines_of(path)
    end = len(next(lines, b""))
    for number, line in enumerate(lines, start=2):
        record = parse_record(line, marks) if line.endswith(b"\n") else None
        if record is None:
            damaged = damaged or number
            continue
        if damaged:
            raise IntegrityError(
                f"its line {damaged} is damaged", where=path, cure="begin again with --force (force=True)"
            )
        end += len(line)
        yield record
    if damaged and mend:
        try:
            os.truncate(path, end)
        except OSError as error:
            raise storage_error(error, path, "write the journal") from error
