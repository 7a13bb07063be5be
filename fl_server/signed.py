"""What a server makes of signatures: its own under every message, and whether a reply is the site's it asked.

Flower keeps one reply to a message and takes no second: where the one that came is nobody's, there is no answer, and
the text that says so blames no site.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from flwr.app import Error, Message, RecordDict

from fl_server.deployment.roster import Member, Roster
from medveil.audit import ROSTER_VARIABLE, SIGNING_VARIABLE, Head
from medveil.audit_messages import Carried, carried, subject
from medveil.errors import ConfigError, SignatureError
from medveil.flower import ErrorCode
from medveil.log import logger
from medveil.signed_messages import (
    Order,
    answer_in,
    answer_to,
    content_digest,
    head_of,
    new_nonce,
    refusal_in,
    refusal_record,
    refuse_other,
    sign,
    signed_in,
)
from medveil.signing import Signed, SigningKey, fingerprint, load_signing_key

NOT_ITS_OWN = "no answer: what came was not signed by this site, and may not be from it"
_REVOKED = "no answer: its site was revoked"
_ANY = "no answer: an error came that nobody signed; if it is the site's, its own log says more"
_TEXTS: dict[int, str] = {
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION: "no answer: its node could not load the app",
    ErrorCode.MESSAGE_UNAVAILABLE: "no answer: the message or all of its reply was not to be had",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "no answer: its reply was not to be had",
    ErrorCode.NODE_UNAVAILABLE: "no answer: its node went away",
    ErrorCode.INVALID_FAB: "no answer: its node says that the app is not approved at this site",
    ErrorCode.CLIENT_APP_CRASHED: "no answer: its worker ended",
}
_MS = 1000
_log = logger("server")


@dataclass(frozen=True)
class Asked:
    """An order that was sent, and whose answer alone counts."""

    order: Order
    signed: Signed
    node: int


class ServerSignatures:
    """One run's: signs its messages and judges what comes back.

    Parameters
    ----------
    key
        The server's.
    roster
        The sites that were admitted; read anew each time, so that a revocation counts at once.
    run, flower_run
        The run's identity, and Flower's id of it.
    config
        Digest of its settings, as `medveil.audit_messages.digest_of_config`.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        key: SigningKey,
        roster: Roster,
        *,
        run: str,
        flower_run: str,
        config: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key, self._roster, self._clock = key, roster, clock
        self._run, self._flower_run, self._config = run, flower_run, config
        self._named: set[str] = set()

    def addressable(self, nodes: Iterable[int]) -> list[int]:
        """Those nodes whose site is admitted with an identity: no other could be spoken to, or believed."""
        members = self._members()
        found = [node for node in nodes if node in members and members[node].identity]
        for node in nodes:
            member = members.get(node)
            if member is not None and not member.identity and member.name not in self._named:
                self._named.add(member.name)
                cure = "it runs 'medveil-site rejoin', and 'medveil-server admit' takes its .pub once more"
                _log.warning("%s takes no part: it named no identity to sign with; %s", member.name, cure)
        return found

    def sign(self, message: Message, tensors: Carried | None, head: Head) -> Asked | None:
        """Sign a message that carries the head of the log already; None where no admitted site is at its node.

        Parameters
        ----------
        tensors
            What `medveil.audit_messages.carried` says of it.
        head
            Of the audit log, with this message in it.
        """
        member = self._members().get(message.metadata.dst_node_id)
        if member is None or not member.identity:
            return None
        created = int(self._clock() * _MS)
        # Strategies give all their messages one content; each needs a signature of its own.
        message.content = RecordDict(dict(message.content))
        order = Order(
            consortium=self._key.fingerprint,
            run=self._run,
            flower_run=self._flower_run,
            round=subject(message)["round"],
            kind=message.metadata.message_type,
            site=member.name,
            identity=fingerprint(member.identity),
            nonce=new_nonce(),
            created=created,
            expires=created + int(message.metadata.ttl * _MS),
            content=content_digest(message.content, tensors),
            config=self._config,
            head=str(head),
        )
        return Asked(order, sign(message.content, order, self._key), message.metadata.dst_node_id)

    def check(self, asked: Asked | None, reply: Message) -> Carried | None:
        """Refuse a reply that the asked site did not sign as its answer to this very message.

        Returns
        -------
        Carried or None
            Its tensors, which are not looked at before the signature is.

        Raises
        ------
        SignatureError
            With the word for it as its reason.
        """
        if asked is None:
            raise SignatureError("answers nothing that was asked", reason="order")
        member = self._members().get(asked.node)
        if member is None or not member.identity or fingerprint(member.identity) != asked.order.identity:
            raise SignatureError("its site is no longer admitted", reason="revoked")
        signed = signed_in(reply)
        answer = answer_in(signed, member.identity)
        wanted = answer_to(asked.order, asked.signed, content=answer.content, head=answer.head)
        refuse_other(answer, asdict(wanted))
        if answer.head is not None or refusal_in(reply) is None:
            head_of(reply.content, answer)
        try:
            tensors = carried(reply.content)
            found = content_digest(reply.content, tensors)
        except (ValueError, TypeError, OverflowError):
            # Shapes that are no numbers, say: Flower passes on what a site made of an array's description.
            raise SignatureError("holds records that cannot be read", reason="content") from None
        if not hmac.compare_digest(answer.content, found):
            raise SignatureError("holds other records than were signed", reason="content")
        return tensors

    def _members(self) -> dict[int, Member]:
        return {member.node: member for member in self._roster.admitted() if member.node}


def server_signatures(*, run: str, flower_run: str, config: str) -> ServerSignatures:
    """The signatures of the consortium whose process this is.

    Raises
    ------
    ConfigError
        It is no consortium's process: a server without a key asks nothing of real sites.
    StorageError, FormatError
        The key cannot be read.
    """
    key, roster = os.environ.get(SIGNING_VARIABLE), os.environ.get(ROSTER_VARIABLE)
    if not key or not roster:
        cure = "start the server anew with this MedVeil's 'medveil-server start'"
        raise ConfigError("this server was started without a key to sign with", where=SIGNING_VARIABLE, cure=cure)
    return ServerSignatures(
        load_signing_key(Path(key)), Roster(Path(roster)), run=run, flower_run=flower_run, config=config
    )


def silence(reply: Message, reason: str) -> None:
    """Leave of a reply that nobody can be held to no word: no sender's text, tensor or measure goes further."""
    if reply.has_error():
        code = reply.error.code
        reply.error = Error(code, _TEXTS.get(code, _ANY))
    else:
        reply.content = refusal_record(_REVOKED if reason == "revoked" else NOT_ITS_OWN, 0)
