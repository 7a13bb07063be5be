"""Comparing what validation says of two rounds: over the same sites, or not at all.

One site's images are easier than another's. Where a round was measured at other sites than the best one, their means
differ by the sites as much as by the models; so only sites that measured both are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fl_server.metrics import Weigh


class Measured(NamedTuple):
    """A measure of one round, by site, and how much each site counts."""

    sites: Mapping[str, float]
    weigh: Weigh

    @property
    def value(self) -> float | None:
        """The mean over sites; None where no site counts."""
        return self.over(self.sites)

    def over(self, sites: Iterable[str], values: Mapping[str, float] | None = None) -> float | None:
        """The mean over some sites, of this round or of other values of theirs."""
        weights = self.weigh(sites)
        whole, found = sum(weights.values()), self.sites if values is None else values
        return sum(found[site] * weight for site, weight in weights.items()) / whole if whole else None


def compared(new: Measured, earlier: Mapping[str, float]) -> tuple[float, float] | None:
    """The means of a round and of an earlier one over the sites that measured both; None where there are none."""
    both = sorted(set(new.sites) & set(earlier))
    values = new.over(both), new.over(both, earlier)
    return None if values[0] is None or values[1] is None else (values[0], values[1])
