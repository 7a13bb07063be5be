"""What bad hospitals send in the place of what they trained: plain functions of updates, (d,) each.

All of them know the rule they are up against. What they know of the others' updates is the caller's to say: all of
them, which no hospital of a real run is handed and which bounds what it could do, or those of its fellows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_DOUBLINGS, _HALVINGS = 40, 40
_MOST_Z = 3.0
"""Where the bad are a majority nothing bounds z."""


def reversed_mean(known: Floats, *, bad: int, sites: int, small: bool) -> Floats:
    """Inner-product manipulation (Xie et al., "Fall of Empires", UAI 2020, arXiv 1903.03936).

    Parameters
    ----------
    known
        (m, d), updates of honest training.
    bad, sites
        Sites that send this, and all.
    small
        Stay near the others, at half the mean turned round, as against rules that go by distance; else long enough
        that the mean of all points backwards, at half its length.
    """
    share = 0.5 if small else 1.5 * (sites - bad) / bad
    made: Floats = -share * known.mean(axis=0)
    return made


def within_the_spread(known: Floats, *, bad: int, sites: int) -> Floats:
    """The mean less z deviations, coordinate by coordinate (Baruch et al., "A Little Is Enough", arXiv 1902.06156).

    z is the most that leaves enough honest sites further out than it for a majority, as the paper has it.

    Parameters
    ----------
    known
        (m, d), updates of honest training; at least two, for a deviation.
    bad, sites
        Sites that send this, and all.
    """
    supporters = sites // 2 + 1 - bad
    honest = sites - bad
    z = float(stats.norm.ppf((honest - supporters) / honest)) if supporters > 0 else math.inf
    made: Floats = known.mean(axis=0) - min(max(z, 0.0), _MOST_Z) * known.std(axis=0)
    return made


def no_further_than_others(known: Floats) -> Floats:
    """As far from the mean as keeps within the largest distance between two honest updates.

    "Min-Max" of Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021, along the deviation turned round.

    Parameters
    ----------
    known
        (m, d), updates of honest training; at least two.
    """
    mean, direction = known.mean(axis=0), -known.std(axis=0)
    between = _squared_distances(known)
    most = float(between.max())
    off = known - mean
    squares, along, length = (off**2).sum(axis=1), off @ direction, float(direction @ direction)

    def fits(gamma: float) -> bool:
        return float((squares - 2 * gamma * along + gamma**2 * length).max()) <= most

    made: Floats = mean + _largest(fits) * direction
    return made


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
