"""Temperature scaling: one number that makes a classifier's probabilities mean what they say.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599): logits are
divided by a temperature T fitted on validation images by their negative log-likelihood. No prediction changes, only how
sure it is. The expected calibration error is theirs too: over 15 equal bins of confidence, the mean distance between
accuracy and confidence, weighted by the images in the bin.

Few images say little of T, and where all answers are right the likelihood is largest at T = 0. So here T has a prior,
log T normal around 0 with the deviation `PRIOR`, as wide as one would expect before any image was seen; and it is 1
unless the images are better explained by another, by a likelihood ratio test at 1 %. Images that belong together count
together as no more than one independent image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from fl_client.intervals import even_size

BINS = 15
SMALLEST, LARGEST = 0.05, 20.0
FEWEST = 20
"""Fewer validation images (or groups of them) than this fit nothing: the temperature stays 1."""
PRIOR = 0.5
"""Standard deviation of log T before an image was seen: 95 in 100 temperatures lie between .38 and 2.7."""
EVIDENCE = NormalDist().inv_cdf(1 - 0.01 / 2) ** 2
"""Twice the log-likelihood that a temperature must gain over 1: chi-squared of one degree of freedom, at 1 %."""
_TINY = 1e-38

Logits = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Groups = npt.NDArray[Any]


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


def fit_temperature(logits: Logits, labels: Labels, groups: Groups | None = None) -> float:
    """The temperature that validation images ask for, as the module says; 1 where they ask for none.

    Parameters
    ----------
    groups
        (n,) what names the group of each image; None: each is on its own.
    """
    n = len(labels)
    independent = n if groups is None else even_size(np.unique(groups, return_counts=True)[1])
    if independent < FEWEST:
        return 1.0
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - slow to import, and few ask

    weight = independent / n

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / math.exp(log_temperature), axis=1)
        return weight * float(-scaled[np.arange(n), labels].sum())

    def beside_the_prior(log_temperature: float) -> float:
        return loss(log_temperature) + log_temperature**2 / (2 * PRIOR**2)

    found = minimize_scalar(beside_the_prior, bounds=(math.log(SMALLEST), math.log(LARGEST)), method="bounded")
    gained = 2 * (loss(0.0) - loss(found.x))
    return float(math.exp(found.x)) if gained > EVIDENCE else 1.0


class Bin(NamedTuple):
    """Answers that were about equally sure: their bounds and rows, how sure they are and how many are right."""

    low: float
    high: float
    rows: npt.NDArray[np.int64]
    confidence: float
    accuracy: float


def reliability(probabilities: npt.NDArray[np.floating], labels: Labels, *, bins: int = BINS) -> list[Bin]:
    """The bins that hold an answer, of `bins` of equal width over the probability of the class it names."""
    confidence = probabilities.max(1) if len(labels) else np.zeros(0)
    hits = probabilities.argmax(1) == labels if len(labels) else np.zeros(0, dtype=bool)
    # Bins are open to the left, as in the paper; a confidence of 0 cannot be a largest one.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    made = []
    for each in np.unique(place).tolist():
        rows = np.flatnonzero(place == each)
        made.append(Bin(each / bins, (each + 1) / bins, rows, float(confidence[rows].mean()), float(hits[rows].mean())))
    return made


def calibration_error(probabilities: npt.NDArray[np.floating], labels: Labels) -> float | None:
    """Expected calibration error of the predicted classes, 0 to 1; None without images."""
    if not len(labels):
        return None
    found = reliability(probabilities, labels)
    return sum(len(each.rows) * abs(each.accuracy - each.confidence) for each in found) / len(labels)


def calibrate(
    validation: tuple[Logits, Labels], test: tuple[Logits, Labels], *, groups: Groups | None = None
) -> Calibration:
    """Fit the temperature on validation images, and measure it on them and on test images, which it has not seen.

    Parameters
    ----------
    groups
        Of the validation images, as `fit_temperature` takes them.
    """
    temperature = fit_temperature(*validation, groups)
    errors = [
        calibration_error(probabilities_of(logits, t), labels)
        for logits, labels in (validation, test)
        for t in (1.0, temperature)
    ]
    return Calibration(temperature, len(validation[1]), *errors)
