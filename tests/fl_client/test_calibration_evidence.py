"""A temperature is fitted on evidence alone: in expectation no worse than none, whatever the model and however few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from fl_client.export.calibration import FEWEST, calibrate, calibration_error, fit_temperature, reliability
from fl_client.intervals import share_interval
from fl_client.leaving import Leaving

DRAWS = 40
NONE = (np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def drawn(rng: np.random.Generator, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 2) that are right after division by `temperature`, and labels."""
    true = rng.normal(0, 2, (n, 2))
    return true * temperature, (rng.random(n) < np.exp(log_softmax(true, axis=1))[:, 1]).astype(np.int64)


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.25, 3.0])
@pytest.mark.parametrize("n", [5, 13, 30, 100, 1000])
def test_no_worse_than_uncalibrated_in_expectation(n: int, temperature: float) -> None:
    rng = np.random.default_rng([n, int(100 * temperature)])
    judge = drawn(rng, 4000, temperature)
    found = [fit_temperature(*drawn(rng, n, temperature)) for _ in range(DRAWS)]
    gained = [loss(*judge, 1.0) - loss(*judge, each) for each in found]
    assert np.mean(gained) >= -0.003
    if n == 1000 and temperature in {0.5, 3.0}:
        assert np.median(found) == pytest.approx(temperature, rel=0.15)


@pytest.mark.parametrize("n", [10, 13, 19, 25, 40])
def test_images_that_are_all_right_make_no_model_certain(n: int) -> None:
    logits = np.tile([2.6, 0.0], (n, 1))
    made = calibrate((logits, np.zeros(n, dtype=np.int64)), NONE)
    sure = np.exp(log_softmax(logits[:1] / made.temperature, axis=1))[0, 0]
    assert sure < 0.9999
    if n < FEWEST:
        assert made.temperature == 1.0


def test_copies_of_one_patient_are_no_more_evidence_than_the_patient() -> None:
    rng = np.random.default_rng(0)
    logits, labels = drawn(rng, 30, 4.0)
    copied, named = (np.repeat(logits, 20, axis=0), np.repeat(labels, 20)), np.repeat(np.arange(30), 20)
    assert fit_temperature(*copied, named) == pytest.approx(fit_temperature(logits, labels), rel=1e-3)
    assert fit_temperature(*copied, np.repeat(np.arange(10), 60)) == 1.0


def test_bins_count_their_answers_and_make_the_error() -> None:
    rng = np.random.default_rng(1)
    logits, labels = drawn(rng, 300, 2.0)
    said = np.exp(log_softmax(logits, axis=1))
    bins = reliability(said, labels)
    assert sorted(np.concatenate([each.rows for each in bins]).tolist()) == list(range(300))
    error = sum(len(each.rows) * abs(each.accuracy - each.confidence) for each in bins) / 300
    assert calibration_error(said, labels) == pytest.approx(error)
    assert reliability(*NONE) == []


def test_a_share_of_few_images_does_not_leave_a_real_site() -> None:
    assert Leaving(10).share(0.93, 39) is None
    assert Leaving(10).share(0.93, 40) == 1.0
    assert Leaving(1).share(0.93, 3) == 0.93


def test_few_groups_have_no_interval() -> None:
    assert np.isnan(share_interval([1, 1, 0, 1], [0, 1, 2, 3]).low)
    low, high = share_interval(np.ones(12), np.arange(12))
    assert low < 0.8 and high == 1.0
