"""Who takes part in a run, each by its own signature: what a site says when it is asked, and what all are shown.

The server gathers these and hands them to every site, so that a site counts the others itself and knows what it weighs
among them. In a run with secure aggregation each also brings the key that shares are sealed to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medveil.errors import FederationError, SignatureError
from medveil.secagg.columns import Is, fields_in, is_bytes, is_name, is_number, rows_in, table
from medveil.secagg.encoding import KEY_BYTES, check_signature, digest, signature
from medveil.secagg.masks import is_key
from medveil.secagg.roster import Roster
from medveil.signing import SIGNATURE_BYTES, SigningKey

MEMBER = "member"
"""Name of the record in which a site says, signed, that it takes part."""
MEMBERS = "members"
"""Name of the record that holds what all sites said."""
DOMAIN = "medveil member"
_EXAMPLES, _KEY, _SIGNATURE = "examples", "key", "signature"
_KINDS: dict[str, Is] = {
    "site": is_name,
    _EXAMPLES: lambda value: is_number(value) and value != 0,
    _KEY: is_bytes(0, KEY_BYTES),
    _SIGNATURE: is_bytes(SIGNATURE_BYTES),
}


@dataclass(frozen=True)
class Join:
    """That a site takes part in a run.

    Parameters
    ----------
    name
        The site.
    examples
        What it weighs: the number of training images it declares.
    key
        Public X25519 key of this run, 32 bytes; empty without secure aggregation.
    signature
        64 bytes, of the site's identity.
    """

    name: str
    examples: int
    key: bytes
    signature: bytes

    def as_record(self) -> dict[str, Any]:
        """What travels in the site's own reply, which names the site already."""
        return {_EXAMPLES: self.examples, _KEY: self.key, _SIGNATURE: self.signature}


def join(identity: SigningKey, *, run: str, roster: Roster, name: str, examples: int, key: bytes = b"") -> Join:
    """Sign that a site takes part in a run, with the sites of one roster.

    Parameters
    ----------
    identity
        The site's.
    run
        The run's UUID.
    roster, name, examples, key
        As in `Join`, and the roster that the site approved.
    """
    unsigned = Join(name, examples, key, b"")
    return Join(name, examples, key, signature(identity, DOMAIN, _said(unsigned, run, roster)))


def check_join(found: Join, *, run: str, roster: Roster) -> None:
    """Refuse what no site of the roster signed for this run.

    Raises
    ------
    SignatureError
        The site, which is named, is not on the roster (``added``), did not sign this (``forged``), or signed a key that
        is none (``keys``).
    """
    public = roster.members.get(found.name)
    if public is None:
        raise SignatureError("is not on the roster that this site approved", where=found.name, reason="added")
    try:
        check_signature(found.signature, public, DOMAIN, _said(found, run, roster))
    except SignatureError:
        problem = "did not sign that it takes part in this run, with this roster, number of images and key"
        raise SignatureError(problem, where=found.name, reason="forged") from None
    if found.key and not is_key(found.key):
        raise SignatureError("signed a key that nobody can agree on", where=found.name, reason="keys")


def digest_of(joins: Iterable[Join]) -> bytes:
    """32 bytes that name these sites with their numbers and keys, in whatever order they come."""
    ordered = sorted(joins, key=lambda each: each.name)
    return digest("members", *[part for each in ordered for part in (each.name, each.examples, each.key)])


def share_of(name: str, joins: Sequence[Join]) -> float:
    """What a site weighs among those that take part, from 0 to 1."""
    total = sum(each.examples for each in joins)
    return sum(each.examples for each in joins if each.name == name) / total if total else 0.0


# -- records -----------------------------------------------------------------------------------------------------------


def join_in(record: Mapping[str, Any], name: str) -> Join:
    """What a site says in its reply; nothing of it is proven (FederationError where it is nothing of the kind)."""
    kinds = {each: _KINDS[each] for each in (_EXAMPLES, _KEY, _SIGNATURE)}
    try:
        return Join(name, *fields_in(record, kinds, what=MEMBER))
    except FederationError as error:
        raise FederationError(error.problem, where=name, cure=error.cure) from None


def members_record(joins: Iterable[Join]) -> dict[str, Any]:
    """What all sites said, sorted by name, as plain lists."""
    ordered = sorted(joins, key=lambda each: each.name)
    return table([(each.name, each.examples, each.key, each.signature) for each in ordered], _KINDS)


def members_in(record: Mapping[str, Any]) -> list[Join]:
    """What a server says that the sites said; nothing of it is proven.

    Raises
    ------
    FederationError
        It is nothing of the kind, too long, or names a site twice.
    """
    return [Join(*values) for values in rows_in(record, _KINDS, what=MEMBERS)]


def _said(found: Join, run: str, roster: Roster) -> dict[str, str | int]:
    return {
        "run": run,
        "roster": roster.fingerprint,
        "site": found.name,
        "examples": found.examples,
        "key": found.key.hex(),
    }
