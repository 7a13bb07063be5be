"""The messages of a round with secure aggregation, as plain records: what a server sends, and what a site answers.

=============  ==========================================  =============================================
message        the server sends                            a site answers
=============  ==========================================  =============================================
query          the run                                     that it takes part (`medveil.secagg.members`)
train          the task: what all sites said, the attempt  an offer, and what it sealed to each site
train.mask     all offers, and what was sealed to it       its update under masks, packed; summed measures
query.agree    all offers; who is left                     its signature under that set
query.unmask   the same, what was sealed, all signatures   a share for every site that offered
=============  ==========================================  =============================================

Each bears the task, for a site that began anew in between remembers none. Where measures or counts alone are summed,
`evaluate` stands in the place of `train`, and the update is empty. Nothing that comes out of here is proven: the types
hold, and names stand once. Sites come sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from medveil.counting import MOST_CELLS
from medveil.errors import FederationError
from medveil.secagg.columns import Is, fields_in, is_bytes, is_name, is_number, rows_in, table
from medveil.secagg.encoding import KEY_BYTES
from medveil.secagg.members import Join
from medveil.secagg.rounds import SEALED_BYTES, Offer, Offered, Task
from medveil.secagg.shamir import SHARE_BYTES
from medveil.signing import SIGNATURE_BYTES

TASK, OFFER, SEALED, OFFERS, LEFT, SHARES, SUMS = "task", "offer", "sealed", "offers", "left", "shares", "sums"
AGREED = "agreed"
"""Names of the records."""
_HASH = is_bytes(KEY_BYTES)
_SIGNATURE = is_bytes(SIGNATURE_BYTES)
_MOST_SUMS = max(64, MOST_CELLS)
_OFFER: dict[str, Is] = {
    "round": is_number,
    "attempt": is_number,
    "model": _HASH,
    "key": _HASH,
    "commitment": _HASH,
    "sealed": _HASH,
    "signature": _SIGNATURE,
}
_OFFERS: dict[str, Is] = {"site": is_name, **_OFFER}
_SEALED: dict[str, Is] = {"site": is_name, "shares": is_bytes(SEALED_BYTES)}
_LEFT: dict[str, Is] = {"site": is_name, "signature": is_bytes(0, SIGNATURE_BYTES)}
_TASK: dict[str, Is] = {"number": is_number, "attempt": is_number, "content": _HASH}
_SHARES: dict[str, Is] = {"site": is_name, "share": is_bytes(SHARE_BYTES)}


def task_record(task: Task) -> dict[str, Any]:
    """A task but for who takes part, which stands in a record of its own (`medveil.secagg.members`)."""
    return dict(zip(_TASK, (task.number, task.attempt, task.content), strict=True))


def task_in(record: Mapping[str, Any], *, run: str, joins: Iterable[Join]) -> Task:
    """The same as it comes (FederationError)."""
    number, attempt, content = fields_in(record, _TASK, what=TASK)
    return Task(run, number, attempt, content, tuple(joins))


def offered_records(given: Offered) -> dict[str, dict[str, Any]]:
    """A site's offer and what it sealed: two records by their names."""
    return {OFFER: dict(zip(_OFFER, _values(given.offer), strict=True)), SEALED: sealed_record(given.sealed)}


def offered_in(offer: Mapping[str, Any], sealed: Mapping[str, Any], name: str) -> Offered:
    """What a site answered (FederationError where it is nothing of the kind, with the site's name)."""
    try:
        return Offered(Offer(name, *fields_in(offer, _OFFER, what=OFFER)), sealed_in(sealed))
    except FederationError as error:
        raise FederationError(error.problem, where=name, cure=error.cure) from None


def offers_record(offers: Iterable[Offer]) -> dict[str, Any]:
    """All offers."""
    return table([(each.name, *_values(each)) for each in _sorted(offers)], _OFFERS)


def offers_in(record: Mapping[str, Any]) -> list[Offer]:
    """All offers, as a server shows them (FederationError)."""
    return [Offer(*values) for values in rows_in(record, _OFFERS, what=OFFERS)]


def sealed_record(sealed: Mapping[str, bytes]) -> dict[str, Any]:
    """Sealed shares by the site they are for, or from."""
    return table(sorted(sealed.items()), _SEALED)


def sealed_in(record: Mapping[str, Any]) -> dict[str, bytes]:
    """The same as they come (FederationError)."""
    return dict(rows_in(record, _SEALED, what=SEALED))


def left_record(survivors: Iterable[str], signatures: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """Who is left, each with its signature under that set, where there is one."""
    signed = signatures or {}
    return table([(name, signed.get(name, b"")) for name in sorted(survivors)], _LEFT)


def left_in(record: Mapping[str, Any]) -> tuple[list[str], dict[str, bytes]]:
    """Who is left, and the signatures there are (FederationError)."""
    rows = rows_in(record, _LEFT, what=LEFT)
    return [name for name, _ in rows], {name: signed for name, signed in rows if signed}


def agreed_record(signed: bytes) -> dict[str, Any]:
    """A site's signature under the set that is opened."""
    return {"signature": signed}


def agreed_in(record: Mapping[str, Any]) -> bytes:
    """The same as it comes (FederationError)."""
    (signed,) = fields_in(record, {"signature": _SIGNATURE}, what=AGREED)
    return bytes(signed)


def shares_record(shares: Mapping[str, bytes]) -> dict[str, Any]:
    """One share for each site."""
    return table(sorted(shares.items()), _SHARES)


def shares_in(record: Mapping[str, Any]) -> dict[str, bytes]:
    """The same as they come (FederationError)."""
    return dict(rows_in(record, _SHARES, what=SHARES))


def sums_record(sums: npt.NDArray[np.uint64]) -> dict[str, Any]:
    """Measures under masks: Flower's whole numbers have a sign, so they travel as bytes, least byte first."""
    return {SUMS: sums.astype("<u8").tobytes()}


def sums_in(record: Mapping[str, Any]) -> npt.NDArray[np.uint64]:
    """The same as they come (FederationError)."""
    lengths = is_bytes(*(8 * count for count in range(_MOST_SUMS + 1)))
    (data,) = fields_in(record, {SUMS: lengths}, what=SUMS)
    return np.frombuffer(data, "<u8").astype(np.uint64)


def _values(offer: Offer) -> tuple[Any, ...]:
    """In the order of `_OFFER`, which is that of the class."""
    return (offer.number, offer.attempt, offer.model, offer.key, offer.commitment, offer.sealed, offer.signature)


def _sorted(offers: Iterable[Offer]) -> list[Offer]:
    return sorted(offers, key=lambda each: each.name)
