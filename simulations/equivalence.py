"""What two arms have in common: how often they answer alike, and whether their accuracies are equivalent.

As in `simulations.statistics` the unit is the group of images: an image where nothing is grouped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from fl_client.intervals import NONE, Interval, even_size
from medveil.errors import DataError
from simulations.predictions import Floats, Predictions, Runs, Sites
from simulations.resampling import group_of_each, image_of_each


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
    """Result of `equivalence_test`; `difference` is a minus b in shares of 1.

    `interval` is of 90 %, as two one-sided tests at 5 % have it; `wide` of 95 %, for a difference that is told as one.
    """

    difference: float
    interval: Interval
    p_value: float
    n: int
    margin: float
    note: str
    wide: Interval = NONE

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
        The arms, paired by run, site and image; where they test the same images at other sites, by run and image.
    margin
        Smallest difference of accuracy that matters, in shares of 1.

    Returns
    -------
    Equivalence
        The mean over images of the difference of correctness (first averaged over the runs and sites that predict the
        image), its 90 % interval with the group as the unit, and the larger of the two one-sided p values.

    Raises
    ------
    DataError
        The arms do not hold the same runs and images.

    Notes
    -----
    Schuirmann, *J. Pharmacokinet. Biopharm.* 15 (1987). The variance is not taken to be less than
    margin * (1 - margin) for each group, which a difference as large as the margin would itself have if images of a
    group were all alike: where two arms seldom disagree
    the sample variance is too small under the hypothesis to be rejected (the reason for the restricted variance of
    Tango, *Stat. Med.* 17 (1998)). When no image is predicted differently there is no variance to speak of and the
    binomial probability of seeing no such group is used, exactly: p = (1 - margin)**n for n groups of equal size.
    """
    if not 0 < margin < 1:
        raise DataError(f"margin is {margin}", cure="between 0 and 1, for example 0.01 for one point")
    each = _differences(a, b)
    n = int(each.sizes.sum())
    if not each.discordant:
        return _no_difference(n, each.sizes, margin)
    groups, mean = len(each.sizes), float(each.sums.sum() / n)
    if groups < 2:
        note = "one group of images cannot show equivalence"
        return Equivalence(mean, Interval(math.nan, math.nan), 1.0, n, margin, note)
    # A ratio of two sums over groups; with groups of one image it is the mean and its variance.
    sample = groups / (groups - 1) * float(((each.sums - mean * each.sizes) ** 2).sum()) / n**2
    floor = margin * (1 - margin) / even_size(each.sizes)
    error = math.sqrt(max(sample, floor))
    p_value = max(float(stats.t.sf((margin - side * mean) / error, groups - 1)) for side in (1, -1))
    half, half_wide = (float(stats.t.ppf(share, groups - 1)) * error for share in (0.95, 0.975))
    note = "paired t, image as the unit" if groups == n else f"paired t, group as the unit ({groups} groups)"
    if sample < floor:
        note += "; variance raised to that of a difference as large as the margin"
    wide = Interval(mean - half_wide, mean + half_wide)
    return Equivalence(mean, Interval(mean - half, mean + half), p_value, n, margin, note, wide)


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
    return Predictions(
        predictions.ids[order],
        predictions.labels[order],
        predictions.probabilities[order],
        predictions.group_of_each[order],
    )


class _Differences(NamedTuple):
    """By group: the sum of its images' differences of correctness, and its images; whether any prediction differs."""

    sums: Floats
    sizes: Floats
    discordant: bool


def same_sites(a: Runs, b: Runs) -> bool:
    """Whether two arms were tested at sites of the same names in each run."""
    return len(a) == len(b) and all(set(mine) == set(other) for mine, other in zip(a, b, strict=True))


def _differences(a: Runs, b: Runs) -> _Differences:
    """Of each image the mean difference of correctness, summed by group."""
    if same_sites(a, b):
        pairs = _paired(a, b)
        parts, names = [mine for mine, _, _ in pairs], [site for _, _, site in pairs]
        each = np.concatenate([mine.correct.astype(float) - other.correct.astype(float) for mine, other, _ in pairs])
    else:
        parts, names, each = _across_sites(a, b)
    image, group = image_of_each(parts, names), group_of_each(parts, names)
    mean = np.bincount(image, weights=each) / np.bincount(image)
    of_image = np.zeros(len(mean), np.int64)
    of_image[image] = group
    sums: Floats = np.bincount(of_image, weights=mean).astype(np.float64)
    return _Differences(sums, np.bincount(of_image).astype(np.float64), bool(each.any()))


def _across_sites(a: Runs, b: Runs) -> tuple[list[Predictions], list[str], Floats]:
    """Of two arms at other sites: the images of each run as one part, and the difference of mean correctness."""
    if not a or len(a) != len(b):
        raise DataError("the two arms do not hold the same runs", cure="run both with the same seeds")
    parts, differences = [], []
    for mine, other in zip(a, b, strict=True):
        (first, correct), (second, others) = _of_images(mine), _of_images(other)
        if not np.array_equal(first.ids, second.ids):
            raise DataError("the two arms did not predict the same images", cure="use the same data, split and seed")
        if not np.array_equal(first.labels, second.labels):
            raise DataError("the two arms give the same image different labels")
        parts.append(first)
        differences.append(correct - others)
    return parts, [""] * len(parts), np.concatenate(differences)


def _of_images(sites: Sites) -> tuple[Predictions, Floats]:
    """Each image of a run once, by name, and the share of its sites that are right about it."""
    parts = [each for each in sites.values() if len(each)]
    if not parts:
        raise DataError("an arm holds no predictions")
    ids, first, of_each = np.unique(
        np.concatenate([each.ids for each in parts]), return_index=True, return_inverse=True
    )
    labels = np.concatenate([each.labels for each in parts])
    if not np.array_equal(labels[first][of_each], labels):
        raise DataError("an image has two labels, so that names of images are those of a site alone")
    right = np.bincount(of_each, weights=np.concatenate([each.correct for each in parts]).astype(float))
    groups = np.concatenate([each.group_of_each for each in parts])[first]
    columns = max(2, int(labels.max()) + 1)
    none = np.zeros((len(ids), columns), np.float32)
    return Predictions(ids, labels[first], none, groups), right / np.bincount(of_each)


def _no_difference(n: int, sizes: Floats, margin: float) -> Equivalence:
    """Of groups whose images are alike there are `even_size` to see a difference in."""
    seen = even_size(sizes)
    bound, wide = (1 - share ** (1 / seen) for share in (0.05, 0.025))
    note = "no image is right in one arm and wrong in the other; exact binomial probability"
    if len(sizes) < n:
        note += f" of {len(sizes)} groups"
    return Equivalence(0.0, Interval(-bound, bound), (1 - margin) ** seen, n, margin, note, Interval(-wide, wide))
