"""statistics: each measure by a slow reading, the known ideals, and what permutations and keystreams give."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from simulations.attacks.diagnostics import randomness
from simulations.attacks.diagnostics.statistics import Statistics, one_value_changed
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


def _images(n: int, *shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (n, *shape), dtype=dtype)


def test_ideals_and_critical_values_are_those_published() -> None:
    size = 256 * 256
    npcr = randomness.ideal_npcr(size, largest=255)
    assert (round(npcr.mean, 4), round(npcr.low, 4)) == (99.6094, 99.5693)
    uaci = randomness.ideal_uaci(size, largest=255)
    assert (round(uaci.mean, 4), round(uaci.low, 4), round(uaci.high, 4)) == (33.4635, 33.2824, 33.6447)
    assert round(randomness.ideal_chi_square().high, 2) == 293.25
    assert round(randomness.ideal_entropy(size), 4) == 7.9972


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_random_images_lie_within_the_bounds_as_often_as_they_say(dtype: type) -> None:
    first, second = _images(2000, 1, 16, 16, dtype=dtype), _images(2000, 1, 16, 16, seed=1, dtype=dtype)
    largest = int(np.iinfo(dtype).max)
    rates, changes = randomness.npcr(first, second), randomness.uaci(first, second, largest=largest)
    within = randomness.share_within(changes, randomness.ideal_uaci(256, largest=largest))
    assert within == pytest.approx(0.95, abs=0.02)
    assert rates.mean() == pytest.approx(randomness.ideal_npcr(256, largest=largest).mean, abs=0.03)
    large = _images(40, 1, 128, 128, dtype=dtype)
    assert randomness.entropy(large).mean() == pytest.approx(randomness.ideal_entropy(128**2), abs=1e-3)
    assert randomness.chi_square(large).mean() == pytest.approx(255, abs=15)
    assert abs(randomness.neighbour_correlation(large, down=1, right=1)).mean() < 0.02


def test_measures_are_those_of_a_slow_reading() -> None:
    first, second = _images(3, 2, 9, 7), _images(3, 2, 9, 7, seed=1)
    first[:, :, 0] //= 3
    for i in range(3):
        counts = np.bincount(first[i].ravel(), minlength=256)
        assert randomness.entropy(first)[i] == pytest.approx(stats.entropy(counts, base=2))
        assert randomness.chi_square(first)[i] == pytest.approx(stats.chisquare(counts).statistic)
        pairs = [(first[i, c, y, x], first[i, c, y + 1, x + 1]) for c in range(2) for y in range(8) for x in range(6)]
        slow = stats.pearsonr(*np.array(pairs, float).T).statistic
        assert randomness.neighbour_correlation(first, down=1, right=1)[i] == pytest.approx(slow)
        a, b = first[i].ravel().tolist(), second[i].ravel().tolist()
        differ = sum(x != y for x, y in zip(a, b, strict=True)) / len(a)
        assert randomness.npcr(first, second)[i] == pytest.approx(100 * differ)
        distance = sum(abs(x - y) / 255 for x, y in zip(a, b, strict=True)) / len(a)
        assert randomness.uaci(first, second, largest=255)[i] == pytest.approx(100 * distance)


def test_an_image_without_contrast_has_no_correlation() -> None:
    assert math.isnan(randomness.neighbour_correlation(np.full((1, 1, 4, 4), 7, np.uint8), down=0, right=1)[0])


def test_one_bit_of_one_value_changes() -> None:
    images = _images(5, 3, 8, 8)
    changed = one_value_changed(images, np.random.default_rng(0))
    different = (images != changed).reshape(5, -1)
    assert different.sum(axis=1).tolist() == [1] * 5
    assert set((images ^ changed)[images != changed].tolist()) == {1}
    assert len(set(different.argmax(axis=1).tolist())) > 1


def test_a_permutation_keeps_the_histogram_and_spreads_nothing(attack_setting: Make) -> None:
    result = measure(Statistics(), attack_setting(keys=3)).result
    metrics = result.metrics
    assert result.verdict == "diagnostic"
    for name in ("entropy", "chi_square"):
        assert metrics[name].target == pytest.approx(metrics[name].control)
    assert metrics["npcr_one_pixel"].target == pytest.approx(100 / 32**2)
    assert metrics["uaci_one_pixel"].target == pytest.approx(100 / 255 / 32**2)
    assert metrics["npcr_one_pixel_within"].target == metrics["chi_square_within"].target == 0
    assert metrics["npcr_two_keys"].target < metrics["npcr_two_keys"].chance
    assert metrics["npcr_two_keys"].control == 0
    assert metrics["correlation_horizontal"].target < 0.6 < metrics["correlation_horizontal"].control
    assert metrics["npcr_one_nonce"].target is None
    assert "cannot meet" in result.text
    assert "proves nothing" in result.text


def test_a_keystream_scores_as_random_values_do(attack_setting: Make) -> None:
    """With a nonce for each ciphertext; under one nonce one value changes."""
    metrics = measure(Statistics(), attack_setting("aes-ctr", keys=3, images=20)).result.metrics
    for name in ("entropy", "npcr_one_pixel", "uaci_one_pixel", "npcr_two_keys", "uaci_two_keys"):
        assert metrics[name].target == pytest.approx(metrics[name].chance, rel=0.02)
    for name in ("chi_square_within", "npcr_one_pixel_within", "uaci_two_keys_within"):
        assert metrics[name].target >= 0.8
    assert abs(metrics["correlation_diagonal"].target) < 0.02
    assert metrics["npcr_one_nonce"].target == pytest.approx(100 / 32**2)
