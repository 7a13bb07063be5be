from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.documents import text_of
from crypto.keyring import MOST_KEYS, KeyDates, Keyring, check_real, pack, unpack
from crypto.keys import SimulatedKey, SiteKey
from medveil.errors import IntegrityError, KeyMaterialError

WHEN = "2026-11-24T10:53:27Z"
LATER = "2027-01-01T00:00:00Z"

secrets = st.binary(min_size=32, max_size=32)
dates = st.builds(KeyDates, st.sampled_from(["", WHEN]), st.sampled_from(["", LATER]))


@st.composite
def rings(draw: st.DrawFn) -> Keyring:
    keys = [SiteKey(secret, "mercy") for secret in draw(st.lists(secrets, min_size=1, max_size=5, unique=True))]
    dated = {key.fingerprint: draw(dates) for key in keys}
    return Keyring(keys[0], tuple(keys[1:]), dated)


@given(rings())
def test_a_ring_comes_back_from_its_bytes(ring: Keyring) -> None:
    back = unpack(pack(ring), "county", where="here")
    assert [key.secret for key in back] == [key.secret for key in ring]
    assert [back.dates_of(key) for key in back] == [ring.dates_of(key) for key in ring]
    assert {key.site for key in back} == {"county"}


@given(rings(), st.integers(1, 4))
def test_rotation_draws_a_fresh_key_and_loses_none(ring: Keyring, times: int) -> None:
    rotated = ring
    for _ in range(times):
        rotated = rotated.rotated(LATER)
    secrets_of = [key.secret for key in rotated]
    assert secrets_of[times:] == [key.secret for key in ring]
    assert len(set(secrets_of)) == len(secrets_of)
    assert rotated.current.site == ring.current.site
    assert rotated.dates_of(rotated.current) == KeyDates(created=LATER)
    assert rotated.dates_of(ring.current) == KeyDates(ring.dates_of(ring.current).created, LATER)
    for key in ring.retired:
        assert rotated.dates_of(key) == ring.dates_of(key)


@given(rings())
def test_a_key_is_found_by_its_fingerprint(ring: Keyring) -> None:
    for key in ring:
        assert ring.find(key.fingerprint) is key
    with pytest.raises(KeyMaterialError, match="was hidden under the key 0000") as caught:
        ring.find("0" * 32)
    assert all(key.fingerprint in str(caught.value) for key in ring)


@given(rings())
def test_the_newest_of_a_ring_is_alone(ring: Keyring) -> None:
    newest = ring.newest()
    assert list(newest) == [ring.current]
    assert dict(newest.dates) == {ring.current.fingerprint: ring.dates_of(ring.current)}


def test_a_ring_does_not_print_its_secrets() -> None:
    ring = Keyring(SiteKey(bytes(range(32)), "mercy")).rotated(WHEN)
    for key in ring:
        assert key.fingerprint in repr(ring)
        assert key.secret.hex() not in repr(ring)
        assert repr(key.secret) not in repr(ring)


def test_a_full_ring_is_not_rotated() -> None:
    ring = Keyring(SiteKey.generate("mercy"))
    for _ in range(MOST_KEYS - 1):
        ring = ring.rotated(WHEN)
    assert len(list(unpack(pack(ring), "mercy", where="here"))) == MOST_KEYS
    with pytest.raises(KeyMaterialError, match=f"holds {MOST_KEYS} keys already"):
        ring.rotated(WHEN)


def test_too_many_keys_are_not_packed() -> None:
    keys = [SiteKey.generate("mercy") for _ in range(MOST_KEYS + 1)]
    with pytest.raises(KeyMaterialError, match=f"a ring of {MOST_KEYS + 1} keys"):
        pack(Keyring(keys[0], tuple(keys[1:])))


def test_a_ring_that_holds_a_key_twice_is_not_packed() -> None:
    key = SiteKey.generate("mercy")
    with pytest.raises(KeyMaterialError, match="holds a key twice"):
        pack(Keyring(key, (key,)))


@pytest.mark.parametrize("position", [0, 1])
def test_a_simulated_key_is_named(position: int) -> None:
    keys: list[Any] = [SiteKey.generate("mercy"), SiteKey.generate("mercy")]
    check_real(keys, "saved")
    keys[position] = SimulatedKey(1, "mercy")
    with pytest.raises(KeyMaterialError, match="a SimulatedKey cannot be shared: it is made from an integer"):
        check_real(keys, "shared")


ENTRY = {"secret": text_of(bytes(32)), "created": WHEN, "retired": ""}
ODD: list[tuple[object, str]] = [
    ([], "holds no keys"),
    ({}, "holds no keys"),
    ({"keys": []}, "holds no keys"),
    ({"keys": [1]}, "holds no keys"),
    ({"keys": {"0": ENTRY}}, "holds no keys"),
    ({"keys": [ENTRY] * (MOST_KEYS + 1)}, "holds no keys"),
    ({"keys": [ENTRY, ENTRY]}, "holds a key twice"),
    ({"keys": [{**ENTRY, "secret": text_of(bytes(31))}]}, "field 'secret'"),
    ({"keys": [{**ENTRY, "secret": 7}]}, "lacks fields"),
    ({"keys": [{**ENTRY, "created": "today"}]}, "has a header"),
]


@pytest.mark.parametrize(("document", "words"), ODD)
def test_bytes_that_are_no_ring_are_refused(document: object, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        unpack(json.dumps(document).encode(), "mercy", where=Path("a.key"))


def test_bytes_that_are_no_json_are_refused() -> None:
    for packed in (b"", b"\xff", b"{", b"[" * 100_000):
        with pytest.raises(IntegrityError, match="holds no keys"):
            unpack(packed, "mercy", where="a.key")


@pytest.mark.parametrize("wrong", [(3,), (None,), ("mercy.key",)])
def test_a_ring_of_what_is_no_key_is_refused(wrong: Any) -> None:
    with pytest.raises(KeyMaterialError, match="a ring of keys with a value of type"):
        Keyring(*wrong)
    for kept in (wrong[0], wrong):
        with pytest.raises(KeyMaterialError, match="a ring of keys with a value of type"):
            Keyring(SiteKey.generate("mercy"), kept)
