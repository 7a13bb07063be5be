"""What an audit log says of a message: who, what and how much. What is in a tensor stays out of it, but for a digest.

Server and site describe a message alike, so that what one says it sent can be looked up in what the other says came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ConfigRecord, Message, RecordDict

from medveil.audit import AuditLog, Details, Head, canonical, plain
from medveil.contract import ARRAYS, CONFIG, PACKED, ROUND, RUN_KEY
from medveil.errors import FormatError

LAYOUT = "layout"
AUDIT = "audit"
"""Name of the record in which the two sides tell each other how far their logs have come."""
_HEAD = "head"
_MOST_NAMES = 4096
_MOST_SIZES = 16
"""Of a shape: a tensor of ours has four at most, and another side may say a million."""
_MOST_KNOWN = 1024
Row = tuple[str, str, tuple[int, ...]]


class Layout:
    """Names, dtypes and shapes of tensors: the same every round, so a log holds them once a run.

    Parameters
    ----------
    rows
        (name, dtype, shape) of each tensor, in any order.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: list[Row] = sorted(rows)
        self.digest = hashlib.sha256(canonical(self.rows)).hexdigest()

    def details(self) -> dict[str, Any]:
        """What is recorded once; the digest is over all names and sizes, however many are shown."""
        shown = [
            [plain(name), plain(dtype), list(shape[:_MOST_SIZES])] for name, dtype, shape in self.rows[:_MOST_NAMES]
        ]
        return {LAYOUT: self.digest, "count": len(self.rows), "tensors": shown}


@dataclass(frozen=True)
class Carried:
    """The tensors of a message.

    Parameters
    ----------
    layout
        Their names, dtypes and shapes.
    bytes
        Their size as they travel.
    digest
        SHA-256 over each in the order of names: [name, dtype, shape, bytes] as canonical JSON, a line feed, its bytes.
    """

    layout: Layout
    bytes: int
    digest: str

    def details(self) -> dict[str, Any]:
        """What is recorded of every message."""
        return {"digest": self.digest, "bytes": self.bytes, LAYOUT: self.layout.digest}


def carried(content: RecordDict) -> Carried | None:
    """Describe the tensors of a message; None where it has none."""
    hashed, rows, total = hashlib.sha256(), [], 0
    for name, _, array in sorted(_arrays(content), key=lambda each: each[:2]):
        row = (name, str(array.dtype), tuple(int(size) for size in array.shape))
        hashed.update(canonical([*row, len(array.data)]) + b"\n")
        hashed.update(array.data)
        rows.append(row)
        total += len(array.data)
    return Carried(Layout(rows), total, hashed.hexdigest()) if rows else None


def packed_layout(tensors: Carried, shapes: Mapping[str, tuple[int, ...]]) -> Layout | None:
    """What the one array of a packing run holds; None where the message has other tensors.

    Parameters
    ----------
    shapes
        Of every tensor that travels, by its name; none where that is not known.
    """
    names = [name for name, _, _ in tensors.layout.rows]
    if names != [PACKED] or not shapes:
        return None
    return Layout((name, tensors.layout.rows[0][1], shape) for name, shape in shapes.items())


def subject(message: Message) -> dict[str, Any]:
    """What a message asks for: its kind, and its round where it names one."""
    config = message.content.config_records.get(CONFIG) if message.has_content() else None
    round_ = None if config is None else config.get(ROUND)
    if isinstance(round_, bool) or not isinstance(round_, int | float) or not float(round_).is_integer():
        round_ = None
    return {"kind": plain(message.metadata.message_type), "round": None if round_ is None else int(round_)}


def digest_of_config(run_config: Mapping[str, Any]) -> str:
    """SHA-256 of what server and sites were told to agree on, as it travelled."""
    return hashlib.sha256(str(run_config.get(RUN_KEY)).encode()).hexdigest()


def put_head(content: RecordDict, head: Head) -> None:
    """Tell the other side how far the own log has come."""
    content[AUDIT] = ConfigRecord({_HEAD: str(head)})


def head_in(content: RecordDict) -> str | None:
    """How far the other side says its log has come; None where it says nothing that can be read."""
    record = content.config_records.get(AUDIT)
    try:
        return None if record is None else str(Head.parse(record.get(_HEAD)))
    except FormatError:
        return None


class Trail:
    """A log of messages; writes the layouts they refer to before the first that does.

    Parameters
    ----------
    log
        The log.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._known: set[tuple[str, str]] = set()

    def append(self, records: Sequence[tuple[str, Details]], *, run: str = "", layouts: Iterable[Layout] = ()) -> Head:
        """Write records in one go (as `AuditLog.append_all`).

        Parameters
        ----------
        records
            At least one event with its details.
        run
            The run whose layouts these are.
        layouts
            What the records refer to.
        """
        new = {each.digest: each for each in layouts if (run, each.digest) not in self._known}
        first: list[tuple[str, Mapping[str, Any]]] = [(LAYOUT, {"run": run, **each.details()}) for each in new.values()]
        head = self._log.append_all([*first, *records])
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._known |= {(run, digest) for digest in new}
        return head


def _arrays(content: RecordDict) -> Iterator[tuple[str, str, Array]]:
    """Name, record and tensor; the record orders two that the names alone would not tell apart."""
    for key, record in content.array_records.items():
        for name, array in record.items():
            yield (name if key == ARRAYS else f"{key}/{name}"), key, array
