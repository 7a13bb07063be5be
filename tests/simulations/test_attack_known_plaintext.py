"""known-plaintext: it opens its control and block-pixel from one pair, and a cipher with nonces not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.base import StemPermutation
from crypto.cipher import SCHEMES
from simulations.attacks.ciphertext.known_plaintext import KnownPlaintext, shares_guessed, shares_recovered
from simulations.attacks.solvers.blocks import cut
from simulations.attacks.solvers.matching import UNKNOWN, match_columns, pair_equals, recover_key, unique_matches
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


@pytest.mark.parametrize("negate", [False, True])
def test_one_pair_gives_the_key_and_other_images(attack_setting: Make, negate: bool) -> None:
    result = measure(KnownPlaintext(pairs=(1, 2)), attack_setting(negate=negate)).result
    assert result.verdict == "succeeds"
    metrics = result.metrics
    for name in ("in_block_recovered_1", "blocks_recovered_1", "ssim_of_others_1"):
        assert metrics[name].target == pytest.approx(1.0)
        assert metrics[name].control == pytest.approx(1.0)
        assert metrics[name].chance < 0.5
    assert metrics["in_block_exact_2"].target == metrics["blocks_exact_2"].target == 1.0
    assert metrics["in_block_recovered_1"].wrong_key < 0.1
    assert metrics["ssim_of_others_1"].wrong_key < 0.2


def test_random_ciphertexts_score_chance(attack_setting: Make) -> None:
    result = measure(KnownPlaintext(pairs=(1,)), attack_setting("aes-ctr")).result
    assert result.verdict == "at chance"
    assert result.metrics["ssim_of_others_1"].target < 0.1
    assert result.metrics["in_block_recovered_1"].target is None


@pytest.mark.parametrize("scheme", ["per-block", "etc", "pixel-wise", "orthogonal"])
@pytest.mark.parametrize("channels", [1, 3])
def test_schemes_of_other_structures_fall_as_well(attack_setting: Make, scheme: str, channels: int) -> None:
    if scheme not in SCHEMES:
        pytest.skip(f"{scheme} is not in this MedVeil")
    setting = attack_setting(scheme, negate=True, block=4, channels=channels, keys=3)
    result = measure(KnownPlaintext(pairs=(1, 8)), setting).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["ssim_of_others_8"].target > 0.95
    assert metrics["ssim_of_others_8"].wrong_key < 0.3
    if scheme != "pixel-wise":
        assert metrics["blocks_exact_8"].target == 1.0
    # A wrong key is a random one: where a share of it is defined, it is chance.
    for name in ("in_block_exact_8", "blocks_exact_8"):
        if metrics[name].chance is not None:
            assert metrics[name].wrong_key == pytest.approx(metrics[name].chance, abs=0.06)
    if scheme in {"etc", "pixel-wise"}:
        # A state is looked up in a short list: one pair nearly does.
        assert metrics["values_of_others_1"].target > 0.9


def _hide(plain: np.ndarray, key: StemPermutation) -> np.ndarray:
    moved = plain[:, key.pi][..., key.rho]
    return np.where(key.mask, 255 - moved, moved).astype(np.uint8)


def _key(rng: np.random.Generator, n: int, length: int, *, negate: bool) -> StemPermutation:
    mask = rng.random(length) < 0.5 if negate else np.zeros(length, bool)
    return StemPermutation(rng.permutation(length), rng.permutation(n), mask)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(2, 12), st.integers(2, 20)),
    levels=st.sampled_from([2, 5, 256]),
    negate=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_key_found_explains_the_pairs_whenever_blocks_can_be_told_apart(
    sizes: tuple[int, int, int], levels: int, negate: bool, seed: int
) -> None:
    """Few grey levels make equal columns and blocks; the key may differ then, its effect on the pairs may not."""
    rng = np.random.default_rng(seed)
    _, n, length = sizes
    plain = rng.integers(0, levels, sizes).astype(np.uint8)
    key = _key(rng, n, length, negate=negate)
    hidden = _hide(plain, key)
    found = recover_key(plain, hidden, largest=255, negate=negate, rng=rng)
    assert sorted(found.rho) == list(range(length))
    assert sorted(found.pi) == list(range(n))
    folded = np.sort(np.abs(2 * plain.astype(int) - 255) if negate else plain, axis=2)
    distinct = len({block.tobytes() for block in folded.transpose(1, 0, 2)}) == n
    if distinct:
        assert np.array_equal(_hide(plain, found), hidden)
        shares = shares_recovered(found, key, plain, largest=255)
        assert (shares["in_block_recovered"], shares["blocks_recovered"]) == (1.0, 1.0)


def test_blocks_with_equal_multisets_are_told_apart_by_their_content() -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 256, (1, 12, 16)).astype(np.uint8)
    # Blocks 3 and 7 hold the same values in another order.
    plain[0, 7] = plain[0, 3][::-1]
    key = _key(rng, 12, 16, negate=True)
    found = recover_key(plain, _hide(plain, key), largest=255, negate=True, rng=rng)
    assert np.array_equal(found.pi, key.pi)
    assert np.array_equal(found.rho, key.rho)
    assert np.array_equal(found.mask, key.mask)


def test_equals_are_not_found_by_their_place() -> None:
    """All blocks black: there is nothing to find, and pairing equals in order would find the identity."""
    plain = np.zeros((1, 40, 16), np.uint8)
    found = recover_key(plain, plain, largest=255, negate=False, rng=np.random.default_rng(0))
    assert np.mean(found.pi == np.arange(40)) < 0.3
    assert np.mean(found.rho == np.arange(16)) < 0.5


def test_a_few_changed_values_do_not_stop_it() -> None:
    """Lossy pairs match nowhere exactly; distances decide."""
    rng = np.random.default_rng(1)
    plain = rng.integers(0, 256, (4, 20, 12)).astype(np.uint8)
    key = _key(rng, 20, 12, negate=True)
    hidden = np.clip(_hide(plain, key).astype(int) + rng.integers(-2, 3, plain.shape), 0, 255).astype(np.uint8)
    found = recover_key(plain, hidden, largest=255, negate=True, rng=rng)
    assert np.array_equal(found.pi, key.pi)
    assert np.array_equal(found.rho, key.rho)
    assert np.array_equal(found.mask, key.mask)


def test_shares_by_hand() -> None:
    """Two equal channels: swapping them is no error; a wrong flip is."""
    one = np.random.default_rng(0).integers(0, 256, (1, 6, 4)).astype(np.uint8)
    plain = np.concatenate([one, one], axis=2)
    true = StemPermutation(np.arange(8), np.arange(6), np.zeros(8, bool))
    swapped = StemPermutation(np.r_[4:8, 0:4], np.arange(6), np.zeros(8, bool))
    assert shares_recovered(swapped, true, plain, largest=255)["in_block_recovered"] == 1.0
    assert shares_recovered(swapped, true, plain, largest=255)["in_block_exact"] == 0.0
    flipped = StemPermutation(np.arange(8), np.arange(6), np.arange(8) < 2)
    assert shares_recovered(flipped, true, plain, largest=255)["in_block_recovered"] == 0.75
    guessed = shares_guessed(plain, largest=255, negate=True)
    assert guessed["in_block_recovered"] == pytest.approx(0.5 * 2 / 8)
    assert guessed["in_block_exact"] == pytest.approx(1 / 16)
    assert guessed["blocks_recovered"] == pytest.approx(1 / 6)


def test_the_expected_shares_are_what_random_keys_score() -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 2, (1, 5, 6)).astype(np.uint8) * 255
    true = _key(rng, 5, 6, negate=True)
    drawn = [shares_recovered(_key(rng, 5, 6, negate=True), true, plain, largest=255) for _ in range(4000)]
    expected = shares_guessed(plain, largest=255, negate=True)
    for name, value in expected.items():
        assert np.mean([each[name] for each in drawn]) == pytest.approx(value, abs=0.02)


def test_helpers() -> None:
    plain, hidden = np.array([0, 1, 1, 2, 4]), np.array([2, 1, 0, 1, 3])
    assert unique_matches(plain, hidden).tolist() == [3, UNKNOWN, 0, UNKNOWN, UNKNOWN]
    paired = pair_equals(plain, hidden, rng=np.random.default_rng(0))
    assert paired[[0, 2, 4]].tolist() == [3, 0, UNKNOWN]
    assert sorted(paired[[1, 3]].tolist()) == [1, 2]


def test_sixteen_bits_match_as_eight_do() -> None:
    rng = np.random.default_rng(2)
    plain = rng.integers(0, 4096, (1, 8, 10)).astype(np.uint16)
    rho, mask = rng.permutation(10), rng.random(10) < 0.5
    hidden = np.where(mask, 4095 - plain[..., rho], plain[..., rho]).astype(np.uint16)
    found = match_columns(plain, hidden, largest=4095, negate=True, rng=rng)
    assert np.array_equal(found.rho, rho)
    assert np.array_equal(found.mask, mask)
    assert cut(np.zeros((1, 1, 4, 4)), 2).shape == (1, 4, 4)
