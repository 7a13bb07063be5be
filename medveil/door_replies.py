"""A site's answer to a message that it was handed: what it may look like, and how large it may be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LARGEST_OBJECT = 8 * 2**20
"""Bytes of one object: Flower cuts tensors into pieces of 5 MiB, where it is not told otherwise."""
LARGEST_PUSH = 2**20
"""Bytes of a reply without its objects: what lists those of 14 GiB of tensors (`medveil.environment.PIECES`)."""
REPLY_FACTOR, REPLY_FREE = 2, 2**20
"""An answer may have so many times the bytes of what it answers, and so many beside: float32 may answer bfloat16."""
MOST_OBJECTS, DEEPEST = 64, 16
"""Objects a reply may have beside twice those of its message, and levels of their tree."""
_MOST_TEXT = 256
_MOST_REASON = 16 * 2**10
_OBJECT_ID = re.compile(r"[0-9a-f]{64}")


@dataclass
class Delivery:
    """A message that was handed to a node, and how far its answer has come."""

    run: int
    kind: str
    group: str
    objects: frozenset[str]
    message: Any = None
    """The message itself, without its objects."""
    tree: Any = None
    """What objects it has."""
    heard_of: bool = False
    """Whether its node has asked for anything of it, and so has it."""
    size: int = 0
    """Bytes of its objects, once the node has said that it has them all."""
    answer: str = ""
    waiting: dict[str, set[str]] = field(default_factory=dict)
    """Objects of the answer that are still to come, by push session."""
    stored: set[str] = field(default_factory=set)
    taken: bool = False
    """Whether Flower has taken the answer, whose objects may be still to come."""
    pushed: int = 0

    @property
    def left(self) -> int:
        """Bytes the answer may still have."""
        return REPLY_FACTOR * self.size + REPLY_FREE - self.pushed

    @property
    def is_half(self) -> bool:
        """Whether it was answered, and not all of the answer has come."""
        waiting = set().union(*self.waiting.values())
        return bool(self.answer) and not (self.taken and waiting <= self.stored)

    def takes(self, about: Any) -> bool:
        """Whether an answer is to this message; the same again is: its sender did not hear that it had come."""
        same = (about.run_id, about.message_type, about.group_id) == (self.run, self.kind, self.group)
        return same and self.answer in {"", about.message_id}


def object_ids(tree: Any) -> Iterator[str]:
    """The ids of a tree, level by level: no deeper than the stack, however it was made."""
    level = [tree]
    while level:
        yield from (each.object_id for each in level)
        level = [child for each in level for child in each.children]


def malformed(message: Any, tree: Any, seconds: list[float]) -> str | None:
    """What is wrong with a reply; None for one as a SuperNode makes it."""
    about = message.metadata
    texts = (about.message_id, about.reply_to_message_id, about.group_id, about.message_type)
    numbers = (about.created_at, about.ttl, *seconds)
    if any(len(text) > _MOST_TEXT for text in texts) or not all(math.isfinite(each) for each in numbers):
        return "pushed a message with a head that is none"
    if len(seconds) > 1 or any(each < 0 for each in seconds):
        return "pushed a message with a head that is none"
    if message.content.ByteSize() or len(message.error.reason) > _MOST_REASON:
        return "pushed a message with more in it than an answer has"
    if tree.object_id != about.message_id:
        return "pushed a message with the objects of another"
    return malformed_tree(tree)


def malformed_tree(tree: Any) -> str | None:
    """What is wrong with the tree of a reply's objects, looked at level by level."""
    level = [tree]
    for _ in range(DEEPEST):
        for each in level:
            ids = [child.object_id for child in each.children]
            if not _OBJECT_ID.fullmatch(each.object_id) or len(set(ids)) != len(ids):
                return "announced objects that are none"
        level = [child for each in level for child in each.children]
    return "announced objects too deep in each other" if level else None
