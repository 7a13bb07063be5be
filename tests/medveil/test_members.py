"""What a site signs when it takes part in a run: it stands for one run, one roster, one number and one key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.errors import FederationError, SignatureError
from medveil.secagg.members import Join, check_join, digest_of, join, join_in, members_in, members_record, share_of
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

KEYS = {name: SigningKey.from_secret(bytes([i]) * 32) for i, name in enumerate(("ada", "bob", "cyd"), 1)}
ROSTER = Roster({name: key.public for name, key in KEYS.items()})
RUN = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab"


def joined(name: str = "ada", **changes: Any) -> Join:
    given = {"run": RUN, "roster": ROSTER, "name": name, "examples": 20, "key": (9).to_bytes(32, "little")}
    return join(KEYS[name], **{**given, **changes})


def test_a_site_that_signed_is_counted() -> None:
    check_join(joined(), run=RUN, roster=ROSTER)
    check_join(joined(key=b""), run=RUN, roster=ROSTER)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (replace(joined(), key=bytes([1]) * 32), "forged"),
        (replace(joined(), key=b""), "forged"),
        (replace(joined(), examples=21), "forged"),
        (replace(joined(), name="bob"), "forged"),
        (replace(joined(), signature=joined("bob").signature), "forged"),
        (replace(joined(), signature=bytes(64)), "forged"),
        (joined(run=RUN[::-1]), "forged"),
        (joined(roster=replace(ROSTER, colluding=0)), "forged"),
        (replace(joined(), name="eve"), "added"),
    ],
)
def test_what_it_did_not_sign_counts_nothing(found: Join, reason: str) -> None:
    with pytest.raises(SignatureError, match=found.name) as refused:
        check_join(found, run=RUN, roster=ROSTER)
    assert refused.value.reason == reason


def test_records_come_back_as_they_were_and_name_nobody_twice() -> None:
    all_of_them = [joined(name, examples=number) for number, name in enumerate(KEYS, 1)]
    record = members_record(reversed(all_of_them))
    assert members_in(record) == all_of_them
    assert digest_of(all_of_them) == digest_of(reversed(all_of_them))
    assert digest_of(all_of_them) != digest_of([*all_of_them[:2], replace(all_of_them[2], examples=9)])
    assert join_in(joined().as_record(), "ada") == joined()
    assert share_of("cyd", all_of_them) == 0.5
    twice = members_record([*all_of_them, all_of_them[0]])
    for odd in (
        twice,
        {},
        {**record, "more": [1]},
        {**record, "site": ["ada"]},
        {**record, "examples": [1.0, 2.0, 3.0]},
        {**record, "examples": [True, 2, 3]},
        {**record, "examples": [0, 2, 3]},
        {**record, "examples": [2**63, 2, 3]},
        {**record, "key": ["", "", ""]},
        {**record, "key": [b"1", b"", b""]},
        {**record, "signature": [b"", b"", b""]},
        {**record, "site": ["a" * 65, "b", "c"]},
        {name: values * 1000 for name, values in record.items()},
    ):
        with pytest.raises(FederationError, match="record 'members' is not what it should be"):
            members_in(odd)


plain = st.one_of(
    st.none(), st.integers(), st.text(max_size=9), st.binary(max_size=70), st.lists(st.binary(max_size=64), max_size=3)
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(["site", "examples", "signature", "key"]), plain))
def test_any_record_is_read_or_refused(record: dict[str, Any]) -> None:
    for read in (members_in, lambda each: join_in(each, "ada")):
        try:
            read(record)
        except FederationError:
            continue
