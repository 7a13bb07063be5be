"""What a classifier is worth on labelled images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medveil.contract import measure_key
from medveil.measures import SMALLEST_PROBABILITY
from medveil.roc import area_under_roc


@dataclass(frozen=True)
class Measures:
    """Measurements on n images; NaN where undefined."""

    loss: float
    accuracy: float
    balanced_accuracy: float
    auroc: float
    n: int

    def as_metrics(self, phase: str) -> dict[str, float]:
        """The measures under the keys of the contract, for a Flower MetricRecord."""
        return {
            measure_key(phase, "loss"): self.loss,
            measure_key(phase, "accuracy"): self.accuracy,
            measure_key(phase, "balanced-accuracy"): self.balanced_accuracy,
            measure_key(phase, "auroc"): self.auroc,
            measure_key(phase, "n"): float(self.n),
        }


def measure(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], *, least: float = SMALLEST_PROBABILITY
) -> Measures:
    """Measure class probabilities against labels.

    Parameters
    ----------
    labels
        (n,) class indices.
    probabilities
        (n, K), rows summing to 1.
    least
        Probabilities below it count as it in the loss.

    Returns
    -------
    Measures
        Cross-entropy loss (nats), accuracy, balanced accuracy (mean recall over classes present) and AUROC (binary: of
        class 1; otherwise one-vs-rest, macro over the classes present). AUROC is NaN where only one class is present.
    """
    n = len(labels)
    if n == 0:
        return Measures(float("nan"), float("nan"), float("nan"), float("nan"), 0)
    picked = np.clip(probabilities[np.arange(n), labels].astype(np.float64), least, None)
    predicted = probabilities.argmax(1)
    of_class, right = np.bincount(labels), np.bincount(labels, weights=predicted == labels)
    balanced = float(np.mean(right[of_class > 0] / of_class[of_class > 0]))
    return Measures(
        loss=float(-np.log(picked).mean()),
        accuracy=float((predicted == labels).mean()),
        balanced_accuracy=balanced,
        auroc=auroc(labels, probabilities),
        n=n,
    )


def auroc(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]) -> float:
    """Area under the ROC curve; see `measure`. NaN where only one class is present or a score is not finite."""
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    if not np.isfinite(probabilities).all():
        return float("nan")
    if probabilities.shape[1] == 2:
        return area_under_roc(labels == 1, probabilities[:, 1])
    return float(np.mean([area_under_roc(labels == each, probabilities[:, each]) for each in present]))


def majority_rate(labels: npt.NDArray[np.int64]) -> float:
    """Accuracy of always answering the most frequent class of `labels`; NaN for none."""
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else float("nan")
