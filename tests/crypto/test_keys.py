from __future__ import annotations

import copy
import pickle

import pytest

from crypto.keys import Key, SimulatedKey, SiteKey
from medveil.errors import KeyMaterialError

SECRET = bytes(range(32))


def test_the_published_fingerprint() -> None:
    assert SiteKey(SECRET, "mercy").fingerprint == "4afe90568c169867276000a58b0307d2"


def test_generated_keys_differ_and_have_full_fingerprints() -> None:
    keys = [SiteKey.generate("mercy") for _ in range(20)]
    assert len({key.fingerprint for key in keys}) == 20
    assert all(len(bytes.fromhex(key.fingerprint)) == 16 for key in keys)


@pytest.mark.parametrize("key", [SiteKey(SECRET, "mercy"), SimulatedKey(1, "mercy")])
def test_a_key_does_not_print_its_secret(key: Key) -> None:
    for shown in (repr(key), str(key), f"{key}"):
        assert key.fingerprint in shown
        assert SECRET.hex() not in shown
        assert repr(SECRET) not in shown
        assert key.subkey("rho").hex() not in shown


def test_a_site_key_is_neither_pickled_nor_copied() -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(KeyMaterialError, match="cannot be pickled"):
            leave(SiteKey(SECRET, "mercy"))


def test_a_simulated_key_repeats_and_travels_to_workers() -> None:
    key = SimulatedKey(7, "site-1")
    assert key.fingerprint.startswith("sim-")
    assert len(key.fingerprint) == 36
    for twin in (SimulatedKey(7, "site-1"), pickle.loads(pickle.dumps(key))):
        assert (twin.fingerprint, twin.site, twin.subkey("rho")) == (key.fingerprint, key.site, key.subkey("rho"))


def test_simulated_keys_of_other_seeds_and_sites_are_unrelated() -> None:
    prints = {SimulatedKey(seed, site).fingerprint for seed in range(10) for site in ("a", "b", "shared")}
    assert len(prints) == 30


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyMaterialError, match=f"a secret of {length} bytes"):
        SiteKey(bytes(length), "mercy")


@pytest.mark.parametrize(
    "site", ["", " ", "a/b", "a\\b", "..", ".hidden", "a\nb", "a\x00", " a", "a ", "x" * 65, "\u202ea"]
)
def test_a_name_that_cannot_be_a_folder_is_refused(site: str) -> None:
    with pytest.raises(KeyMaterialError, match="cannot name a site") as caught:
        SiteKey(SECRET, site)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("site", ["mercy", "St. Anna 2", "Universitätsklinikum", "病院", "x" * 64])
def test_names_hospitals_have_are_taken(site: str) -> None:
    assert SiteKey(SECRET, site).site == site
