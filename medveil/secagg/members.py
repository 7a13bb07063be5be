"""Who takes part in a run, each by its own signature: what a site says when it is asked, and what all are shown.

The server gathers these and hands them to every site, so that a site counts the others itself and knows what it weighs
among them. In a run with secure aggregation each also brings the key that shares are sealed to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medveil.errors import FederationError, SignatureError
from medveil.secagg.encoding import KEY_BYTES, check_signature, digest, signature
from medveil.secagg.roster import MOST, Roster
from medveil.signing import SIGNATURE_BYTES, SigningKey

MEMBER = "member"
"""Name of the record in which a site says, signed, that it takes part."""
MEMBERS = "members"
"""Name of the record that holds what all sites said."""
DOMAIN = "medveil member"
_EXAMPLES, _KEY, _SIGNATURE, _SITES = "examples", "key", "signature", "sites"
_KEYS, _SIGNATURES = "keys", "signatures"
_MOST_EXAMPLES = 2**62
_LONGEST_NAME = 64
_SAME = "server and site need the same MedVeil"


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
        Its site is not on the roster (``added``), or did not sign this (``forged``); the site is named.
    """
    public = roster.members.get(found.name)
    if public is None:
        raise SignatureError("is not on the roster that this site approved", where=found.name, reason="added")
    try:
        check_signature(found.signature, public, DOMAIN, _said(found, run, roster))
    except SignatureError:
        problem = "did not sign that it takes part in this run, with this roster, number of images and key"
        raise SignatureError(problem, where=found.name, reason="forged") from None


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
    made = Join(name, record.get(_EXAMPLES, 0), record.get(_KEY, b""), record.get(_SIGNATURE, b""))
    if set(record) != {_EXAMPLES, _KEY, _SIGNATURE} or not _is_join(made):
        raise FederationError(f"its record '{MEMBER}' is not what it should be", where=name, cure=_SAME)
    return made


def members_record(joins: Iterable[Join]) -> dict[str, Any]:
    """What all sites said, sorted by name, as plain lists."""
    ordered = sorted(joins, key=lambda each: each.name)
    return {
        _SITES: [each.name for each in ordered],
        _EXAMPLES: [each.examples for each in ordered],
        _KEYS: [each.key for each in ordered],
        _SIGNATURES: [each.signature for each in ordered],
    }


def members_in(record: Mapping[str, Any]) -> list[Join]:
    """What a server says that the sites said; nothing of it is proven.

    Raises
    ------
    FederationError
        It is nothing of the kind, too long, or names a site twice.
    """
    columns = [record.get(name) for name in (_SITES, _EXAMPLES, _KEYS, _SIGNATURES)]
    lists = [each for each in columns if isinstance(each, list)]
    if len(record) != len(columns) or len(lists) != len(columns) or len({len(each) for each in lists}) != 1:
        raise FederationError(f"its record '{MEMBERS}' is not what it should be", cure=_SAME)
    made = [Join(*values) for values in zip(*lists, strict=True)] if len(lists[0]) <= MOST else []
    if len(made) != len(lists[0]) or not all(map(_is_join, made)) or len({each.name for each in made}) != len(made):
        raise FederationError(f"its record '{MEMBERS}' is not what it should be", cure=_SAME)
    return made


def _said(found: Join, run: str, roster: Roster) -> dict[str, str | int]:
    return {
        "run": run,
        "roster": roster.fingerprint,
        "site": found.name,
        "examples": found.examples,
        "key": found.key.hex(),
    }


def _is_join(found: Join) -> bool:
    return (
        isinstance(found.name, str)
        and 0 < len(found.name) <= _LONGEST_NAME
        and type(found.examples) is int
        and 0 < found.examples <= _MOST_EXAMPLES
        and isinstance(found.key, bytes)
        and len(found.key) in (0, KEY_BYTES)
        and isinstance(found.signature, bytes)
        and len(found.signature) == SIGNATURE_BYTES
    )
