"""Orders and answers as the two sides sign them, for tests that have one side of a consortium only."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict

from fl_server.deployment.roster import ADMITTED, Member, Roster
from medveil.audit import Head
from medveil.audit_messages import carried, digest_of_config, head_in, put_head, subject
from medveil.signed_messages import (
    SIGNED,
    Order,
    answer_to,
    content_digest,
    new_nonce,
    order_in,
    refusal_in,
    sign,
    signed_in,
)
from medveil.signing import SigningKey, fingerprint

RUN = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab"
SERVER = SigningKey.from_secret(bytes(range(32)))
"""The server's key of the tests."""
LOG = "a" * 32
_numbers: Iterator[int] = itertools.count(1)


def next_head(log: str = LOG) -> Head:
    """The head of a server's log that has come further than ever before."""
    return Head(log, next(_numbers), "b" * 64)


def order_for(message: Message, context: Context, *, site: str, identity: str, run: str = RUN, **changes: Any) -> Order:
    """What the server would sign of a message that carries a head; `identity` is a fingerprint."""
    now = int(time.time() * 1000)
    values = {
        "consortium": SERVER.fingerprint,
        "run": run,
        "flower_run": str(context.run_id),
        "round": subject(message)["round"],
        "kind": message.metadata.message_type,
        "site": site,
        "identity": identity,
        "nonce": new_nonce(),
        "created": now,
        "expires": now + 3_600_000,
        "content": content_digest(message.content, carried(message.content)),
        "config": digest_of_config(context.run_config),
        "head": str(head_in(message.content)),
    }
    return Order(**{**values, **changes})


def signed_order(
    message: Message, context: Context, *, site: str, identity: str, key: SigningKey = SERVER, **changes: Any
) -> Message:
    """The message as the server sends it: with a head, unless it has one, and signed."""
    if head_in(message.content) is None:
        put_head(message.content, next_head())
    sign(message.content, order_for(message, context, site=site, identity=identity, **changes), key)
    return message


def through_signatures(app: Callable[..., Message], *, site: str, identity: str) -> Callable[..., Message]:
    """An app of a real site, asked with signatures; a signed refusal comes back as an error of Flower's."""

    def asked(message: Message, context: Context) -> Message:
        if SIGNED not in message.content:
            signed_order(message, context, site=site, identity=identity, run=_run(context))
        reply = app(message, context)
        refused = refusal_in(reply)
        return reply if refused is None else Message(Error(refused[1], refused[0]), reply_to=message)

    return asked


def signed_reply(
    message: Message, content: RecordDict, key: SigningKey, /, *, head: Head | None = None, **changes: Any
) -> Message:
    """A site's reply to an order, signed; `changes` are of what it signs."""
    signed = signed_in(message)
    order = order_in(signed, SERVER.public)
    if head is not None:
        put_head(content, head)
    said = answer_to(
        order,
        signed,
        content=content_digest(content, carried(content)),
        head=None if head is None else str(head),
    )
    sign(content, type(said)(**{**vars(said), **changes}), key)
    return Message(content, reply_to=message)


def roster_of(path: Path, sites: dict[int, tuple[str, SigningKey]]) -> Roster:
    """A list of sites that were admitted and registered, by their nodes' ids."""
    roster = Roster(path)
    roster._write(
        [Member(name, f"key-{node}", ADMITTED, "2026-11-28", node, key.public) for node, (name, key) in sites.items()]
    )
    return roster


def _run(context: Context) -> str:
    from fl_client.deployment.records import run_in  # noqa: PLC0415

    return str(run_in(context))


def identity_print(key: SigningKey) -> str:
    return fingerprint(key.public)
