"""loki: every site of a sum is sent a planted layer of its own, so that the sum says whose part is whose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crypto.base import Geometry, Reading
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Federation
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import as_numbers, exchange_of, reading_of
from simulations.attacks.solvers.imprint import Patches
from simulations.attacks.study.attack import Chance, Metric, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.planted_layer import (
    FIRST,
    PlantedLayer,
    Share,
    as_patches,
    matched,
    planted,
    read,
    step_of,
)

if TYPE_CHECKING:
    from medveil.wire import Tensors

_SLACK = 10
"""Numbers of a token that a site's part has beyond those of a patch and its norm: they tell a place from another."""


class Loki(PlantedLayer):
    """Give each site of a sum columns of the layer that no other reaches, and rows where columns do not suffice."""

    name = "loki"
    needs: ClassVar[frozenset[Capability]] = PlantedLayer.needs | {
        Capability.SEVERAL_SITES,
        Capability.SEVERAL_MODELS,
    }
    text = (
        "As planted-layer, but each site of a sum is sent another model. The paper puts convolutions before a linear "
        "layer, whose kernels carry each site's images into columns of their own; here the norm before block 0's MLP "
        "does that: its scales are nothing but for the numbers of a token that are one site's. What is left of a token "
        "must hold a patch; where the model is too narrow for so many sites, those that share columns get rows of "
        "their own, and the thresholds of the others lie beyond every token. The part of one site in the gradient is "
        "then nothing in that of another, and the sum of clipped updates prints whose each patch is. Columns cost a "
        "site no thresholds, rows do. Recovered is a patch that a candidate *of its site* matches. Sites that refuse "
        "to be summed with a site that was sent another model are not attacked by it; where each update is read by "
        "itself planted-layer does the same."
    )
    papers: ClassVar[tuple[str, ...]] = (
        "Zhao et al. 2024, arXiv:2303.12233 (LOKI: identity mapping sets, one for each site)",
        "Fowl et al. 2022, arXiv:2110.13057 (Robbing the Fed: the layer)",
        "Pasquini et al. 2022, arXiv:2111.07380 (other models for other sites, and what is left of masks)",
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of `planted-layer`, each patch laid to a site; and what its candidates would match of other sites."""
        other = Metric("patches_of_others", "patches of the other sites that they match", "share", "none", Chance.IMAGE)
        return (*super().metrics, other)

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """As for `planted-layer`, with as many more numbers as tell places apart."""
        width, least = situation.model.width, geometry.block_length + 2 + _SLACK
        if width is not None and width < least:
            return f"a token of {width} numbers does not hold a patch of {geometry.block_length} and tell its place"
        return super().unfit(situation, geometry)

    def control_situation(self, situation: Situation) -> Situation:
        """A sum of as many sites with one plain image each, under masks that do not say for which model."""
        return replace(situation.unprotected(), sites=max(2, situation.sites), one_model=False)

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """As for any attack on updates, each site on weights planted for it."""
        assert isinstance(setting, UpdateSetting)
        target = setting.situation
        here = self.control_situation(target) if setting.unprotected else target
        count = min(self.updates, max(1, setting.capped(setting.images) // (target.images * target.sites)))
        return update_case(setting, key, here, updates=count, send_sites=apart)

    def recover(self, seen: Seen, rng: np.random.Generator) -> list[list[Patches]]:
        """Read the part of each site in each update."""
        exchange: Exchange = exchange_of(seen)
        parts = [
            shares(*_layer(update.change), exchange.geometry.block_length, exchange.situation.sites)
            for update in exchange
        ]
        return [[read(update, exchange, part) for part in each] for update, each in zip(exchange, parts, strict=True)]

    def score(self, found: Any, case: Case) -> Scores:
        """How many patches of each site's images some candidate laid to it matches, and how many of the others'."""
        assert isinstance(case, UpdateCase)
        plain = as_numbers(case.geometry.cut(case.targets.pixels), Reading(case.geometry.bits))
        hidden = as_numbers(case.geometry.cut(case.hidden.images), reading_of(case))
        told: dict[str, list[float]] = {"patches": [], "patches_read": [], "patches_of_others": []}
        start = 0
        for parts, sites in zip(found, case.hospitals, strict=True):
            count = sum(len(each.images.labels) for each in sites)
            owner = np.repeat(np.arange(len(sites)), [len(each.images.labels) for each in sites])
            truth, read_here = plain[start : start + count], hidden[start : start + count]
            start += count
            for site, patches in enumerate(parts):
                told["patches"].append(matched(patches, truth[owner == site]))
                told["patches_read"].append(matched(patches, read_here[owner == site]))
                told["patches_of_others"].append(matched(patches, truth[owner != site]))
        sent = apart(case.federation, case)[0]
        return {name: float(np.mean(each)) for name, each in told.items()} | {"step": step_of(case, sent)}

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The patches of the mean image, and of other images of the classes, as many to a site as it has."""
        assert isinstance(case, UpdateCase)
        for images in case.guessed:
            found, start = [], 0
            for sites in case.hospitals:
                parts = []
                for each in sites:
                    count = len(each.images.labels)
                    parts.append(as_patches(images[start : start + count], case.geometry))
                    start += count
                found.append(parts)
            yield self.score(found, case)


def shares(rows: int, width: int, length: int, sites: int) -> list[Share]:
    """Parts of a layer, one for each site, that do not meet.

    Parameters
    ----------
    rows, width
        Of the layer's matrix; its last row answers nothing.
    length
        Numbers of a patch.
    sites
        How many.
    """
    across = max(1, min(sites, width // (length + 2 + _SLACK)))
    down = -(-sites // across)
    columns = [slice(width * at // across, width * (at + 1) // across) for at in range(across)]
    lines = [slice((rows - 1) * at // down, (rows - 1) * (at + 1) // down) for at in range(down)]
    return [Share(line, column) for line in lines for column in columns][:sites]


def apart(federation: Federation, case: Case) -> list[Tensors]:
    """A planted model for each site."""
    rows, width = _layer(federation.base)
    parts = shares(rows, width, federation.geometry.block_length, federation.situation.sites)
    public = case.public().pixels
    return [planted(federation, public, part) for part in parts]


def _layer(given: Tensors) -> tuple[int, int]:
    rows, width = given[f"{FIRST}.weight"].shape
    return rows, width
