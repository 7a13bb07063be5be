"""What server and sites sign of their messages: an *order* of the server's, and a site's *answer* to it.

An order says for whom it is, in which run and round, what it asks for and what it carries, and how far the server's
audit log had come: that head grows with every message, so it is also the order's number. An answer names the one order
it answers. Both are over all records of a message; the tensors are hashed once, for the audit log and this together.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from flwr.app import ConfigRecord, Message, RecordDict

from medveil.audit import Head, canonical
from medveil.audit_messages import Carried, head_in
from medveil.errors import SignatureError
from medveil.signing import Signed, SigningKey, verified

SIGNED = "signed"
"""Name of the record that holds statement and signature."""
REFUSED = "refused"
"""Name of the record in which a site says, signed, that it refuses: Flower's own errors cannot be signed."""
ORDER, ANSWER = "medveil order", "medveil answer"
VERSION = 1
_STATEMENT, _SIGNATURE = "statement", "signature"
_TEXT, _CODE = "text", "code"
_T = TypeVar("_T", "Order", "Answer")


@dataclass(frozen=True)
class Order:
    """What a server signs of one message.

    Parameters
    ----------
    consortium
        Fingerprint of the server's key.
    run, flower_run
        The run's identity, and Flower's id of it.
    round, kind
        The round the message names, and its type in full.
    site, identity
        The one site it is for: its name, and the fingerprint of its identity.
    nonce
        32 hex digits drawn for this message.
    created, expires
        Milliseconds since 1970.
    content
        `content_digest` of all records but the signature's own.
    config
        SHA-256 of the run's settings, as `medveil.audit_messages.digest_of_config`.
    head
        How far the server's audit log had come, with the record of this very message in it.
    """

    consortium: str
    run: str
    flower_run: str
    round: int | None
    kind: str
    site: str
    identity: str
    nonce: str
    created: int
    expires: int
    content: str
    config: str
    head: str


@dataclass(frozen=True)
class Answer:
    """What a site signs of one reply.

    Parameters
    ----------
    consortium, run, flower_run, round, kind, site, identity, nonce
        As in the order it answers.
    order
        `Signed.digest` of that order.
    content
        `content_digest` of all records but the signature's own.
    head
        How far the site's audit log had come; None in a refusal that could not be written down.
    """

    consortium: str
    run: str
    flower_run: str
    round: int | None
    kind: str
    site: str
    identity: str
    nonce: str
    order: str
    content: str
    head: str | None


def answer_to(order: Order, signed: Signed, *, content: str, head: str | None) -> Answer:
    """The answer an order wants, with what the reply holds."""
    same = {each.name: getattr(order, each.name) for each in fields(Answer) if each.name in asdict(order)}
    return Answer(**{**same, "order": signed.digest, "content": content, "head": head})


def new_nonce() -> str:
    """A nonce nobody can guess."""
    return secrets.token_hex(16)


def sign(content: RecordDict, said: Order | Answer, key: SigningKey) -> Signed:
    """Sign a message or reply and put the signature into it."""
    made = key.sign(_domain(type(said)), VERSION, asdict(said))
    content[SIGNED] = ConfigRecord({_STATEMENT: made.statement, _SIGNATURE: made.signature})
    return made


def signed_in(message: Message) -> Signed:
    """What a message bears as its signature; nothing of it is proven.

    Raises
    ------
    SignatureError
        It bears none.
    """
    record = message.content.config_records.get(SIGNED) if message.has_content() else None
    found = {} if record is None else dict(record)
    statement, signature = found.get(_STATEMENT), found.get(_SIGNATURE)
    if set(found) != {_STATEMENT, _SIGNATURE} or not isinstance(statement, str) or not isinstance(signature, str):
        raise SignatureError("bears no signature", reason="unsigned")
    return Signed(statement, signature)


def order_in(signed: Signed, public: str) -> Order:
    """The order a server signed (SignatureError where it did not, or signed something else)."""
    return _made(Order, verified(signed, public, domain=ORDER, newest=VERSION))


def answer_in(signed: Signed, public: str) -> Answer:
    """The answer a site signed (SignatureError where it did not, or signed something else)."""
    return _made(Answer, verified(signed, public, domain=ANSWER, newest=VERSION))


def refuse_other(found: Order | Answer, wanted: dict[str, Any]) -> None:
    """Refuse a statement whose fields are not those wanted, by the name of the first (SignatureError)."""
    for name, value in wanted.items():
        if getattr(found, name) != value:
            raise SignatureError(f"is signed for another '{name}'", reason=name)


def head_of(content: RecordDict, said: Order | Answer) -> Head:
    """The head that a message carries and its signer signed (SignatureError where it has none, or two)."""
    if said.head is None or head_in(content) != said.head:
        raise SignatureError("carries no head of its sender's audit log", reason="unheaded")
    return Head.parse(said.head)


def content_digest(content: RecordDict, tensors: Carried | None) -> str:
    """SHA-256 over all records of a message but its signature.

    Parameters
    ----------
    content
        The records.
    tensors
        What `medveil.audit_messages.carried` says of them: the bytes of the tensors are not hashed again.
    """
    said = {
        "tensors": None if tensors is None else tensors.digest,
        # The digest above runs over all tensors of all records: which are in which is said here.
        "arrays": {
            key: [[name, str(array.stype)] for name, array in sorted(record.items())]
            for key, record in content.array_records.items()
        },
        "metrics": {key: _plain(record) for key, record in content.metric_records.items()},
        "configs": {key: _plain(record) for key, record in content.config_records.items() if key != SIGNED},
    }
    return hashlib.sha256(canonical(said)).hexdigest()


def refusal_record(told: str, code: int) -> RecordDict:
    """The content of a reply that refuses: what the server may be told, and the code Flower would give it."""
    return RecordDict({REFUSED: ConfigRecord({_TEXT: told, _CODE: int(code)})})


def refusal_in(message: Message) -> tuple[str, int] | None:
    """Text and code of a reply that refuses; None where it does not."""
    record = message.content.config_records.get(REFUSED) if message.has_content() else None
    if record is None:
        return None
    text, code = record.get(_TEXT), record.get(_CODE)
    return (
        text if isinstance(text, str) else "no reason given",
        code if isinstance(code, int) and not isinstance(code, bool) else 0,
    )


def _plain(record: Any) -> dict[str, Any]:
    return {str(name): _tagged(value) for name, value in record.items()}


def _tagged(value: Any) -> list[Any]:
    """A value with its kind: 1, 1.0 and True are three values, and NaN is one that JSON has no word for."""
    if isinstance(value, list):
        return ["list", [_tagged(each) for each in value]]
    if isinstance(value, bytes):
        return ["bytes", len(value), hashlib.sha256(value).hexdigest()]
    if isinstance(value, float):
        return ["float", float(value).hex()]
    if isinstance(value, bool):
        return ["bool", bool(value)]
    return ["int", int(value)] if isinstance(value, int) else ["str", str(value)]


def _domain(kind: type[Any]) -> str:
    return ORDER if kind is Order else ANSWER


def _made(kind: type[_T], found: dict[str, Any]) -> _T:
    types: dict[str, tuple[type, ...]] = {"round": (int, type(None)), "created": (int,), "expires": (int,)}
    if kind is Answer:
        types["head"] = (str, type(None))
    names = [each.name for each in fields(kind)]
    right = set(found) == set(names) and all(type(found[name]) in types.get(name, (str,)) for name in names)
    if not right:
        raise SignatureError("signs other fields than this MedVeil knows", reason="version")
    return kind(**found)
