"""chosen-plaintext: exact for every fixed moving and negating of values, chance for a cipher with nonces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.base import Geometry
from crypto.cipher import SCHEMES
from simulations.attacks.ciphertext.chosen_plaintext import ChosenPlaintext, decisive_helpers
from simulations.attacks.solvers.blocks import SignedPermutation, cut
from simulations.attacks.solvers.digits import by_digits
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


@pytest.mark.parametrize("negate", [False, True])
def test_it_is_exact_and_says_how_many_images_that_took(attack_setting: Make, negate: bool) -> None:
    result = measure(ChosenPlaintext(), attack_setting(negate=negate, keys=3)).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["values_right"].target == metrics["values_right_any"].target == 1.0
    assert metrics["ssim_of_others"].target == pytest.approx(1.0)
    # 1024 values: 2 digits of base 128 or 256. Blocks of 64 values, 16 of them, in one image of noise.
    assert metrics["helpers_any"].target == 2.0
    assert metrics["helpers"].target == 1.0
    assert metrics["values_right"].wrong_key < 0.02
    assert metrics["helpers"].chance is None


def test_random_ciphertexts_score_chance(attack_setting: Make) -> None:
    result = measure(ChosenPlaintext(), attack_setting("aes-ctr", keys=3)).result
    assert result.verdict == "at chance"
    assert result.metrics["values_right"].target == pytest.approx(1 / 256, abs=0.003)


@settings(max_examples=50, deadline=None)
@given(
    shape=st.builds(
        lambda channels, rows, columns, block: Geometry(
            channels=channels, height=rows * block, width=columns * block, block=block
        ),
        st.sampled_from([1, 3]),
        st.integers(1, 4),
        st.integers(1, 4),
        st.sampled_from([1, 2, 5]),
    ),
    negate=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_digits_give_any_signed_permutation_exactly(shape: Geometry, negate: bool, seed: int) -> None:
    """Whatever its structure: the permutation here has none."""
    rng = np.random.default_rng(seed)
    size = shape.blocks * shape.block_length
    true = SignedPermutation(rng.permutation(size), rng.random(size) < (0.5 if negate else 0.0))
    asked = 0

    def hide(images: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(images)
        moved = images.reshape(len(images), -1)[:, true.source]
        return np.where(true.flips, 255 - moved, moved).reshape(images.shape)

    found = by_digits(hide, shape, negate=negate)
    assert np.array_equal(found.source, true.source)
    assert np.array_equal(found.flips, true.flips)
    # The fewest: numbers below base**asked cover all values, those below base**(asked - 1) do not.
    base = 128 if negate else 256
    assert base ** (asked - 1) < size <= base**asked or (asked, size) == (1, 1)


@pytest.mark.parametrize(("side", "block", "negate", "images"), [(64, 16, True, 1), (8, 8, True, 2), (8, 8, False, 1)])
def test_helpers_are_as_few_as_tell_everything_apart(side: int, block: int, negate: bool, images: int) -> None:
    """One block of 64 values below 128 holds equals, nearly always, and a second image tells them apart."""
    shape = Geometry(channels=1, height=side, width=side, block=block)
    helpers = decisive_helpers(shape, negate=negate, rng=np.random.default_rng(4))
    assert helpers is not None
    assert len(helpers) >= images
    columns = cut(helpers, block).transpose(2, 0, 1).reshape(block**2, -1)
    assert len({tuple(each) for each in columns.tolist()}) == block**2
    assert helpers.max() < (128 if negate else 256)


@pytest.mark.parametrize(("scheme", "helpers"), [("per-block", 2), ("etc", 2), ("pixel-wise", 2), ("orthogonal", 4)])
def test_schemes_of_other_structures_are_read_exactly(attack_setting: Make, scheme: str, helpers: int) -> None:
    """1024 values are 2 digits; 64 directions are 4 images of 16 blocks, or 5 where those fall short."""
    if scheme not in SCHEMES:
        pytest.skip(f"{scheme} is not in this MedVeil")
    metrics = measure(ChosenPlaintext(), attack_setting(scheme, negate=True, keys=3)).result.metrics
    assert metrics["values_right"].target == 1.0
    assert helpers <= metrics["helpers"].target <= helpers + 1
    # Two keys of pixel-wise agree on every other value of a grey image.
    assert metrics["values_right"].wrong_key < (0.6 if scheme == "pixel-wise" else 0.03)
