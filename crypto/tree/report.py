"""What a run did, counted, and the report it leaves: everything that failed, was passed over or should be looked at."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from crypto.tree.index import FAILED, SKIPPED, WARNED, Index
from crypto.tree.records import Record
from crypto.tree.tasks import Outcome
from medveil.files import new_file

FORMAT = "medveil-report"
VERSION = 1
TABLE_ROWS = 50


@dataclass(kw_only=True)
class Summary:
    """Counts of a run. Those of removed and replaced attributes include what earlier, interrupted parts of it did.

    Parameters
    ----------
    done, already, failed, skipped
        Files: finished now, finished before, failed, and passed over because they are no images.
    frames, bytes_read, bytes_written
        Of the files finished now.
    kinds
        Files finished, now or before, by kind.
    seconds
        By stage, summed over processes.
    removed, replaced
        Files in which de-identification removed or replaced an attribute.
    codes
        Failures by the exit code of their error.
    started
        ``time.monotonic`` at the start.
    """

    done: int = 0
    already: int = 0
    failed: int = 0
    skipped: int = 0
    frames: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def finished(self, outcome: Outcome) -> None:
        """Count a file that was finished."""
        self.done += 1
        self.frames += outcome.report.frames
        self.bytes_read += outcome.stamp.size
        self.bytes_written += outcome.size
        for stage, seconds in outcome.report.seconds.items():
            self.seconds[stage] += seconds  # type: ignore[assignment]

    def counted(self, record: Record) -> None:
        """Count what was done to a file, now or in an earlier part of this run."""
        self.removed.update(set(record.removed))
        self.replaced.update(set(record.replaced))

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        elapsed = time.monotonic() - self.started
        return {
            "done": self.done,
            "already_done": self.already,
            "failed": self.failed,
            "skipped": self.skipped,
            "frames": self.frames,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "seconds": round(elapsed, 3),
            "files_per_second": round(self.done / elapsed, 2) if elapsed > 0 else 0.0,
            "kinds": dict(sorted(self.kinds.items())),
            "stage_seconds": {stage: round(seconds, 3) for stage, seconds in sorted(self.seconds.items())},
        }


def write_report(path: Path, *, status: str, about: dict[str, Any], summary: Summary, index: Index) -> None:
    """Write the report of a run, however many files it names.

    Parameters
    ----------
    path
        The file, readable by its owner alone: names of files may be names of people.
    status
        ``"finished"``, ``"failed"`` or ``"interrupted"``.
    about
        What was asked for.
    summary, index
        What came of it.

    Raises
    ------
    StorageError
        The disk refused.
    """
    attributes = {"removed": dict(sorted(summary.removed.items())), "replaced": dict(sorted(summary.replaced.items()))}
    head = {"format": FORMAT, "version": VERSION, "status": status, **about, "summary": summary.as_json(), **attributes}
    with new_file(path, mode=0o600) as stream:
        stream.write(json.dumps(head, indent=2).encode("ascii").removesuffix(b"\n}"))
        for sort in (FAILED, WARNED, SKIPPED):
            _write_list(stream, sort, index.said(sort))
        stream.write(b"\n}\n")


def _write_list(stream: BinaryIO, name: str, rows: Iterator[tuple[str, str]]) -> None:
    stream.write(f',\n  "{name}": ['.encode("ascii"))
    between = b"\n"
    for file, text in rows:
        line = json.dumps({"file": file, "what": text})
        stream.write(between + b"    " + line.encode("ascii"))
        between = b",\n"
    stream.write(b"\n  ]" if between == b",\n" else b"]")
