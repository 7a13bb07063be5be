"""A log that tells when it was changed: one JSON record a line, each with the digest of the one before it.

A record's digest is SHA-256 over its canonical JSON, which holds the digest before it. So a line that was changed, cut,
moved or put in breaks the chain there (`medveil.audit_verify`). What a chain alone cannot show is a tail that was cut,
or a log written anew from some line on: for that others keep its *heads* (`Head`), the digests it had come to.

Records say who asked for what and what was sent: names, shapes, bytes, digests. No image, label, patient or key is
ever given to `AuditLog.append`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medveil.errors import FormatError, IntegrityError
from medveil.files import locked, make_folder, storage_error

FORMAT = "medveil-audit"
VERSION = 1
ZERO = "0" * 64
"""What the first record has for the digest before it."""
FIELDS = ("details", "digest", "event", "previous", "sequence", "time")
OPENED, RECOVERED = "opened", "recovered"
ASKED, ANSWERED, REFUSED = "asked", "answered", "refused"
LONGEST_TEXT = 400
FILE_VARIABLE, OWNER_VARIABLE = "MEDVEIL_AUDIT", "MEDVEIL_AUDIT_OWNER"
"""Environment variables of a server's processes: the file of its log, and whose it is."""
SIGNING_VARIABLE, ROSTER_VARIABLE = "MEDVEIL_SIGNING_KEY", "MEDVEIL_ROSTER"
"""Environment variables of a server's processes: the file of its signing key, and that of the sites it admitted."""
_HEAD = re.compile(r"([0-9a-f]{32}):([1-9][0-9]{0,14}):([0-9a-f]{64})")
_BLOCK = 65536

Record = dict[str, Any]
Details = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """How far a log had come.

    Parameters
    ----------
    log
        The log's identity, drawn when it was begun: 32 hex digits.
    sequence
        Number of its newest record; the first is 1, and each stands on the line of its number.
    digest
        That record's digest: 64 hex digits.
    """

    log: str
    sequence: int
    digest: str

    def __str__(self) -> str:
        return f"{self.log}:{self.sequence}:{self.digest}"

    @classmethod
    def parse(cls, text: object) -> Head:
        """Read what `str` made (FormatError where it is something else)."""
        found = _HEAD.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            cure = "as 'audit head' prints it: LOG:NUMBER:DIGEST"
            raise FormatError(f"{str(text)[:80]!a} is no head of an audit log", cure=cure)
        return cls(found[1], int(found[2]), found[3])


class AuditLog:
    """Appends to a log; processes that share it take turns, and each record is on the disk before `append` returns.

    Parameters
    ----------
    path
        The file; begun by the first record.
    owner
        Whose log it is, as "server veil" or "site st-anna".
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner

    def append(self, event: str, **details: Any) -> Head:
        """Write one record; returns the head it makes."""
        return self.append_all([(event, details)])

    def append_all(self, records: Sequence[tuple[str, Details]]) -> Head:
        """Write records that belong together, in one go.

        Parameters
        ----------
        records
            At least one event with its details: plain data, nothing that must not be known.

        Raises
        ------
        StorageError
            The disk refuses; the log is as it was.
        IntegrityError
            Its last line is not one of ours: nothing is added to a log that was tampered with.
        """
        make_folder(self.path.parent, mode=0o700)
        with locked(self.path):
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            except OSError as error:
                raise storage_error(error, self.path, "open the audit log") from error
            try:
                return self._append(handle, records)
            except OSError as error:
                raise storage_error(error, self.path, "write the audit log") from error
            finally:
                os.close(handle)

    def head(self) -> Head | None:
        """How far the log has come; None before its first record."""
        if not self.path.exists():
            return None
        with open(self.path, "rb") as stream:
            line, _ = _last_line(stream.fileno())
            return None if line is None else self._head_of(stream.fileno(), line)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _append(self, handle: int, records: Sequence[tuple[str, Details]]) -> Head:
        last, torn = _last_line(handle)
        now: list[tuple[str, Details]] = []
        if last is None:
            head = Head(uuid.uuid4().hex, 0, ZERO)
            now.append((OPENED, {"format": FORMAT, "version": VERSION, "log": head.log, "owner": self.owner}))
        else:
            head = self._head_of(handle, last)
        size = os.fstat(handle).st_size - len(torn)
        if torn:
            # A write that never ended: what is left of it is replaced by a record that says so.
            now.append((RECOVERED, {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}))
        lines = []
        for event, details in [*now, *records]:
            line, head = _made(head, event, details)
            lines.append(line)
        os.ftruncate(handle, size)
        try:
            _write(handle, b"".join(lines))
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
        return head

    def _head_of(self, handle: int, last: bytes) -> Head:
        try:
            record, first = parsed(last), parsed(_first_line(handle))
            check_opening(first, where=self.path)
        except ValueError as error:
            problem = f"its last or first line was changed: {error}"
            cure = "'audit verify' names what was changed; keep the file and move it away: a new log is begun then"
            raise IntegrityError(problem, where=self.path, cure=cure) from None
        return Head(str(first["details"]["log"]), record["sequence"], record["digest"])


def canonical(document: Any) -> bytes:
    """The one way in which a record is written: sorted keys, no spaces, ASCII, no NaN."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def digest_of(record: Record) -> str:
    """The digest a record must have, from everything else in it."""
    return hashlib.sha256(canonical({name: value for name, value in record.items() if name != "digest"})).hexdigest()


def parsed(line: bytes) -> Record:
    """A record from its line, judged by itself.

    Raises
    ------
    ValueError
        With the reason: it is no record, or was changed.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is no record") from None
    if not isinstance(record, dict) or tuple(sorted(record)) != FIELDS:
        raise ValueError("is no record")
    texts = (record[name] for name in ("digest", "event", "previous", "time"))
    if not isinstance(record["details"], dict) or not all(isinstance(text, str) for text in texts):
        raise ValueError("is no record")
    number = record["sequence"]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError("has no number")
    try:
        same = canonical(record) == line
    except ValueError:
        same = False
    if not same:
        raise ValueError("is not written as MedVeil writes it: it was changed")
    if digest_of(record) != record["digest"]:
        raise ValueError("was changed: its digest is another's")
    return record


def check_opening(record: Record, *, where: str | Path) -> None:
    """Refuse a first record that begins no log of ours (ValueError), or one of a newer MedVeil (FormatError)."""
    details = record["details"]
    begins = record["event"] == OPENED and isinstance(details, dict) and details.get("format") == FORMAT
    if not begins or record["sequence"] != 1 or record["previous"] != ZERO or not isinstance(details.get("log"), str):
        raise ValueError("does not begin a log")
    version = details.get("version")
    if not isinstance(version, int) or version > VERSION:
        problem = f"is {FORMAT} version {version}; this MedVeil reads up to {VERSION}"
        raise FormatError(problem, where=where, cure="upgrade MedVeil")


def plain(text: object) -> str:
    """A text of somebody else's, cut to a sensible length; how it is written keeps control characters harmless."""
    words = " ".join(str(text).split())
    return words if len(words) <= LONGEST_TEXT else f"{words[:LONGEST_TEXT]}..."


def _made(head: Head, event: str, details: Details) -> tuple[bytes, Head]:
    record: Record = {
        "sequence": head.sequence + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "details": dict(details),
        "previous": head.digest,
    }
    record["digest"] = digest_of(record)
    return canonical(record) + b"\n", Head(head.log, record["sequence"], record["digest"])


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _last_line(handle: int) -> tuple[bytes | None, bytes]:
    """The last whole line, None where there is none, and what stands after it without an end."""
    end, data = os.fstat(handle).st_size, b""
    start = end
    while start > 0 and data.count(b"\n") < 2:
        start = max(0, start - _BLOCK)
        data = os.pread(handle, end - start, start)
    *whole, torn = data.split(b"\n")
    return (whole[-1] if whole else None), torn


def _first_line(handle: int) -> bytes:
    data = b""
    while b"\n" not in data and (more := os.pread(handle, _BLOCK, len(data))):
        data += more
    return data.partition(b"\n")[0]
