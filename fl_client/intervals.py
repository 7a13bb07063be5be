"""Intervals of what lies between 0 and 1, from images that belong together in groups.

Wilson's interval ("Probable Inference", JASA 22 (1927)) for the number of independent images that would be worth as
much as the ones there are, with Student's t in the place of the normal quantile: Korn and Graubard, "Confidence
Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data", *Survey
Methodology* 24 (1998), who do this with Clopper and Pearson's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

LEVEL = 0.95
FEWEST_GROUPS = 5
"""With fewer groups there is no interval: what separates groups cannot be seen in so few."""


class Interval(NamedTuple):
    """A confidence interval; NaN where the quantity is undefined, or the interval withheld."""

    low: float
    high: float


NONE = Interval(math.nan, math.nan)


def wilson(value: float, size: float, df: float, *, level: float = LEVEL) -> Interval:
    """Interval of a share.

    Parameters
    ----------
    value
        The share, 0 to 1.
    size
        Independent images it is worth.
    df
        Degrees of freedom that its variance was found with.
    level
        Coverage aimed at.
    """
    square = float(stdtrit(df, (1 + level) / 2)) ** 2 / size
    middle = (value + square / 2) / (1 + square)
    half = math.sqrt(square * (value * (1 - value) + square / 4)) / (1 + square)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def effective_size(value: float, variance: float, *, least: float, most: float) -> float:
    """Independent images that a share is worth: with so many its variance would be what it is.

    Where nothing varies (all right, or all wrong) the variance tells nothing, and it is `least`: what is there if
    images of a group are all alike. `most` is what is there if they have nothing to do with each other.
    """
    if variance <= 0 or not 0 < value < 1:
        return least
    return min(most, value * (1 - value) / variance)


def even_size(sizes: npt.ArrayLike) -> float:
    """How many groups of equal size are worth as much as these (Kish, *Survey Sampling*, 1965); 0 for none."""
    found = np.asarray(sizes, dtype=np.float64)
    return float(found.sum() ** 2 / (found**2).sum()) if found.any() else 0.0


def share_interval(hits: npt.ArrayLike, groups: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """Interval of the share of images that are hits.

    Parameters
    ----------
    hits
        (n,) 0 or 1.
    groups
        (n,) what names the group of each image.

    Returns
    -------
    Interval
        NaN below `FEWEST_GROUPS` groups.
    """
    right = np.asarray(hits, dtype=np.float64)
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(group).astype(np.float64) if len(right) else np.zeros(0)
    if len(sizes) < FEWEST_GROUPS:
        return NONE
    value, count = float(right.mean()), len(sizes)
    # Of a ratio of two sums over groups: Cochran, Sampling Techniques (1977), section 11.8.
    off = np.bincount(group, weights=right) - value * sizes
    variance = count / (count - 1) * float((off**2).sum()) / len(right) ** 2
    size = effective_size(value, variance, least=even_size(sizes), most=len(right))
    return wilson(value, size, count - 1, level=level)
