"""Measures that are summed under masks beside an update, so that none of them is one site's.

Of each measure two numbers are summed: the images of the sites that have it, and its value times these images. Their
quotient is the mean over sites, each weighted by its images. A measure that a site withholds adds nothing to either.
AUROC and what else is no mean over images has no sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medveil.contract import measure_key

SUMMED = ("loss", "accuracy", "balanced-accuracy")
MAJORITY = "majority-rate"
TRAIN, VALIDATE, EVALUATE = "train", "validate", "evaluate"
COUNT = "statistics"
"""Histograms: one number a cell, and no measure of a model."""
PHASES: Mapping[str, tuple[str, ...]] = {
    TRAIN: ("train", "validation"),
    VALIDATE: ("validation",),
    EVALUATE: ("validation", "test", "wrong-key", "public-stem"),
}
"""What is measured, by what a message asks for."""
_LARGEST = 2.0**32
"""Beyond it a number does not fit into what is summed."""


@dataclass(frozen=True)
class Means:
    """What was summed.

    Parameters
    ----------
    clipped
        How many sites scaled their update down.
    metrics
        By the contract's keys, over all sites of the sum; of a phase that nobody measured there is none. What no site
        has, or cannot be, is None.
    sites
        Whose sum it is.
    """

    clipped: int
    metrics: dict[str, float | None]
    sites: tuple[str, ...] = ()


def count_of(kind: str) -> int:
    """How many numbers are summed for what a message asks for."""
    return 1 + sum(1 + 2 * len(_names(phase)) for phase in PHASES[kind])


def summands(kind: str, metrics: Mapping[str, float], *, clipped: bool) -> list[float]:
    """What a site adds to each sum.

    Parameters
    ----------
    kind
        `TRAIN`, `VALIDATE` or `EVALUATE`.
    metrics
        The site's own, by the contract's keys; NaN where undefined.
    clipped
        Whether it scaled its update down.
    """
    made = [float(clipped)]
    for phase in PHASES[kind]:
        n = _usable(metrics.get(measure_key(phase, "n"), 0.0))
        made.append(n)
        for name in _names(phase):
            value = metrics.get(measure_key(phase, name), math.nan)
            has = n > 0 and math.isfinite(value) and abs(n * value) < _LARGEST
            made += [n, n * value] if has else [0.0, 0.0]
    return made


def means_of(kind: str, sums: Sequence[float]) -> Means:
    """What the sums come to; what sites added nobody can check but that it is possible."""
    left = iter(sums)
    clipped, metrics = round(next(left)), dict[str, float | None]()
    for phase in PHASES[kind]:
        n = round(next(left))
        found: dict[str, float | None] = {measure_key(phase, "n"): float(n)}
        for name in _names(phase):
            images, total = next(left), next(left)
            found[measure_key(phase, name)] = total / images if images > 0 else None
        metrics |= found if n > 0 else {}
    return Means(max(0, clipped), metrics)


def _names(phase: str) -> tuple[str, ...]:
    return (*SUMMED, MAJORITY) if phase == "test" else SUMMED


def _usable(n: float) -> float:
    return n if 0 <= n < _LARGEST else 0.0
