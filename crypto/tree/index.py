"""What a run must look up of a tree of any size, on disk and not in memory: a private database that goes with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from crypto.tree.paths import folded
from crypto.tree.records import Marks, Record, parse_record, record_line
from medveil.errors import IntegrityError
from medveil.plain import shown

FAILED, SKIPPED, WARNED = "failed", "skipped", "warned"
MOST_NAMED = 3
"""Files of one reason that are named, before the rest is counted."""

_TABLES = """
CREATE TABLE done (target BLOB PRIMARY KEY, digest TEXT, line BLOB, seen INTEGER DEFAULT 0) WITHOUT ROWID;
CREATE TABLE taken (folded BLOB PRIMARY KEY, target BLOB, source BLOB) WITHOUT ROWID;
CREATE TABLE said (sort TEXT, name BLOB, text TEXT, PRIMARY KEY (sort, name, text)) WITHOUT ROWID;
"""


class Reason(NamedTuple):
    """What is said in the same words of so many files, of which the first by name are named."""

    text: str
    files: int
    names: tuple[str, ...]


class Index:
    """Records by target, names that are taken, and what is to be reported.

    SQLite keeps a nameless database in memory until it grows, then in a file of its own that is gone when it is
    closed, however the process ends.

    Parameters
    ----------
    marks
        Of the key that proves records.
    """

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8192;" + _TABLES)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._base.close()

    def add(self, record: Record, *, digest: str | None = None) -> None:
        """Remember a finished file; one that was remembered under the same target is replaced."""
        values = (os.fsencode(record.target), digest or record.digest, record_line(record, self._marks))
        self._base.execute("INSERT OR REPLACE INTO done (target, digest, line) VALUES (?, ?, ?)", values)

    def drop(self, target: str) -> None:
        """Forget a finished file."""
        self._base.execute("DELETE FROM done WHERE target = ?", (os.fsencode(target),))

    def find(self, target: str) -> Record | None:
        """The record of a target."""
        row = self._base.execute("SELECT line FROM done WHERE target = ?", (os.fsencode(target),)).fetchone()
        return None if row is None else self._record(row[0])

    def see(self, target: str) -> None:
        """Note that a file of the records is there."""
        self._base.execute("UPDATE done SET seen = 1 WHERE target = ?", (os.fsencode(target),))

    def unseen(self) -> Iterator[Record]:
        """Records whose file was not seen, sorted by target."""
        for (line,) in self._base.execute("SELECT line FROM done WHERE seen = 0 ORDER BY target"):
            yield self._record(line)

    def unseen_with(self, digest: str) -> Record | None:
        """A record whose file was not seen and had this digest."""
        found = self._base.execute("SELECT line FROM done WHERE seen = 0 AND digest = ? LIMIT 1", (digest,)).fetchone()
        return None if found is None else self._record(found[0])

    def named_with(self, digest: str) -> Record | None:
        """A record that had this digest."""
        found = self._base.execute("SELECT line FROM done WHERE digest = ? LIMIT 1", (digest,)).fetchone()
        return None if found is None else self._record(found[0])

    def lines(self) -> Iterator[bytes]:
        """The lines of all records, sorted by target."""
        for (line,) in self._base.execute("SELECT line FROM done ORDER BY target"):
            yield line

    def count(self) -> int:
        """How many records there are."""
        return int(self._base.execute("SELECT COUNT(*) FROM done").fetchone()[0])

    def take(self, target: str, source: str) -> tuple[str, str] | None:
        """Reserve a target for a source.

        Returns
        -------
        tuple of str, or None
            The source and the target that were there before, when another source has this name or one that differs
            in case alone.
        """
        key = os.fsencode(folded(target))
        row = self._base.execute("SELECT source, target FROM taken WHERE folded = ?", (key,)).fetchone()
        if row is not None:
            return os.fsdecode(row[0]), os.fsdecode(row[1])
        self._base.execute("INSERT INTO taken VALUES (?, ?, ?)", (key, os.fsencode(target), os.fsencode(source)))
        return None

    def say(self, sort: str, name: str, text: str) -> None:
        """Note something for the report."""
        self._base.execute("INSERT OR IGNORE INTO said VALUES (?, ?, ?)", (sort, os.fsencode(name), shown(text)))

    def said(self, sort: str, most: int = -1) -> Iterator[tuple[str, str]]:
        """Names and texts of one sort, sorted by name."""
        rows = self._base.execute("SELECT name, text FROM said WHERE sort = ? ORDER BY name LIMIT ?", (sort, most))
        for name, text in rows:
            yield os.fsdecode(name), text

    def reasons(self, sort: str, most: int) -> Iterator[Reason]:
        """What was noted of one sort, each reason once; sorted by the first name that has it."""
        asked = "SELECT text, COUNT(*) FROM said WHERE sort = ? GROUP BY text ORDER BY MIN(name), text LIMIT ?"
        for text, count in self._base.execute(asked, (sort, most)).fetchall():
            named = "SELECT name FROM said WHERE sort = ? AND text = ? ORDER BY name LIMIT ?"
            names = self._base.execute(named, (sort, text, MOST_NAMED))
            yield Reason(text, count, tuple(os.fsdecode(name) for (name,) in names))

    def how_often(self, sort: str) -> int:
        """How many things were noted of one sort."""
        return int(self._base.execute("SELECT COUNT(*) FROM said WHERE sort = ?", (sort,)).fetchone()[0])

    def _record(self, line: bytes) -> Record:
        record = parse_record(line, self._marks)
        if record is None:
            raise IntegrityError("the run's own index is damaged", cure="run again")
        return record
