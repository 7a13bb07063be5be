"""A grid that writes down and signs every message before it goes, and judges every reply before anybody reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fl_server.collect import said
from fl_server.signed import Asked, ServerSignatures, silence
from medveil.audit import ANSWERED, ASKED, FILE_VARIABLE, OWNER_VARIABLE, REFUSED, AuditLog, Details, Head
from medveil.audit_messages import (
    AUDIT,
    Carried,
    Layout,
    Trail,
    carried,
    head_in,
    packed_layout,
    put_head,
    subject,
)
from medveil.contract import PACKED, SITE
from medveil.errors import SignatureError
from medveil.flower import NodeInfo
from medveil.folded import fold, unfold
from medveil.signed_messages import SIGNED, refusal_in
from medveil.wire import Tensors

UNSIGNED = "unsigned-reply"
"""The event of a reply that its site did not sign; Flower's own errors are such."""
_KIND = re.compile(r"([A-Za-z]{1,40}Error)(?:: (limits\.[a-z_]{1,40})\b)?")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")


def audit_log() -> AuditLog | None:
    """The log of the consortium whose process this is; None in a simulation."""
    file = os.environ.get(FILE_VARIABLE)
    return AuditLog(Path(file), os.environ.get(OWNER_VARIABLE, "server")) if file else None


class AuditedGrid:
    """As much of a grid as a federation asks, with a record of all that passes.

    It has no other method of a grid's: nothing goes past the record. Where the log cannot be written, nothing is sent.

    Parameters
    ----------
    grid
        Flower's grid.
    log
        The server's log.
    run
        Identity of the run.
    signatures
        The server's; None where no real site is asked, in a simulation.
    """

    def __init__(self, grid: Grid, log: AuditLog, *, run: str, signatures: ServerSignatures | None = None) -> None:
        self._grid, self._trail, self._run, self._signatures = grid, Trail(log), run, signatures
        self._names: dict[int, str] = {}
        self._here: set[int] = set()
        self._open: dict[str, Details] = {}
        self._asked: dict[str, Asked] = {}
        self._inside: Callable[[], Tensors] = dict

    def packs(self, inside: Callable[[], Tensors]) -> None:
        """Learn what is in the one array of a run that packs them: `inside` is asked when such an array passes."""
        self._inside = inside

    def note(self, event: str, details: Details) -> None:
        """Write down what is no message: a set of sites that was agreed to, say."""
        self._trail.append([(event, details)])

    def get_nodes(self) -> list[NodeInfo]:
        """As the grid."""
        return list(self._grid.get_nodes())

    def get_node_ids(self) -> list[int]:
        """As the grid, or those of it that a message can be signed for; who came and went is written down."""
        nodes = list(self._grid.get_node_ids())
        here = set(nodes)
        if here != self._here:
            self._learn()
            changes = [("joined", here - self._here), ("left", self._here - here)]
            self._trail.append([(event, self._who(node)) for event, which in changes for node in sorted(which)])
            self._here = here
        return nodes if self._signatures is None else self._signatures.addressable(nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """As the grid; each message carries the head of the log, with itself in it, and the server's signature."""
        outgoing = list(messages)
        if not outgoing:
            return []
        self._learn()
        # What goes to several sites is one record: its digest is made once.
        described: dict[tuple[int, ...], Carried | None] = {}
        about: list[dict[str, Any]] = []
        records: list[tuple[str, Details]] = []
        holds: list[Carried | None] = []
        for message in outgoing:
            same = tuple(id(record) for record in message.content.array_records.values())
            if same not in described:
                described[same] = carried(message.content)
            holds.append(described[same])
            about.append({"run": self._run, **self._who(message.metadata.dst_node_id), **subject(message)})
            records.append((ASKED, {**about[-1], **self._sent(described[same])}))
        head = self._trail.append(records, run=self._run, layouts=self._layouts(described.values()))
        asked = [self._sealed(message, each, head) for message, each in zip(outgoing, holds, strict=True)]
        signed = [
            message for message, each in zip(outgoing, asked, strict=True) if each is not None or not self._signatures
        ]
        sent = self._pushed(signed)
        went = set(sent)
        unsent = []
        for message, each, order in zip(outgoing, about, asked, strict=True):
            if message.metadata.message_id and message.metadata.message_id in went:
                self._open[message.metadata.message_id] = each
                self._asked |= {} if order is None else {message.metadata.message_id: order}
            else:
                unsent.append(("unsent", each))
        if unsent:
            self._trail.append(unsent)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """As the grid; a reply leaves here without the head its site put in, and without a word that nobody signed."""
        arrived = list(self._grid.pull_messages(message_ids))
        for message in arrived:
            unfold(message)
        records: list[tuple[str, Details]] = []
        contents: list[Carried | None] = []
        for message in arrived:
            nobody = {"run": self._run, **self._who(message.metadata.src_node_id)}
            about = self._open.pop(message.metadata.reply_to_message_id, nobody)
            tensors, doubt = self._judged(message)
            if doubt is not None:
                records.append((UNSIGNED, {**about, "reason": doubt, **_code(message)}))
                silence(message, doubt)
                continue
            if message.has_error():
                records.append((REFUSED, {**about, "code": message.error.code, **_kind(message.error.reason)}))
                continue
            refused = refusal_in(message)
            if refused is not None:
                told, code = refused
                head = head_in(message.content)
                records.append((REFUSED, {**about, "code": code, **_kind(told), "head": head}))
                continue
            contents.append(tensors)
            head = head_in(message.content)
            records.append((ANSWERED, {**about, **self._sent(contents[-1]), **_key(message), "head": head}))
            for ours in (AUDIT, SIGNED):
                message.content.config_records.pop(ours, None)
        if records:
            self._trail.append(records, run=self._run, layouts=self._layouts(contents))
        return arrived

    # -- inside --------------------------------------------------------------------------------------------------------

    def _pushed(self, messages: list[Message]) -> list[str]:
        """Send them, folded where real sites are asked; each is left as it was."""
        if self._signatures is None or not messages:
            return list(self._grid.push_messages(messages)) if messages else []
        contents = [message.content for message in messages]
        for message in messages:
            fold(message)
        sent = list(self._grid.push_messages(messages))
        for message, content in zip(messages, contents, strict=True):
            message.content = content
        return sent

    def _sealed(self, message: Message, tensors: Carried | None, head: Head) -> Asked | None:
        """Put the head into a message, and the signature where there is one."""
        put_head(message.content, head)
        return None if self._signatures is None else self._signatures.sign(message, tensors, head)

    def _judged(self, message: Message) -> tuple[Carried | None, str | None]:
        """The tensors of a reply, and why it is nobody's: None where it is its site's, or nothing is signed here."""
        if self._signatures is None:
            return carried(message.content) if message.has_content() else None, None
        asked = self._asked.pop(message.metadata.reply_to_message_id, None)
        if message.has_error():
            return None, "unsigned"
        try:
            return self._signatures.check(asked, message), None
        except SignatureError as error:
            return None, error.reason

    def _learn(self) -> None:
        self._names |= {info.node_id: info.name for info in self._grid.get_nodes() if info.name}

    def _who(self, node: int) -> dict[str, Any]:
        # Flower's ids have 64 bits: as a number they would be rounded by most readers of JSON.
        return {"site": self._names.get(node), "node": str(node)}

    def _sent(self, tensors: Carried | None) -> dict[str, Any]:
        if tensors is None:
            return {}
        inside = self._packed(tensors)
        return {**tensors.details(), **({} if inside is None else {PACKED: inside.digest})}

    def _layouts(self, sent: Iterable[Carried | None]) -> list[Layout]:
        found = [each for each in sent if each is not None]
        inside = [self._packed(each) for each in found]
        return [*(each.layout for each in found), *(each for each in inside if each is not None)]

    def _packed(self, tensors: Carried) -> Layout | None:
        return packed_layout(tensors, {name: tuple(each.shape) for name, each in self._inside().items()})


def _kind(reason: str | None) -> dict[str, Any]:
    """The kind of a site's error, and the limit it names: nothing else of its text."""
    found = _KIND.match(said(reason))
    return {"error": found[1] if found else None, "limit": found[2] if found else None}


def _code(message: Message) -> dict[str, Any]:
    return {"code": message.error.code} if message.has_error() else {}


def _key(message: Message) -> dict[str, Any]:
    """The fingerprint of the key that a site says it has."""
    record = message.content.config_records.get(SITE)
    said_ = "" if record is None else str(record.get("fingerprint"))
    return {"fingerprint": said_} if _FINGERPRINT.fullmatch(said_) else {}
