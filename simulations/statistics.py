"""What a measured difference or a measured score is worth: intervals, agreement, equivalence.

Everything here works on *predictions*, per image, because sites and seeds often predict the same images: counting each
such prediction as a fresh observation would make every interval too narrow. The unit that is resampled is the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import confusion_matrix

from medveil.errors import DataError
from medveil.files import read_json, write_json
from medveil.shapes import check_shape
from simulations.predictions import Floats, Ints, Predictions, Runs, Sites, load_predictions
from simulations.resampling import (
    METRICS,
    Metric,
    accuracies,
    aurocs,
    balanced_accuracies,
    design_of,
    image_of_each,
    means,
    resamples,
)

RESAMPLES = 1000


class Interval(NamedTuple):
    """A confidence interval; NaN where the quantity is undefined."""

    low: float
    high: float


def accuracy(labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    """Share of images whose most probable class is their label; NaN for no image."""
    return _once(accuracies, labels, probabilities)


def balanced_accuracy(labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    """Mean recall over the classes present; NaN for no image."""
    return _once(balanced_accuracies, labels, probabilities)


def auroc(labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    """Area under the ROC curve by the rank formula, ties counted half.

    With two classes the score is the probability of class 1; with more it is one class against the rest, averaged over
    the classes present. NaN where fewer than two classes are present.
    """
    return _once(aurocs, labels, probabilities)


def confusion(sites: Sites) -> Ints:
    """(K, K) counts over all sites: rows are the true classes, columns the predicted ones."""
    classes = max(each.probabilities.shape[1] for each in sites.values())
    labels = np.concatenate([each.labels for each in sites.values()])
    predicted = np.concatenate([each.predicted for each in sites.values()])
    made: Ints = confusion_matrix(labels, predicted, labels=np.arange(classes)).astype(np.int64)
    return made


def mean_metric(runs: Runs, metric: str) -> float:
    """A metric averaged over sites (weighted by their images, undefined ones left out), then over runs."""
    ones = [{site: np.ones((1, len(each))) for site, each in sites.items()} for sites in runs]
    return float(means(runs, metric, ones)[0])


def bootstrap_interval(
    runs: Runs, metric: str, *, n_boot: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of `mean_metric`, with the image as the unit.

    Parameters
    ----------
    runs
        Predictions by site, one mapping for each run (seed).
    metric
        One of `METRICS`.
    n_boot
        Resamples.
    level
        Coverage aimed at.
    seed
        Seed of the resampling.

    Returns
    -------
    Interval
        Both NaN where the metric itself is undefined.

    Notes
    -----
    Images are drawn with replacement among the images of each site; sites (of one run or of several) that predict some
    of the same images form one group, whose images are drawn jointly, an image bringing all of its predictions along
    (Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8). The trained models are taken as
    given: what another seed would have changed is not part of the interval.
    """
    if math.isnan(mean_metric(runs, metric)):
        return Interval(math.nan, math.nan)
    draws = np.concatenate([means(runs, metric, counts) for counts in resamples(runs, n_boot=n_boot, seed=seed)])
    low, high = np.nanpercentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(low), float(high))


def at_chance(interval: Interval) -> bool:
    """Whether the interval of an AUROC contains 0.5; False where it is undefined."""
    return interval.low <= 0.5 <= interval.high


def prediction_agreement(a: Runs, b: Runs) -> float:
    """Share of images for which two arms predict the same class, paired by run, site and image.

    Raises
    ------
    DataError
        The arms do not hold the same runs, sites and images, or hold none.
    """
    same = np.concatenate([mine.predicted == other.predicted for mine, other, _ in _paired(a, b)])
    return float(same.mean())


@dataclass(frozen=True)
class Equivalence:
    """Result of `equivalence_test`; `difference` is a minus b in shares of 1."""

    difference: float
    interval: Interval
    p_value: float
    n: int
    margin: float
    note: str

    @property
    def equivalent(self) -> bool:
        """Whether a difference of the margin or more is rejected at 5 %."""
        return self.p_value < 0.05

    @property
    def verdict(self) -> str:
        """The result in words."""
        points = f"±{100 * self.margin:g} point{'' if self.margin == 0.01 else 's'}"
        return f"equivalent within {points}" if self.equivalent else f"equivalence within {points} not shown"


def equivalence_test(a: Runs, b: Runs, *, margin: float = 0.01) -> Equivalence:
    """Two one-sided tests (TOST) that two arms' accuracies differ by less than `margin`.

    Parameters
    ----------
    a, b
        The arms, paired by run, site and image.
    margin
        Smallest difference of accuracy that matters, in shares of 1.

    Returns
    -------
    Equivalence
        The mean over images of the difference of correctness (first averaged over the runs and sites that predict the
        image), its 90 % interval, and the larger of the two one-sided p values.

    Raises
    ------
    DataError
        The arms do not hold the same runs, sites and images.

    Notes
    -----
    Schuirmann, *J. Pharmacokinet. Biopharm.* 15 (1987). The variance is not taken to be less than
    margin * (1 - margin), which a difference as large as the margin would itself have: where two arms seldom disagree
    the sample variance is too small under the hypothesis to be rejected (the reason for the restricted variance of
    Tango, *Stat. Med.* 17 (1998)). When no image is predicted differently there is no variance to speak of and the
    binomial probability of seeing no such image is used, exactly: p = (1 - margin)**n.
    """
    if not 0 < margin < 1:
        raise DataError(f"margin is {margin}", cure="between 0 and 1, for example 0.01 for one point")
    difference, discordant = _difference_per_image(a, b)
    n = len(difference)
    if not discordant:
        return _no_difference(n, margin)
    mean = float(difference.mean())
    if n < 2:
        return Equivalence(mean, Interval(math.nan, math.nan), 1.0, n, margin, "one image cannot show equivalence")
    sample = float(difference.var(ddof=1))
    floored = sample < margin * (1 - margin)
    error = math.sqrt(max(sample, margin * (1 - margin)) / n)
    p_value = max(float(stats.t.sf((margin - side * mean) / error, n - 1)) for side in (1, -1))
    half = float(stats.t.ppf(0.95, n - 1)) * error
    note = "paired t, image as the unit"
    if floored:
        note += "; variance raised to that of a difference as large as the margin"
    return Equivalence(mean, Interval(mean - half, mean + half), p_value, n, margin, note)


def add_intervals(run: str | Path, *, n_boot: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Add 95 % intervals to ``RUN/summary.json`` and return what it then holds.

    Raises
    ------
    StorageError
        There is no summary, or it cannot be written.
    IntegrityError
        The summary or a file of predictions is not whole.
    """
    path = Path(run) / "summary.json"
    summary: dict[str, Any] = read_json(path)
    check_shape(summary, {}, where=path)
    sites = load_predictions(run)
    summary["intervals"] = None
    summary["intervals_note"] = "no site has written predictions"
    if sites:
        made = {metric: bootstrap_interval([sites], metric, n_boot=n_boot, seed=seed) for metric in METRICS}
        summary["intervals"] = {
            metric: None if math.isnan(each.low) else [each.low, each.high] for metric, each in made.items()
        }
        summary["intervals_note"] = resampling_note([sites], n_boot=n_boot)
    write_json(path, summary)
    return summary


def resampling_note(runs: Runs, *, n_boot: int = RESAMPLES) -> str:
    """What `bootstrap_interval` resamples for these runs, in a sentence."""
    design = design_of(runs)
    predictions = sum(len(each) for sites in runs for each in sites.values())
    shared = predictions > design.images
    how = "jointly over the sites and seeds that predict the same image" if shared else "within each site"
    given = "the trained models are" if len(runs) > 1 else "the trained model is"
    drawn = f"{n_boot} resamples of {design.images} test images drawn {how}"
    return f"95 % percentile bootstrap, {drawn}; {given} taken as given"


def _once(metric: Metric, labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    return float(metric(np.asarray(labels), np.asarray(probabilities), np.ones((1, len(labels))))[0])


def _paired(a: Runs, b: Runs) -> list[tuple[Predictions, Predictions, str]]:
    """The two arms' predictions on the same images in the same order, one entry for each run and site."""
    if not a or len(a) != len(b) or any(set(mine) != set(other) for mine, other in zip(a, b, strict=True)):
        raise DataError("the two arms do not hold the same runs and sites", cure="run both with the same seeds")
    pairs = [_aligned(mine[s], other[s], s) for mine, other in zip(a, b, strict=True) for s in mine]
    if not sum(len(mine) for mine, _, _ in pairs):
        raise DataError("the two arms hold no predictions")
    return pairs


def _aligned(mine: Predictions, other: Predictions, site: str) -> tuple[Predictions, Predictions, str]:
    first, second = np.argsort(mine.ids, kind="stable"), np.argsort(other.ids, kind="stable")
    if not np.array_equal(mine.ids[first], other.ids[second]):
        raise DataError("the two arms did not predict the same images", where=site, cure="use the same data and seed")
    if not np.array_equal(mine.labels[first], other.labels[second]):
        raise DataError("the two arms give the same image different labels", where=site)
    return _taken(mine, first), _taken(other, second), site


def _taken(predictions: Predictions, order: npt.NDArray[np.intp]) -> Predictions:
    return Predictions(predictions.ids[order], predictions.labels[order], predictions.probabilities[order])


def _difference_per_image(a: Runs, b: Runs) -> tuple[Floats, bool]:
    """Mean difference of correctness of each image, and whether any single prediction differs in it."""
    pairs = _paired(a, b)
    image = image_of_each([mine for mine, _, _ in pairs], [site for _, _, site in pairs])
    each = np.concatenate([mine.correct.astype(float) - other.correct.astype(float) for mine, other, _ in pairs])
    return np.bincount(image, weights=each) / np.bincount(image), bool(each.any())


def _no_difference(n: int, margin: float) -> Equivalence:
    bound = 1 - 0.05 ** (1 / n)
    note = "no image is right in one arm and wrong in the other; exact binomial probability"
    return Equivalence(0.0, Interval(-bound, bound), (1 - margin) ** n, n, margin, note)
