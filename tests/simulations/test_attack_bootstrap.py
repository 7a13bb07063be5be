"""The cluster bootstrap: against SciPy's, and for its coverage on data whose mean is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from simulations.attacks.study.bootstrap import cluster_interval, expanded_tail


def test_it_is_scipys_percentile_bootstrap_at_widened_levels() -> None:
    values = np.random.default_rng(3).beta(8, 2, size=12)
    mine = cluster_interval(values, resamples=20_000)
    level = 1 - 2 * expanded_tail(12)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_the_widened_tail_is_students() -> None:
    # Hesterberg 2015, section "expanded percentile": for n = 10 a 95 % interval takes the 0.86 % and 99.14 % quantiles.
    assert expanded_tail(10) == pytest.approx(0.0086, abs=2e-4)
    assert expanded_tail(100_000) == pytest.approx(0.025, abs=1e-4)


@pytest.mark.parametrize("keys", [10, 20])
def test_it_covers_the_mean_about_as_often_as_it_says(keys: int) -> None:
    """Scores of a key move together: a mean of 100 images with a shared shift of their key."""
    rng = np.random.default_rng(keys)
    covered = 0
    trials = 600
    for trial in range(trials):
        shifts = rng.normal(0.6, 0.1, size=keys)
        scores = (shifts[:, None] + rng.normal(0, 0.2, size=(keys, 100))).mean(axis=1)
        low, high = cluster_interval(scores, resamples=1000, seed=trial)
        covered += low <= 0.6 <= high
    # Three standard errors of a share of 600 trials is 2.7 points.
    assert 0.92 <= covered / trials <= 0.98


def test_images_as_the_unit_would_cover_far_less() -> None:
    """Why the key is the unit: the naive interval over images misses the mean most of the time."""
    rng = np.random.default_rng(0)
    naive = clustered = 0
    for trial in range(100):
        images = rng.normal(0.6, 0.1, size=(10, 1)) + rng.normal(0, 0.05, size=(10, 40))
        low, high = cluster_interval(images.ravel(), resamples=300, seed=trial)
        naive += low <= 0.6 <= high
        low, high = cluster_interval(images.mean(axis=1), resamples=300, seed=trial)
        clustered += low <= 0.6 <= high
    assert naive < 50
    assert clustered > 85


def test_one_key_has_no_interval_and_undefined_scores_are_left_out() -> None:
    assert all(math.isnan(each) for each in cluster_interval([0.5]))
    assert all(math.isnan(each) for each in cluster_interval([0.5, math.nan]))
    assert cluster_interval([0.2, math.nan, 0.4, 0.3]) == cluster_interval([0.2, 0.4, 0.3])


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0, 31.7, 0.1 + 0.2])
def test_keys_that_score_alike_have_no_interval(score: float) -> None:
    """Ten that are all opened do not say that each will be."""
    assert all(math.isnan(each) for each in cluster_interval([score] * 10))
    assert all(math.isnan(each) for each in cluster_interval([score, score, math.nan]))
    assert not math.isnan(cluster_interval([score] * 9 + [score + 0.01]).low)
