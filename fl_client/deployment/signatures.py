"""What a site makes of signatures: whether a message is its server's and for it, now; and its own under each reply."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict

from fl_client.deployment.identity import load_identity
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.records import run_in
from medveil.audit import Head
from medveil.audit_messages import Carried, digest_of_config, put_head, subject
from medveil.errors import ConfigError, IntegrityError, KeyMaterialError, SignatureError
from medveil.files import check_format, locked, make_folder, read_json, write_json
from medveil.signed_messages import (
    Order,
    answer_to,
    content_digest,
    head_of,
    order_in,
    refusal_record,
    refuse_other,
    sign,
    signed_in,
)
from medveil.signing import Signed, SigningKey, fingerprint
from medveil.times import SKEW_S

FORMAT = "medveil-heard"
VERSION = 1
_MS = 1000
_MOST_LOGS = 64
_RENEWED = "if the coordinator renewed the server's signing key: stop, medveil-site rejoin --invitation FILE, start"
_CURE = "take the coordinator's new invitation: medveil-site rejoin --invitation FILE"


def refuse_unsigned(files: OwnFiles) -> None:
    """Refuse to serve runs without a server's key and an identity of the site's own (ConfigError)."""
    for name, what in (("server_key", "the server's signing key"), ("identity", "an identity that signs its replies")):
        if not getattr(files.config, name):
            raise ConfigError(f"'{name}' is not set: this site has not {what}", where=files.file, cure=_CURE)


def open_identity(files: OwnFiles, read: Callable[[Path | None], str]) -> SigningKey:
    """Open the key that signs this site's replies.

    Parameters
    ----------
    read
        Gives the passphrase of a file that is named, or of none.

    Raises
    ------
    KeyMaterialError
        There is no passphrase, or it is wrong.
    StorageError, FormatError, IntegrityError
        The file is missing or is none.
    """
    config = files.config
    named = config.passphrase_file if config.identity_passphrase_file is None else config.identity_passphrase_file
    path = files.path(config.identity)
    try:
        return load_identity(path, read(None if named is None else files.path(named)), site=config.name)
    except KeyMaterialError as error:
        if error.problem != "wrong passphrase":
            raise
        cure = "it is sealed with the passphrase the site was enrolled with: 'identity_passphrase_file' names its file"
        raise KeyMaterialError(error.problem, where=path, cure=cure) from None


@dataclass(frozen=True)
class _Heard:
    """An order whose signature is the server's, and the very message that bore it; held until it is answered."""

    message: Message
    signed: Signed
    order: Order


class SiteSignatures:
    """One site's side: which orders it takes, and what it signs.

    Parameters
    ----------
    files
        The site.
    identity
        The key that signs its replies.
    clock
        Seconds since 1970.

    Raises
    ------
    ConfigError
        The site has no server's key, or no identity.
    """

    def __init__(self, files: OwnFiles, identity: SigningKey | None, *, clock: Callable[[], float] = time.time) -> None:
        refuse_unsigned(files)
        if identity is None:
            raise ConfigError("its identity was not opened", where=files.file, cure=_CURE)
        self._files, self._identity, self._clock = files, identity, clock
        self._heard: _Heard | None = None

    def authentic(self, message: Message) -> Order:
        """The order that the server signed in a message; nothing else of the message is judged yet.

        Raises
        ------
        SignatureError
            There is none, or another key signed it.
        """
        self._heard = None
        signed = signed_in(message)
        try:
            order = order_in(signed, self._files.config.server_key)
        except SignatureError as error:
            if error.reason == "forged":
                raise SignatureError(error.problem, reason=error.reason, cure=_RENEWED) from None
            raise
        self._heard = _Heard(message, signed, order)
        return order

    def check(self, order: Order, message: Message, context: Context, tensors: Carried | None) -> None:
        """Refuse an order that is not for this site, this message and now; what passes is remembered, and never again.

        Raises
        ------
        SignatureError
            With the word for it as its reason.
        StorageError, IntegrityError
            It cannot be remembered.
        """
        asked = subject(message)
        wanted = {
            "consortium": fingerprint(self._files.config.server_key),
            "site": self._files.config.name,
            "identity": self._identity.fingerprint,
            "run": run_in(context),
            "flower_run": str(context.run_id),
            "kind": message.metadata.message_type,
            "round": asked["round"],
            "config": digest_of_config(context.run_config),
        }
        refuse_other(order, wanted)
        if message.metadata.run_id != context.run_id:
            raise SignatureError("came with another run than it names", reason="flower_run")
        self._check_time(order)
        head = head_of(message.content, order)
        if not hmac.compare_digest(order.content, content_digest(message.content, tensors)):
            raise SignatureError("holds other records than were signed", reason="content")
        self._remember(order, head)

    def sign(self, message: Message, content: RecordDict, tensors: Carried | None, head: Head | None) -> None:
        """Sign a reply to the order that a message bore (SignatureError where it bore none)."""
        heard, self._heard = self._heard, None
        if heard is None or heard.message is not message:
            raise SignatureError("is no order of the server's, and nothing answers it", reason="unsigned")
        digest = content_digest(content, tensors)
        answer = answer_to(heard.order, heard.signed, content=digest, head=None if head is None else str(head))
        sign(content, answer, self._identity)

    def refusal(self, message: Message, told: str, code: int, head: Head | None) -> Message | None:
        """A signed reply that refuses; None where the message bore no order to answer.

        Parameters
        ----------
        head
            Of the log with the refusal in it; None where it could not be written down.
        """
        if self._heard is None or self._heard.message is not message or not self._is_own(self._heard.order):
            return None
        content = refusal_record(told, code)
        if head is not None:
            put_head(content, head)
        self.sign(message, content, None, head)
        return Message(content, reply_to=message)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _is_own(self, order: Order) -> bool:
        """Whether an order is for this site: it signs in no other's name."""
        own = (self._files.config.name, self._identity.fingerprint, fingerprint(self._files.config.server_key))
        return (order.site, order.identity, order.consortium) == own

    def _check_time(self, order: Order) -> None:
        # Whole numbers: a server may sign one that no float holds.
        now, skew = int(self._clock() * _MS), int(SKEW_S * _MS)
        cure = "compare this machine's clock with the server's: medveil-site check"
        if now > order.expires + skew:
            raise SignatureError("came after its time", reason="expired", cure=cure)
        if now < order.created - skew:
            raise SignatureError("comes from the time to come", reason="created", cure=cure)

    def _remember(self, order: Order, head: Head) -> None:
        """Take orders of a run in the order in which the server's log numbers them, each once."""
        path = self._files.state / "runs" / order.run / "heard.json"
        make_folder(path.parent, mode=0o700)
        with locked(path):
            log, newest, left = _heard(path)
            if head.log in left or (head.log == log and head.sequence <= newest):
                # It may have been answered: nothing is signed for it a second time.
                self._heard = None
                raise SignatureError("came before, or is older than what came before", reason="replayed")
            # A log that was moved away ends; what it numbered is old.
            left = left if log in ("", head.log) else [*left, log][-_MOST_LOGS:]
            document = {"log": head.log, "sequence": head.sequence, "left": left}
            write_json(path, {"format": FORMAT, "version": VERSION, **document}, mode=0o600)


def _heard(path: Path) -> tuple[str, int, list[str]]:
    """The server's log that numbers a run's orders, the newest number, and the logs before it."""
    if not path.exists():
        return "", 0, []
    document = read_json(path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    log, newest, left = document.get("log"), document.get("sequence"), document.get("left")
    if not isinstance(log, str) or type(newest) is not int or not isinstance(left, list):
        raise IntegrityError("is not what was heard of a run", where=path, cure="restore it from a copy")
    return log, newest, [str(each) for each in left]
