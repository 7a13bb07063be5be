"""What noisy steps cost: epsilon at a delta, by Rényi differential privacy as opacus computes it.

The subsampled Gaussian mechanism is Mironov, Talwar and Zhang, arXiv 1908.10530; the conversion to epsilon is Balle et
al., arXiv 1905.09982. Costs of single steps add up at every order, in whatever order and by whosever choice the steps
come: that noise and number of rounds are chosen as a run goes on is covered by Lécuyer, "Practical Privacy Filters and
Odometers with Rényi Differential Privacy", arXiv 2103.01379. Tighter accountants say 8 to 20 % less
(the tests compare).

Two sets of training images are neighbours where one has a unit (an image, or a patient) more than the other. The number
of units is taken for known, and which images are trained on for given: parts are dealt over all images of a site.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from medveil.errors import ConfigError

ORDERS: tuple[float, ...] = (
    *(1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0),
    *map(float, (*range(6, 16), *range(16, 32, 2), *range(32, 48, 4), 48, 56, 64, 80, 96, 128, 192, 256)),
)
"""Of Rényi's divergence. Of small noise low ones give the epsilon, of large noise high ones; more cost time, and give
less than a hundredth."""
MOST_NOISE = 1e5
_FIGURES = 4


@dataclass(frozen=True)
class Charge:
    """Steps of one kind.

    Parameters
    ----------
    noise
        Standard deviation of the noise, in clips.
    rate
        Chance of each unit to be in a step.
    steps
        How many there are.
    """

    noise: float
    rate: float
    steps: int


def check_installed(*, where: str = "privacy") -> None:
    """Refuse to promise anything without what counts it (ConfigError)."""
    if find_spec("opacus") is None:
        cure = "pip install 'medveil[dp]', or 'privacy.unit' none"
        raise ConfigError("opacus is not installed, which counts epsilon", where=where, cure=cure)


def epsilon(charges: Iterable[Charge], delta: float) -> float:
    """What steps cost in all, at a delta; infinite where one of them has no noise."""
    steps: Counter[tuple[float, float]] = Counter()
    for each in charges:
        steps[each.noise, each.rate] += each.steps
    if not steps:
        return 0.0
    if any(noise <= 0 for noise, _ in steps):
        return math.inf
    costs = [count * _of_one_step(*kind) for kind, count in steps.items()]
    return _at(np.sum(costs, axis=0), delta)


def noise_for(most: float, delta: float, *, rate: float, steps: int, before: Iterable[Charge] = ()) -> float:
    """The least noise with which steps can be made, rounded up to four figures.

    Parameters
    ----------
    most, delta
        What they, and those before them, may cost in all.
    rate, steps
        Of the steps to come.
    before
        What was charged already.

    Raises
    ------
    ConfigError
        No noise is enough: what was charged already, or so many steps of any noise, costs as much.
    """
    charged = tuple(before)

    def costs(noise: float) -> float:
        return epsilon((*charged, Charge(noise, rate, steps)), delta)

    low, high = 0.0, 1.0
    while costs(high) > most:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            why = "too much was charged already" if charged else "the steps to come are too many for it"
            raise ConfigError(f"no noise is enough to keep it: {why}", where="privacy.epsilon")
    while high - low > high * 10.0**-_FIGURES:
        middle = (low + high) / 2
        low, high = (middle, high) if costs(middle) > most else (low, middle)
    return _rounded_up(high)


def _rounded_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - _FIGURES)
    return float(f"{math.ceil(value / unit) * unit:.{_FIGURES}g}")


@functools.lru_cache(maxsize=1024)
def _of_one_step(noise: float, rate: float) -> npt.NDArray[np.float64]:
    from opacus.accountants.analysis.rdp import compute_rdp  # noqa: PLC0415 - an extra, and slow to import

    found: Any = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=list(ORDERS))
    return np.asarray(found, dtype=np.float64)


def _at(costs: npt.NDArray[np.float64], delta: float) -> float:
    from opacus.accountants.analysis.rdp import get_privacy_spent  # noqa: PLC0415

    with warnings.catch_warnings():
        # That the best order is the last one: then the figure is above what it could be, and holds.
        warnings.simplefilter("ignore", UserWarning)
        found, _ = get_privacy_spent(orders=list(ORDERS), rdp=costs, delta=delta)
    return max(0.0, float(found))
