"""Records of secure aggregation: what one side writes the other reads; anything else is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.errors import FederationError
from medveil.secagg import records
from medveil.secagg.rounds import Offer, Offered

NAMES = ("ada", "bob", "cyd")


def offer(name: str = "ada") -> Offer:
    parts = [bytes([i]) * 32 for i in (1, 2, 3, 4)]
    return Offer(name, 3, 1, *parts, bytes(64))


SEALED = {name: name.encode().ljust(92, b".") for name in NAMES}
SHARES = {name: name.encode().ljust(32, b".") for name in NAMES}
OFFERS = [offer(name) for name in NAMES]


def through_flower(record: dict[str, Any]) -> dict[str, Any]:
    return dict(ConfigRecord(record))


def test_what_is_written_is_read_and_flower_takes_it() -> None:
    given_ = Offered(offer("ada"), SEALED)
    made = {name: through_flower(each) for name, each in records.offered_records(given_).items()}
    assert records.offered_in(made[records.OFFER], made[records.SEALED], "ada") == given_
    assert records.offers_in(through_flower(records.offers_record(reversed(OFFERS)))) == OFFERS
    assert records.sealed_in(through_flower(records.sealed_record(SEALED))) == SEALED
    assert records.left_in(through_flower(records.left_record(reversed(NAMES)))) == (list(NAMES), {})
    signed = {"ada": bytes(64), "cyd": bytes([1]) * 64}
    assert records.left_in(through_flower(records.left_record(NAMES, signed))) == (list(NAMES), signed)
    assert records.shares_in(through_flower(records.shares_record(SHARES))) == SHARES
    sums = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert records.sums_in(through_flower(records.sums_record(sums))).tolist() == sums.tolist()


READERS: dict[str, tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]] = {
    "offer": (
        lambda each: records.offered_in(each, records.sealed_record(SEALED), "ada"),
        records.offered_records(Offered(offer(), SEALED))["offer"],
    ),
    "offers": (records.offers_in, records.offers_record(OFFERS)),
    "sealed": (records.sealed_in, records.sealed_record(SEALED)),
    "left": (records.left_in, records.left_record(NAMES)),
    "shares": (records.shares_in, records.shares_record(SHARES)),
    "sums": (records.sums_in, records.sums_record(np.zeros(2, np.uint64))),
}


@pytest.mark.parametrize("name", READERS)
def test_each_field_is_held_to_its_kind_and_length(name: str) -> None:
    read, good = READERS[name]
    read(good)
    odd: list[dict[str, Any]] = [{}, {**good, "more": 1}]
    for field, value in good.items():
        odd += [{each: kept for each, kept in good.items() if each != field}]
        first = value[0] if isinstance(value, list) else value
        for wrong in (None, 1.5, True, -1, 2**63, "", "a" * 65, b"", b"1", bytes(1001), bytes(2**20), [first]):
            if type(wrong) is type(first) and wrong == b"" and field in ("signature", "sums"):
                continue
            odd.append({**good, field: [wrong, *value[1:]] if isinstance(value, list) else wrong})
        if isinstance(value, list):
            odd += [{**good, field: value[:-1]}, {**good, field: tuple(value)}]
    if isinstance(next(iter(good.values())), list):
        odd += [{field: value * 2 for field, value in good.items()}]
        odd += [{field: value * 400 for field, value in good.items()}]
    for each in odd:
        with pytest.raises(FederationError, match=f"its record '{name}' is not what it should be"):
            read(each)


cells = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=95))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(READERS)), st.data())
def test_any_record_is_read_or_refused(name: str, data: st.DataObject) -> None:
    read, good = READERS[name]
    values = st.one_of(cells, st.lists(cells, max_size=3))
    changed = data.draw(st.dictionaries(st.sampled_from([*good, "x"]), values))
    try:
        read({**good, **changed})
    except FederationError:
        return
