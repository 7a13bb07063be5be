"""What a site may say of itself in numbers: the measures of a reply by name, each with the range of what it can be.

A site reports what nobody can check. What it reports must at least be possible: a number outside its range, a name that
is not here or a list in place of a number makes the whole reply one that does not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from medveil.contract import EPSILON, MEASURES, NUM_EXAMPLES, PHASES, SECONDS, measure_key
from medveil.errors import FederationError
from medveil.privacy import MOST_EPSILON
from medveil.values import shown_value

SMALLEST_PROBABILITY = 1e-12
"""What a site takes the probability of a label for where its model gives less: it bounds the loss of one image."""
MOST_IMAGES = 10**12
"""More than any site has: a count above it is no count."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Range:
    """What a number may be: `low` to `high`, `whole` where it counts something, NaN where it may be `undefined`."""

    low: float
    high: float
    whole: bool = False
    undefined: bool = True

    def fault(self, value: object) -> str | None:
        """Say what is wrong with a value; None where nothing is."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"is {shown_value(value)}, wanted a number"
        if isinstance(value, float) and math.isnan(value):
            return None if self.undefined else "is nan, wanted a number"
        # Python compares whole numbers of any size with floats exactly.
        if not self.low <= value <= self.high:
            return f"is {shown_value(value)}, wanted {self.low:g} to {self.high:g}"
        if self.whole and not float(value).is_integer():
            return f"is {shown_value(value)}, wanted a whole number"
        return None


_SHARE = Range(0, 1 + _ROUNDING)
_LOSS = Range(0, -math.log(SMALLEST_PROBABILITY) + _ROUNDING)
# Of training it is the loss that is minimised, which nothing bounds: a run that diverges reports what it comes to.
_TRAINING_LOSS = Range(0, 1e6)
_COUNT = Range(0, MOST_IMAGES, whole=True)
_OF_ONE_PHASE = dict.fromkeys(MEASURES, _SHARE) | {"loss": _LOSS, "n": _COUNT}
RANGES: Mapping[str, Range] = {
    **{measure_key(phase, name): range_ for phase in PHASES for name, range_ in _OF_ONE_PHASE.items()},
    measure_key("train", "loss"): _TRAINING_LOSS,
    measure_key("test", "majority-rate"): _SHARE,
    NUM_EXAMPLES: Range(0, MOST_IMAGES, whole=True, undefined=False),
    SECONDS: Range(0, 1e9, undefined=False),
    EPSILON: Range(0, MOST_EPSILON, undefined=False),
}
"""Every number a reply may carry."""


def checked_measures(said: Mapping[str, object]) -> dict[str, float | None]:
    """The numbers of a reply.

    Parameters
    ----------
    said
        What the site put there.

    Returns
    -------
    dict
        By name; None where undefined (NaN).

    Raises
    ------
    FederationError
        A name is unknown or a number is not possible; names the first.
    """
    unknown = sorted(set(said) - set(RANGES))
    if unknown:
        raise FederationError(f"{len(unknown)} measures are unknown, {shown_value(unknown[0])} first")
    made: dict[str, float | None] = {}
    for name, value in said.items():
        fault = RANGES[name].fault(value)
        if fault is not None:
            raise FederationError(f"'{name}' {fault}")
        assert isinstance(value, int | float)  # A range takes nothing else.
        made[name] = None if math.isnan(value) else value
    return made
