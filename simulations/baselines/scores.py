"""From the scores of a classifier without probabilities to probabilities: one temperature, fitted on validation images.

The class named stays the one with the largest score. No test image is looked at, and no training image, whose scores
are those of images the classifier remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fl_client.export.calibration import fit_temperature, probabilities_of
from simulations.baselines.pooled import Pooled, PooledPart, Probabilities

Scores = npt.NDArray[np.float64]
_NEVER = 30.0
"""How much lower than its lowest other score a class is held that no image was trained on."""


class Classifier(Protocol):
    """What gives scores."""

    def scores(self, part: PooledPart) -> Scores:
        """Scores (n, K) of a part's images, larger for likelier classes, of about the size of logits."""


@dataclass(frozen=True)
class Answers:
    """Class probabilities (n, K) of the validation and the test images, and how they came to be, for the manifest."""

    validation: Probabilities
    test: Probabilities
    chosen: dict[str, object]


def calibrated(classifier: Classifier, pooled: Pooled, *, chosen: dict[str, object]) -> Answers:
    """Probabilities of the validation and test images of a run."""
    validation, test = (classifier.scores(part) for part in (pooled.validation, pooled.test))
    temperature = fit_temperature(validation, pooled.validation.labels, pooled.groups(pooled.validation))
    made = [probabilities_of(each, temperature).astype(np.float32) for each in (validation, test)]
    return Answers(made[0], made[1], {**chosen, "temperature": round(temperature, 4)})


def of_all_classes(scores: Scores, present: npt.NDArray[np.int64], classes: int) -> Scores:
    """Scores (n, classes) of scores (n, present): a class that was not trained on is never named."""
    lowest = scores.min(axis=1, initial=0.0) - _NEVER
    made: Scores = np.repeat(lowest[:, None], classes, axis=1)
    made[:, present] = scores
    return made
