"""Looking through an audit log for what was changed, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medveil.audit import ANSWERED, ASKED, RECOVERED, ZERO, Head, Record, check_opening, parsed
from medveil.errors import ConfigError, StorageError
from medveil.files import locked, read_bytes
from medveil.times import moment

_SHOWN = 10


@dataclass
class Verified:
    """What was found in one log.

    Attributes
    ----------
    problems
        A sentence for each line that is not what it should be; none where the log is whole.
    notes
        What is worth knowing and no sign of a change.
    head
        Where the log ends; None where no line can be read.
    """

    path: Path
    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: Head | None = None
    lines: dict[int, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether nothing was changed, as far as the log itself and the heads given can tell."""
        return not self.problems

    def as_data(self) -> dict[str, Any]:
        """The same as plain data."""
        first, last = (self.records[0], self.records[-1]) if self.records else ({}, {})
        return {
            "log": str(self.path),
            "whole": self.whole,
            "records": len(self.records),
            "first": first.get("time"),
            "last": last.get("time"),
            "head": None if self.head is None else str(self.head),
            "problems": self.problems,
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """The same for people."""
        found = self.as_data()
        state = "whole" if self.whole else "NOT whole"
        between = f", {moment(str(found['first']))} to {moment(str(found['last']))}" if self.records else ""
        lines = [f"{self.path}: {state}, {found['records']} records{between}"]
        lines += self.problems[:_SHOWN]
        if len(self.problems) > _SHOWN:
            lines.append(f"and {len(self.problems) - _SHOWN} more")
        lines += [f"note: {each}" for each in self.notes]
        return "\n".join([*lines, *([f"head {self.head}"] if self.head is not None else [])])


def verify(path: Path) -> Verified:
    """Check every line of a log, and that each follows the one before it.

    Raises
    ------
    StorageError
        There is no such file.
    FormatError
        It was written by a newer MedVeil.
    """
    data = _settled(path)
    found, expected, previous, log = Verified(path), 1, ZERO, ""
    *lines, torn = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = parsed(line)
            if number == 1:
                check_opening(record, where=path)
                log = record["details"]["log"]
        except ValueError as error:
            found.problems.append(f"line {number}: {error}")
            expected, previous = expected + 1, ""
            continue
        problem = _out_of_place(record, expected, previous)
        if problem:
            found.problems.append(f"line {number}: {problem}")
        if record["event"] == RECOVERED:
            found.notes.append(
                f"line {number}: a write before it was torn off ({record['details'].get('bytes')} bytes)"
            )
        found.records.append(record)
        found.lines[record["sequence"]] = record["digest"]
        expected, previous = record["sequence"] + 1, record["digest"]
    if torn:
        why = "a write that did not end (a killed process, a full disk), or a cut; the next record will say so"
        found.problems.append(f"line {len(lines) + 1}: torn after {len(torn)} bytes: {why}")
    if not lines and not torn:
        found.problems.append("line 1: is missing: the log is empty")
    if found.records and log:
        found.head = Head(log, found.records[-1]["sequence"], found.records[-1]["digest"])
    found.notes += _unheaded(found.records)
    return found


def compare(logs: Sequence[Verified], heads: Sequence[Head], *, kept_by: str) -> None:
    """Look up heads that others kept; what does not fit becomes a problem of the log it concerns.

    Parameters
    ----------
    logs
        The logs at hand, verified: more than one where a log was moved away and another begun.
    heads
        What others kept of them.
    kept_by
        Who kept them, for the sentences.

    Raises
    ------
    ConfigError
        No log is given.
    """
    if not logs:
        raise ConfigError("no log is given", where="audit verify")
    by_log = {each.head.log: each for each in logs if each.head is not None}
    missing: dict[str, int] = {}
    for head in heads:
        log = by_log.get(head.log)
        if log is None:
            missing[head.log] = max(head.sequence, missing.get(head.log, 0))
            continue
        found = log.lines.get(head.sequence)
        if found is None:
            last = 0 if log.head is None else log.head.sequence
            where = f"ends at {last}" if head.sequence > last else "has no such record"
            log.problems.append(f"line {head.sequence}: is missing: {kept_by} knows record {head.sequence}; it {where}")
        elif found != head.digest:
            log.problems.append(f"line {head.sequence}: is not the record that {kept_by} knows: it was written anew")
    for identity, sequence in sorted(missing.items()):
        cure = "name the file it was moved to with --log"
        logs[0].problems.append(
            f"line 1: begins another log: {kept_by} knows {sequence} records of log {identity}; {cure}"
        )


def _unheaded(records: Sequence[Record]) -> list[str]:
    """Notes on messages of others that came without a head of theirs: nothing they signed, and nothing to compare.

    A server writes no head beside what it asks, and a site none beside what it answers: these are in their own logs.
    """
    notes = []
    for event, what in ((ASKED, "messages without a head of the server's log"), (ANSWERED, "replies without a head")):
        bare = [
            each["sequence"]
            for each in records
            if each["event"] == event and isinstance(each["details"], dict) and each["details"].get("head", "") is None
        ]
        if bare:
            shown = ", ".join(map(str, bare[:_SHOWN])) + (", ..." if len(bare) > _SHOWN else "")
            notes.append(f"{len(bare)} {what}, in lines {shown}: not of a MedVeil that signs, and not to be held to")
    return notes


def _out_of_place(record: Record, expected: int, previous: str) -> str | None:
    number = record["sequence"]
    if number > expected:
        gone = f"record {expected} is" if number == expected + 1 else f"records {expected} to {number - 1} are"
        return f"is record {number}: {gone} missing before it"
    if number < expected:
        return f"is record {number}, where record {expected} belongs: lines were moved or put in"
    if previous and record["previous"] != previous:
        return "does not follow the line before it: one of the two was written anew"
    return None


def _settled(path: Path) -> bytes:
    """The log's bytes; where a line seems torn, once more when nobody is writing."""
    data = read_bytes(path)
    if data.endswith(b"\n") or not Path(f"{path}.lock").exists():
        return data
    try:
        with locked(path):
            return read_bytes(path)
    except StorageError:
        return data
