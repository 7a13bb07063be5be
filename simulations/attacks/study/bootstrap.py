"""The 95 % interval of a score over keys: a cluster bootstrap with the key as the unit."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from fl_client.intervals import Interval

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
_ALIKE = 1e-12
"""Scores that differ by so little of their size were only added up in another order."""


def cluster_interval(
    values: npt.ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Interval of the mean over keys.

    What is resampled: keys, with replacement, each bringing the mean of its images. Images within a key are not
    resampled again: every key is attacked on images of its own draw, so the spread between keys already holds the
    spread between images, and a second resampling would count it twice (Davison and Hinkley, *Bootstrap Methods and
    their Application*, 1997, section 3.8). Treating images as independent would make the interval too narrow, since
    all images of a key fall together.

    With few keys a percentile interval is too short: its levels are widened to those of Student's t, as in Hesterberg,
    "What Teachers Should Know About the Bootstrap", *The American Statistician* 69 (2015), "expanded percentile". With
    2 or 3 keys it is the range of the keys, which covers less than it says.

    Parameters
    ----------
    values
        (K,), one score for each key; NaN where undefined, which is left out.
    level
        Coverage aimed at.
    resamples, seed
        Of the bootstrap.

    Returns
    -------
    Interval
        NaN for fewer than two keys, and where all keys score the same: no resample of those tells how another key
        may score, and an interval of no width would say that none can.
    """
    scores = np.asarray(values, dtype=np.float64)
    scores = scores[np.isfinite(scores)]
    if len(scores) < 2 or np.ptp(scores) <= _ALIKE * np.abs(scores).max():
        return Interval(math.nan, math.nan)
    drawn = _drawn(len(scores), resamples, seed)
    tail = expanded_tail(len(scores), level=level)
    low, high = np.quantile(scores[drawn].mean(axis=1), [tail, 1 - tail])
    return Interval(float(low), float(high))


@functools.lru_cache(maxsize=2)
def _drawn(n: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Which keys each resample has: the same for every metric and arm of a measurement."""
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    drawn.flags.writeable = False
    return drawn


@functools.cache
def expanded_tail(n: int, *, level: float = 0.95) -> float:
    """Tail probability whose normal quantile is as far out as Student's t for `n` units: for 10, .0086 not .025."""
    quantile = math.sqrt(n / (n - 1)) * float(stats.t.ppf((1 - level) / 2, n - 1))
    return float(stats.norm.cdf(quantile))
