"""Records of a message folded into one, for the way between a server and its sites.

To Flower a record is an object of its own, and each object that travels is a request at four places: into the server's
store, out of it, into the node's and out of that. The records of a message are small and many; its tensors stay as they
are. What is signed and logged is what was folded: folding is the last thing before a message leaves, and the first
after it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

FOLDED = "folded"
"""Name of the one record."""
_NAMES = "names"
_PLACE = re.compile(r"(0|[1-9][0-9]?)/(.*)", re.DOTALL)
_MOST = 64
_KINDS: Mapping[str, type[ConfigRecord] | type[MetricRecord]] = {"c": ConfigRecord, "m": MetricRecord}


def fold(message: Message) -> None:
    """Make one record of all that hold no tensors; a message of more than 64 stays as it is, and so does an error."""
    if not message.has_content() or FOLDED in message.content:
        return
    content = message.content
    records: list[tuple[str, Mapping[str, Any]]] = [
        *(("c" + name, record) for name, record in content.config_records.items()),
        *(("m" + name, record) for name, record in content.metric_records.items()),
    ]
    if not 1 < len(records) <= _MOST:
        return
    one: dict[str, Any] = {
        f"{n}/{key}": value for n, (_, record) in enumerate(records) for key, value in record.items()
    }
    made = RecordDict({**content.array_records})
    made[FOLDED] = ConfigRecord({_NAMES: [name for name, _ in records], **one})
    message.content = made


def unfold(message: Message) -> bool:
    """Make a message what it was before `fold`.

    Nobody vouches for what came: what cannot have been folded so stays as it is, and has none of the records that its
    receiver asks for, its signature among them.

    Returns
    -------
    bool
        Whether it was folded.
    """
    if not message.has_content() or FOLDED not in message.content.config_records:
        return False
    content = message.content
    found = _parted(dict(content.config_records[FOLDED]))
    if found is None or len(content) != len(content.array_records) + 1 or content.keys() & {n[1:] for n in found}:
        return False
    made = RecordDict({**content.array_records})
    try:
        for name, values in found.items():
            made[name[1:]] = _KINDS[name[0]](values)
    except (TypeError, ValueError):
        return False
    message.content = made
    return True


def _parted(one: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    names = one.pop(_NAMES, None)
    if not isinstance(names, list) or not 0 < len(names) <= _MOST:
        return None
    if not all(isinstance(each, str) and each[:1] in _KINDS for each in names):
        return None
    if len({each[1:] for each in names}) != len(names):
        return None
    parts: list[dict[str, Any]] = [{} for _ in names]
    for key, value in one.items():
        place = _PLACE.fullmatch(key)
        if place is None or int(place[1]) >= len(parts):
            return None
        parts[int(place[1])][place[2]] = value
    return dict(zip(names, parts, strict=True))
