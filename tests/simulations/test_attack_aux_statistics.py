"""aux-statistics: blocks find their places by moments of a public set, where images have places at all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from crypto.base import Geometry
from simulations.attacks.ciphertext.aux_statistics import AuxStatistics, BlockMoments, block_moments, match, named
from simulations.attacks.solvers.blocks import cut
from simulations.attacks.solvers.layout import Layout
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


@pytest.mark.parametrize(("negate", "channels"), [(True, 1), (True, 3)])
def test_aligned_images_are_opened_upright(attack_setting: Make, negate: bool, channels: int) -> None:
    """No orientation, polarity or channel is left to choose: SSIM is taken as it comes."""
    setting = attack_setting(negate=negate, channels=channels, aligned=True, level=90, n=240, images=20, keys=3)
    result = measure(AuxStatistics(images=(10, 100)), setting).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["blocks_exact_100"].target > 0.9
    assert metrics["in_block_within_1_100"].target > 0.9
    assert metrics["ssim_100"].target > 0.9 > metrics["ssim_100"].chance


def test_random_ciphertexts_and_images_without_places_give_chance(attack_setting: Make) -> None:
    hidden = measure(AuxStatistics(images=(60,)), attack_setting("aes-ctr", aligned=True, n=240, keys=3)).result
    assert hidden.verdict == "at chance"
    assert hidden.metrics["ssim_60"].target < hidden.metrics["ssim_60"].chance
    loose = measure(AuxStatistics(images=(10,)), attack_setting(keys=3)).result
    assert loose.verdict == "broken attack"
    assert loose.metrics["blocks_exact_10"].target < 0.4


def test_block_moments_are_those_of_a_slow_reading() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 2, 8, 12), dtype=np.uint8)
    made = block_moments(images, 4)
    means, spreads = np.empty((2, 30, 6))
    for i, j in np.ndindex(30, 6):
        row, column = divmod(j, 3)
        block = images[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].astype(float)
        means[i, j], spreads[i, j] = block.mean(), block.std()
    flips = np.random.default_rng(1).random(32) < 0.5
    flipped = cut(images, 4)
    flipped[..., flips] = 255 - flipped[..., flips]
    turned = Geometry(channels=2, height=8, width=12, block=4).join(flipped)
    again = block_moments(turned, 4, flips=flips)
    assert all(np.allclose(one, other, atol=1e-3) for one, other in zip(made, again, strict=True))
    assert made.own[:, :4] == pytest.approx(
        np.stack([means.mean(0), means.std(0), spreads.mean(0), spreads.std(0)], axis=1), rel=1e-4
    )
    assert made.means == pytest.approx(np.corrcoef(means.T), abs=1e-4)
    assert made.spreads == pytest.approx(np.corrcoef(spreads.T), abs=1e-4)


def _moments(values: np.ndarray, noise: float, rng: np.random.Generator) -> BlockMoments:
    own = rng.normal(0, 1, (len(values), 1))
    table = values @ values.T + rng.normal(0, noise, (len(values),) * 2)
    return BlockMoments(own, (table + table.T) / 2, np.eye(len(values)))


def test_correlations_place_what_own_moments_cannot() -> None:
    """Own moments are noise here; what blocks share with each other decides, from a start that is partly right."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 6)) / np.sqrt(6)
    public = _moments(values, 0.01, rng)
    order = rng.permutation(30)
    hidden = BlockMoments(
        public.own[order] + 0.3 * rng.normal(size=(30, 1)), *(t[np.ix_(order, order)] for t in public[1:])
    )
    alone = np.abs(hidden.own - public.own.T).argmin(axis=1)
    assert np.mean(alone == order) < 0.7
    assert np.array_equal(match(hidden, public), order)


def test_channels_get_their_names_and_polarity_from_public_tones() -> None:
    shape = Geometry(channels=3, height=8, width=8, block=2)
    true = np.repeat([0, 1, 2], 4)
    mask = np.random.default_rng(0).random(12) < 0.5
    tones = np.array([200.0, 120.0, 180.0])
    means = np.where(mask, 255 - tones[true], tones[true])
    for order in permutations(range(3)):
        for negative in (False, True):
            given = Layout(np.array(order)[true], np.tile(np.arange(4), 3), mask ^ negative)
            found = named(given, means, tones, shape, negate=True)
            assert np.array_equal(found.channel, true)
            assert np.array_equal(found.mask, mask)
