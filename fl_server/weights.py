"""How much each site weighs: by the images it declared before round 1, fixed for the run, and capped by share.

What a site declares nobody can check. So the cap, `server.most_share`, bounds what a lie can come to: whatever a site
says, it is no more than that share of an average, of the model's tensors as of every score. It holds among those who
are averaged, also where the others failed in that round. Where it cannot hold (one of two sites has half at least), all
weigh alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fl_server.rows import SiteRow

_COUNTED = {"train": "train", "validation": "validation"}
"""Which part of a site's images each phase is made on; all others are on test images."""


@dataclass(frozen=True)
class Declared:
    """Images a site declared, by part."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Held:
    """A site whose share the cap holds: the share its declared images would have, and the one it has."""

    site: str
    declared: float
    share: float

    def __str__(self) -> str:
        return (
            f"{self.site} declares {_percent(self.declared)} of the training images and weighs {_percent(self.share)}"
        )


class Weights:
    """The weights of a run.

    Parameters
    ----------
    declared
        Images of each site.
    most_share
        Largest share of one site in any average, above 0 and at most 1.
    """

    def __init__(self, declared: Mapping[str, Declared], *, most_share: float) -> None:
        self._declared = dict(declared)
        self._most_share = most_share

    @classmethod
    def of(cls, rows: Iterable[SiteRow], fixed: Mapping[str, Mapping[str, int]], *, most_share: float) -> Weights:
        """From what sites declared, and for those the run knows already from what they declared when it began."""
        now = {row.site: Declared(row.n_train, row.n_validation, row.n_test) for row in rows}
        began = {site: Declared(**counts) for site, counts in fixed.items()}
        return cls({**now, **began}, most_share=most_share)

    def as_data(self) -> dict[str, Any]:
        """What sites declared, as plain data for the manifest."""
        return {site: asdict(counts) for site, counts in sorted(self._declared.items())}

    def among(self, sites: Iterable[str], phase: str = "train") -> dict[str, float]:
        """Weights of some sites in an average of one phase; a site without images of it has none."""
        part = _COUNTED.get(phase, "test")
        counts = {site: float(getattr(self._declared[site], part)) for site in sites}
        return capped({site: count for site, count in counts.items() if count > 0}, self._most_share)

    def held(self, sites: Sequence[str]) -> list[Held]:
        """The sites among these whose share of the training the cap holds."""
        weights = self.among(sites)
        declared = {site: self._declared[site].train for site in weights}
        whole, all_ = sum(declared.values()), sum(weights.values())
        return [
            Held(site, declared[site] / whole, weights[site] / all_)
            for site in sorted(weights)
            if weights[site] < declared[site] and weights[site] * whole < declared[site] * all_
        ]


def capped(counts: Mapping[str, float], most_share: float) -> dict[str, float]:
    """Cut counts at one height, so that none is more than a share of their sum.

    Parameters
    ----------
    counts
        Above 0 each.
    most_share
        The largest share. Where it is below 1 / n it cannot hold, and all become equal.

    Returns
    -------
    dict
        The counts, as they were where they are below the height.

    Notes
    -----
    With the k largest cut at height h, h = s (k h + r) for the share s and the sum r of the others, so
    h = s r / (1 - k s). The smallest k for which the next count does not stand above h is the one.
    """
    if not counts:
        return {}
    falling = sorted(counts.values(), reverse=True)
    # By 1 - k s alone rounding would decide where all must become equal.
    for k in range(min(len(falling), int(1 / most_share + 1e-9) + 1)):
        rest, left = sum(falling[k:]), 1 - k * most_share
        if left <= 1e-9:
            break
        height = most_share * rest / left if k else most_share * rest
        if falling[k] <= height * (1 + 1e-12):
            return {site: min(count, height) if k else count for site, count in counts.items()}
    return dict.fromkeys(counts, min(falling))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
