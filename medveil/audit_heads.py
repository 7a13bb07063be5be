"""Heads that one side's audit log holds of another's: handed over in a file, they show what a chain alone cannot.

Server and sites tell each other their heads in every message. Who cuts or rewrites the end of a log has to do the same
in every log that holds its heads. Whose heads a file holds is signed, by the server's key or a site's identity; version
1 was not: it is read, and said to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medveil.audit import ANSWERED, ASKED, REFUSED, Head, Record, canonical, plain
from medveil.errors import ConfigError, FormatError, SignatureError
from medveil.files import check_format, read_json, write_json
from medveil.fingerprints import plain_fingerprint
from medveil.signing import Signed, SigningKey, fingerprint, verified

FORMAT = "medveil-heads"
VERSION = 2
_UNSIGNED = 1
DOMAIN = "medveil heads"
SERVER = "server"
Kept = dict[str, list[Head]]
KeysOf = Callable[[str], Sequence[str]]
"""The public keys by which an owner, as "site st-anna", is known here; none where nobody is."""


def site(name: str) -> str:
    """What a site's heads are filed under."""
    return f"site {name}"


def kept_in(records: Iterable[Record]) -> Kept:
    """The heads of others that a log holds, by whose they are; a server holds its sites', a site the server's.

    All are kept: a log that was rewritten before it sent its newest head still differs from an older one.
    """
    found: Kept = {}
    for record in records:
        details = record["details"] if isinstance(record["details"], dict) else {}
        head = details.get("head")
        if not isinstance(head, str):
            continue
        if record["event"] == ASKED:
            owner = SERVER
        elif record["event"] in {ANSWERED, REFUSED} and isinstance(details.get("site"), str):
            owner = site(details["site"])
        else:
            continue
        found.setdefault(owner, []).append(Head.parse(head))
    return found


@dataclass(frozen=True)
class Heads:
    """What a file says of one log.

    Parameters
    ----------
    kept_by
        Who kept the heads, as the file says.
    heads
        The heads.
    signed_by
        Fingerprint of the key that signed the file and that `kept_by` is known by; None for a file of version 1.
    """

    kept_by: str
    heads: list[Head]
    signed_by: str | None

    @property
    def note(self) -> str:
        """A sentence on how far the file can be trusted."""
        if self.signed_by is None:
            return f"the heads kept by {self.kept_by} are not signed: whoever passed the file on could have changed it"
        return f"the heads kept by {self.kept_by} are signed by its key {plain_fingerprint(self.signed_by)}"


def save_heads(path: Path, kept: Kept, *, kept_by: str, key: SigningKey) -> None:
    """Write heads for those whose logs they are of, signed (ConfigError where there is none)."""
    if not kept:
        raise ConfigError("holds no heads of others yet", where="audit heads", cure="there are some after a run")
    heads = {owner: [str(each) for each in of] for owner, of in sorted(kept.items())}
    signed = key.sign(DOMAIN, VERSION, {"kept_by": kept_by, "sha256": _digest(heads)})
    document = {"kept_by": kept_by, "heads": heads, "signature": signed.signature}
    write_json(path, {"format": FORMAT, "version": VERSION, **document})


def load_heads(path: Path, *, owner: str, keys_of: KeysOf) -> Heads:
    """Read who kept the heads of a log, and these.

    Parameters
    ----------
    owner
        `SERVER`, or what `site` makes of a name.
    keys_of
        The public keys by which who kept them is known here.

    Raises
    ------
    StorageError, FormatError
        There is no such file, or it is another one.
    ConfigError
        It holds no head of this owner's, or who kept it is not known here.
    SignatureError
        Who says to have kept it did not sign it.
    """
    document = read_json(path)
    version = check_format(document, name=FORMAT, newest=VERSION, where=path)
    kept_by, heads = document.get("kept_by"), document.get("heads")
    if not isinstance(kept_by, str) or not isinstance(heads, dict):
        raise FormatError("is not a list of heads", where=path, cure="'audit heads --out FILE' makes one")
    signed_by = None if version == _UNSIGNED else _signer(document, keys_of(kept_by), path)
    own = heads.get(owner)
    if not isinstance(own, list) or not own:
        raise ConfigError(
            f"holds no head of {owner}", where=path, cure=f"it holds {plain(', '.join(sorted(heads)) or 'none')!a}"
        )
    return Heads(" ".join(kept_by.split())[:80], [Head.parse(each) for each in own], signed_by)


def _signer(document: dict[str, Any], keys: Sequence[str], path: Path) -> str:
    """Fingerprint of the one of some keys that signed a file."""
    who = plain(document["kept_by"])[:80]
    if not keys:
        problem = f"says to be kept by {who!a}, and no key of theirs is known here"
        raise ConfigError(problem, where=path, cure="a server knows the sites it admitted, a site its server")
    said = {"kept_by": document["kept_by"], "sha256": _digest(document["heads"])}
    statement = canonical({**said, "domain": DOMAIN, "version": VERSION}).decode("ascii")
    for key in keys:
        try:
            verified(Signed(statement, str(document.get("signature"))), key, domain=DOMAIN, newest=VERSION)
        except SignatureError:
            continue
        return fingerprint(key)
    problem = f"was not signed by {who!a}, who is said to have kept it: it was changed, or is another's"
    raise SignatureError(problem, where=path, cure="ask for it again")


def _digest(heads: dict[str, Any]) -> str:
    try:
        return hashlib.sha256(canonical(heads)).hexdigest()
    except (ValueError, RecursionError):
        raise FormatError("is not a list of heads", cure="'audit heads --out FILE' makes one") from None
