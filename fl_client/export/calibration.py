"""Temperature scaling: one number that makes a classifier's probabilities mean what they say.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599): logits are
divided by a temperature T fitted on validation images by their negative log-likelihood. No prediction changes, only how
sure it is. The expected calibration error is theirs too: over 15 equal bins of confidence, the mean distance between
accuracy and confidence, weighted by the images in the bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
SMALLEST, LARGEST = 0.05, 20.0
FEWEST = 10
"""Fewer validation images than this fit nothing: the temperature stays 1."""
_TINY = 1e-38

Logits = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """A temperature, on how many validation images it was fitted, and what it did to the calibration error.

    The errors are None where there were no images to measure them on.
    """

    temperature: float
    n: int
    validation_before: float | None
    validation_after: float | None
    test_before: float | None
    test_after: float | None


def as_logits(probabilities: npt.NDArray[np.float32]) -> Logits:
    """Logits (n, K) of class probabilities: their logarithms, the same but for a constant of each row."""
    made: Logits = np.log(np.clip(probabilities.astype(np.float64), _TINY, None))
    return made


def probabilities_of(logits: npt.NDArray[np.floating], temperature: float) -> Logits:
    """Class probabilities (n, K) of logits at a temperature."""
    made: Logits = np.exp(log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))
    return made


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature of least negative log-likelihood, between 0.05 and 20; 1 for fewer than ten images."""
    if len(labels) < FEWEST:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=(math.log(SMALLEST), math.log(LARGEST)), method="bounded")
    return float(math.exp(found.x)) if found.fun < loss(0.0) else 1.0


def calibration_error(probabilities: npt.NDArray[np.floating], labels: Labels) -> float | None:
    """Expected calibration error of the predicted classes, 0 to 1; None without images."""
    if not len(labels):
        return None
    confidence = probabilities.max(1)
    hits = probabilities.argmax(1) == labels
    # Bins are open to the left, as in the paper; a confidence of 0 cannot be a largest one.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = [abs(float((hits[bins == each] - confidence[bins == each]).sum())) for each in np.unique(bins)]
    return sum(gaps) / len(labels)


def calibrate(validation: tuple[Logits, Labels], test: tuple[Logits, Labels]) -> Calibration:
    """Fit the temperature on validation images, and measure it on them and on test images, which it has not seen."""
    temperature = fit_temperature(*validation)
    errors = [
        calibration_error(probabilities_of(logits, t), labels)
        for logits, labels in (validation, test)
        for t in (1.0, temperature)
    ]
    return Calibration(temperature, len(validation[1]), *errors)
