"""What bad hospitals send in the place of what they trained: plain functions of updates, (d,) each.

All of them know the rule they are up against. What they know of the others' updates is the caller's to say: all of
them, which no hospital of a real run is handed and which bounds what it could do, or those of its fellows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_DOUBLINGS, _HALVINGS = 40, 40
_MOST_Z = 3.0
"""Where the bad are a majority nothing bounds z."""


def reversed_mean(known: Floats, *, bad: int, sites: int, reach: float | None) -> Floats:
    """Inner-product manipulation (Xie et al., "Fall of Empires", UAI 2020, arXiv 1903.03936).

    Parameters
    ----------
    known
        (m, d), updates of honest training.
    bad, sites
        Sites that send this, and all.
    reach
        The longest update that goes through, beside the median one: long enough then that the mean of all points
        backwards, at half its length. None where a rule looks for what is odd: half the mean, turned round.
    """
    mean = known.mean(axis=0)
    share = 0.5 if reach is None else 1.5 * (sites - bad) / bad
    return within(-share * mean, known, reach)


def within_the_spread(known: Floats, *, bad: int, sites: int, reach: float | None) -> Floats:
    """The mean less z deviations, coordinate by coordinate (Baruch et al., "A Little Is Enough", arXiv 1902.06156).

    Deviations are turned against the sign of the mean: all to one side, as in the paper, they shift tokens as a whole,
    which a LayerNorm takes off again. z is the most that leaves enough honest sites further out than it for a majority,
    as the paper has it; or as far as goes through, where nothing looks for what is odd.

    Parameters
    ----------
    known
        (m, d), updates of honest training; at least two, for a deviation.
    bad, sites, reach
        As for `reversed_mean`.
    """
    mean, deviation = known.mean(axis=0), _deviation(known)
    if reach is not None:
        longest = reach * median_norm(known)
        far: Floats = mean - _largest(lambda z: float(np.linalg.norm(mean - z * deviation)) <= longest) * deviation
        return far
    supporters, honest = sites // 2 + 1 - bad, sites - bad
    z = float(stats.norm.ppf((honest - supporters) / honest)) if supporters > 0 else _MOST_Z
    made: Floats = mean - min(max(z, 0.0), _MOST_Z) * deviation
    return made


def no_further_than_others(known: Floats, *, reach: float | None) -> Floats:
    """As far from the mean as keeps within the largest distance between two honest updates.

    "Min-Max" of Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021, along the deviation turned round;
    or as far as goes through, as `within_the_spread`.

    Parameters
    ----------
    known
        (m, d), updates of honest training; at least two.
    reach
        As for `reversed_mean`.
    """
    if reach is not None:
        return within_the_spread(known, bad=1, sites=1, reach=reach)
    mean, direction = known.mean(axis=0), -_deviation(known)
    most = float(_squared_distances(known).max())
    off = known - mean
    squares, along, length = (off**2).sum(axis=1), off @ direction, float(direction @ direction)

    def fits(gamma: float) -> bool:
        return float((squares - 2 * gamma * along + gamma**2 * length).max()) <= most

    made: Floats = mean + _largest(fits) * direction
    return made


def within(update: Floats, known: Floats, reach: float | None) -> Floats:
    """An update no longer than goes through."""
    if reach is None:
        return update
    norm, longest = float(np.linalg.norm(update)), reach * median_norm(known)
    made: Floats = update * min(1.0, longest / norm) if norm else update
    return made


def _deviation(known: Floats) -> Floats:
    made: Floats = known.std(axis=0) * np.sign(known.mean(axis=0))
    return made


def median_norm(known: Floats) -> float:
    """Median length of updates (m, d)."""
    return float(np.median(np.linalg.norm(known, axis=1)))


def _largest(fits: Callable[[float], bool]) -> float:
    """The largest number that fits, where 0 does and large ones do not."""
    low, high = 0.0, 1.0
    for _ in range(_DOUBLINGS):
        if not fits(high):
            break
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _squared_distances(rows: Floats) -> Floats:
    squares = (rows**2).sum(axis=1)
    made: Floats = squares[:, None] + squares[None] - 2 * rows @ rows.T
    return made
