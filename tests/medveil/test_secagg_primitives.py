"""Field, masks and fixed point of secure aggregation: known answers of a second implementation, and properties."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.errors import ConfigError, FederationError
from medveil.secagg import shamir
from medveil.secagg.encoding import digest
from medveil.secagg.fixed import CHUNK, FixedPoint, clipped, pack, packed_bytes, unpack
from medveil.secagg.masks import (
    agreed_key,
    commitment,
    mask,
    mask_wide,
    pair_key,
    private_key,
    public_bytes,
    seal,
    self_key,
    unseal,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures" / "secagg_vectors.json").read_text())
"""What ../shared/reference/secagg/vectors.py printed: another implementation, with every secret fixed."""
NAMES = ("ada", "bob", "cyd")
ELEMENTS = {name: int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % shamir.P for name in NAMES}
PRIVATE = {name: private_key(element) for name, element in ELEMENTS.items()}
PUBLIC = {name: public_bytes(key) for name, key in PRIVATE.items()}
TRANSCRIPT = bytes.fromhex(VECTORS["transcript"])


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_fields_are_told_apart() -> None:
    assert digest("a", b"\x01", 7).hex() == VECTORS['digest("a", b"\\x01", 7)']
    lists = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]
    assert len({digest(*each) for each in lists}) == len(lists)


def test_keys_and_masks_are_those_of_the_other_implementation() -> None:
    assert {name: key.hex() for name, key in PUBLIC.items()} == VECTORS["mask public keys"]
    found = {name: commitment(element ^ 1).hex() for name, element in ELEMENTS.items()}
    assert found == VECTORS["commitments"]
    key = pair_key(PRIVATE["ada"], PUBLIC["bob"], TRANSCRIPT, ("ada", "bob"), "update")
    assert key.hex() == VECTORS["pair key ada-bob, update"]
    assert key == pair_key(PRIVATE["bob"], PUBLIC["ada"], TRANSCRIPT, ("bob", "ada"), "update")
    assert self_key(ELEMENTS["ada"] ^ 1, TRANSCRIPT, "update").hex() == VECTORS["self key ada, update"]
    words = np.zeros(8, np.uint32)
    mask(words, plus=[key])
    assert words.tolist() == VECTORS["first 8 words of the ada-bob mask"]
    others = {
        pair_key(PRIVATE["ada"], PUBLIC["bob"], TRANSCRIPT, ("ada", "bob"), "sums"),
        pair_key(PRIVATE["ada"], PUBLIC["bob"], TRANSCRIPT, ("ada", "cyd"), "update"),
        pair_key(PRIVATE["ada"], PUBLIC["bob"], TRANSCRIPT[::-1], ("ada", "bob"), "update"),
        pair_key(PRIVATE["ada"], PUBLIC["cyd"], TRANSCRIPT, ("ada", "bob"), "update"),
    }
    assert len(others) == 4
    assert key not in others


def test_masked_vectors_and_their_sum_are_those_of_the_other_implementation() -> None:
    fixed, total, plain = FixedPoint(1.0, 32, 3), np.zeros(1000, np.uint32), np.zeros(1000, np.uint32)
    for seed, name in enumerate(NAMES):
        drawn = np.random.RandomState(seed).standard_normal(1000).astype(np.float32)
        made = fixed.encode(drawn * np.float32(0.01), 0.5 if name == "ada" else 0.25)
        plain += made
        pairs = {
            other: pair_key(PRIVATE[name], PUBLIC[other], TRANSCRIPT, (name, other), "update")
            for other in NAMES
            if other != name
        }
        own = self_key(ELEMENTS[name] ^ 1, TRANSCRIPT, "update")
        mask(
            made,
            plus=[own, *(key for other, key in pairs.items() if name < other)],
            minus=[key for other, key in pairs.items() if name > other],
        )
        assert sha256(made) == VECTORS["sha256 of masked vectors (1000 words)"][name]
        total += made
    mask(total, plus=[], minus=[self_key(ELEMENTS[name] ^ 1, TRANSCRIPT, "update") for name in NAMES])
    assert (total == plain).all()
    assert sha256(total) == VECTORS["sha256 of the opened sum"]
    for bits in (24, 32):
        packed = pack(plain & np.uint32(2**bits - 1), bits)
        assert sha256(packed) == VECTORS[f"sha256 of the sum packed in {bits} bits"]


def test_the_stream_is_chacha20() -> None:
    # RFC 8439, appendix A.1, test vector 1: key, nonce and counter 0.
    words = np.zeros(4, np.uint32)
    mask(words, plus=[bytes(32)])
    assert words.tobytes().hex() == "76b8e0ada0f13d90405d6ae55386bd28"


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_masks_come_off_whatever_the_length(count: int) -> None:
    before = np.arange(count, dtype=np.uint32)
    vector = before.copy()
    mask(vector, plus=[b"a" * 32, b"b" * 32], minus=[b"c" * 32])
    if count > 1:
        assert abs(float(np.corrcoef(vector.astype(float), before.astype(float))[0, 1])) < 1 / math.sqrt(count) * 6 + (
            count < 9
        )
    mask(vector, plus=[b"c" * 32], minus=[b"b" * 32, b"a" * 32])
    assert (vector == before).all()
    wide = np.arange(4, dtype=np.uint64)
    mask_wide(wide, plus=[b"a" * 32])
    assert wide.tolist() != [0, 1, 2, 3]
    mask_wide(wide, plus=[], minus=[b"a" * 32])
    assert wide.tolist() == [0, 1, 2, 3]


def test_what_is_sealed_opens_for_its_context_alone() -> None:
    sealed = seal(b"k" * 32, b"shares", b"ada to bob")
    assert sealed != seal(b"k" * 32, b"shares", b"ada to bob"), "one nonce would be used twice"
    assert unseal(b"k" * 32, sealed, b"ada to bob") == b"shares"
    for key, data, context in (
        (b"k" * 32, sealed, b"ada to cyd"),
        (b"l" * 32, sealed, b"ada to bob"),
        (b"k" * 32, sealed[:-1], b"ada to bob"),
        (b"k" * 32, b"", b"ada to bob"),
        (b"k" * 32, bytes([sealed[0] ^ 1]) + sealed[1:], b"ada to bob"),
    ):
        with pytest.raises(FederationError, match="do not open"):
            unseal(key, data, context)


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little"), b"", bytes(31)])
def test_a_key_that_would_give_everybody_the_same_is_refused(public: bytes) -> None:
    with pytest.raises(FederationError, match="a public key is none"):
        agreed_key(PRIVATE["ada"], public, "mask")


# -- shares ------------------------------------------------------------------------------------------------------------


def test_shares_are_those_of_the_other_implementation() -> None:
    small = shamir.split(0x0123456789ABCDEF, 2, [1, 2, 3], [5])
    assert {str(x): hex(y) for x, y in small.items()} == VECTORS["shares of 0x0123456789abcdef, t 2, coefficient 5"]
    large = shamir.split(shamir.P - 1, 3, [1, 2, 4], [shamir.P - 2, 7])
    named = {str(x): shamir.to_bytes(y).hex() for x, y in large.items()}
    assert named == VECTORS["shares of P-1, t 3, coefficients P-2, 7"]
    assert shamir.join(large) == shamir.P - 1


elements = st.one_of(st.sampled_from([0, 1, shamir.P - 1, 2**255]), st.integers(0, shamir.P - 1))


@settings(max_examples=40, deadline=None)
@given(elements, st.integers(1, 7), st.data())
def test_any_threshold_of_the_shares_gives_the_secret_and_fewer_do_not(
    secret: int, threshold: int, data: st.DataObject
) -> None:
    points = data.draw(st.lists(st.integers(1, 1000), min_size=threshold, max_size=9, unique=True))
    shares = shamir.split(secret, threshold, points)
    for chosen in list(combinations(points, threshold))[:5]:
        assert shamir.join({point: shares[point] for point in chosen}) == secret
    if threshold > 1:
        # By chance once in 2^256.
        assert shamir.join({point: shares[point] for point in points[: threshold - 1]}) != secret


def test_what_is_no_polynomial_or_share() -> None:
    for wrong in (
        lambda: shamir.split(shamir.P, 2, [1, 2]),
        lambda: shamir.split(-1, 2, [1, 2]),
        lambda: shamir.split(1, 2, [1, 1]),
        lambda: shamir.split(1, 2, [0, 1]),
        lambda: shamir.split(1, 0, [1]),
        lambda: shamir.split(1, 3, [1, 2, 3], [4]),
        lambda: shamir.from_bytes(b"1"),
        lambda: shamir.from_bytes(b"\xff" * 32),
    ):
        with pytest.raises(ValueError, match=r"."):
            wrong()
    assert shamir.from_bytes(shamir.to_bytes(shamir.P - 1)) == shamir.P - 1


# -- fixed point -------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_other_implementation() -> None:
    given = np.array([0, 1, -1, 0.5, -0.5, 2, -2, 1e-9, np.float32(0.1)], np.float32)
    found = FixedPoint(1.0, 32, 3).encode(given, 0.25)
    assert found.tolist() == VECTORS["fixed point, clip 1, 32 bits, 3 sites, weight 0.25"]
    found = FixedPoint(2.0, 24, 3).encode(given, 1.0)
    assert found.tolist() == VECTORS["fixed point, clip 2, 24 bits, 3 sites, weight 1"]


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from([24, 32]), st.floats(1e-3, 100), st.integers(1, 9))
def test_a_sum_is_right_to_the_last_bit_and_never_leaves_its_range(
    data: st.DataObject, bits: int, clip: float, sites: int
) -> None:
    """Judged by exact fractions of Python's: inputs at the clip and past it, all of one sign too."""
    extremes = st.sampled_from([clip, -clip, 2 * clip, -3e38, 3e38, 0.0, 1e-38])
    numbers = st.lists(st.one_of(extremes, st.floats(-clip, clip)).map(np.float32), min_size=sites, max_size=sites)
    counts = data.draw(st.lists(st.integers(1, 10**6), min_size=sites, max_size=sites))
    given, fixed = data.draw(numbers), FixedPoint(clip, bits, sites)
    weights = [count / sum(counts) for count in counts]
    total, exact = np.zeros(1, np.uint32), 0.0
    for number, weight in zip(given, weights, strict=True):
        total += fixed.encode(np.array([number], np.float32), weight)
        exact += max(-clip, min(clip, float(number))) * weight
    found = float(fixed.decode(total & fixed.mask, sum(weights))[0])
    step = clip / 2 ** (bits - 1)
    assert abs(found - exact / sum(weights)) <= step * sites + 1e-6 * abs(found) + 1e-45


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=9), st.sampled_from([24, 32]))
def test_packing_loses_nothing_but_what_does_not_count(numbers: list[int], bits: int) -> None:
    given = np.array(numbers, np.uint32)
    data = pack(given, bits)
    assert data.nbytes == packed_bytes(bits, len(numbers))
    assert (unpack(data, bits, len(numbers)) == given & np.uint32(2**bits - 1)).all()
    for wrong in (np.append(data, np.uint8(0)), data.astype(np.int8), data.reshape(1, -1)):
        with pytest.raises(FederationError, match=f"is not {len(numbers)} numbers of {bits} bits"):
            unpack(wrong, bits, len(numbers))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_cast(odd: float) -> None:
    update = np.zeros(CHUNK + 2, np.float32)
    update[-1] = odd
    with pytest.raises(FederationError, match="is not finite"):
        FixedPoint(1.0, 32, 3).encode(update, 0.5)
    with pytest.raises(FederationError, match="is not finite"):
        clipped(update, 1.0)


def test_an_update_is_scaled_to_the_clip_and_it_is_said() -> None:
    update = np.array([3e20, -4e20], np.float32)
    small, had_to = clipped(update, 2.0)
    assert had_to
    assert np.linalg.norm(small.astype(float)) == pytest.approx(2.0, rel=1e-6)
    assert small[0] / small[1] == pytest.approx(-0.75)
    same, had_to = clipped(small * np.float32(0.5), 2.0)
    assert not had_to
    assert same.tolist() == (small * np.float32(0.5)).tolist()


@pytest.mark.parametrize(
    ("clip", "bits", "sites", "words"),
    [
        (1.0, 16, 3, "secagg.bits: is no width of a number; of 24, 32"),
        (1.0, 33, 3, "secagg.bits"),
        (0.0, 32, 3, "secagg.clip: is no norm"),
        (math.nan, 32, 3, "secagg.clip"),
        (math.inf, 32, 3, "secagg.clip"),
        (1e-310, 32, 3, "secagg.clip"),
        (1e31, 24, 3, "secagg.clip"),
        (1.0, 32, 0, "is no number of sites"),
    ],
)
def test_what_cannot_be_written(clip: float, bits: int, sites: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FixedPoint(clip, bits, sites)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_is_a_share(weight: float) -> None:
    with pytest.raises(FederationError, match="weight"):
        FixedPoint(1.0, 32, 3).encode(np.zeros(1, np.float32), weight)
