"""planted-within: a planted layer that is no further from the first model than a site takes under masks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fl_client.start import reach
from medveil.secagg.config import SecAggConfig
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Federation
from simulations.attacks.situations.setting import UpdateCase
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import exchange_of
from simulations.attacks.solvers.imprint import Patches
from simulations.attacks.study.attack import Chance, Metric, Scores
from simulations.attacks.study.cases import Case, Pixels, Seen
from simulations.attacks.updates.planted_layer import FIRST, SECOND, PlantedLayer, Share, length, planted, read

if TYPE_CHECKING:
    from medveil.wire import Tensors

_FEWEST = 3
_BLUNT = 0.5
"""How sharp thresholds are beside those of a layer without a limit: the blunter, the more rows fit."""
_NORMS, _HEARD = 0.3, 20.0
"""Of the limit, what the norm before the layer gets; and how many times louder the rows are heard behind it."""


class PlantedWithin(PlantedLayer):
    """Plant as many rows as the limit leaves, in the last round of a run."""

    name = "planted-within"
    needs: ClassVar[frozenset[Capability]] = PlantedLayer.needs | {Capability.SEVERAL_SITES}
    text = (
        "As planted-layer under masks, kept within what a site takes of a model there: no further from the one the run "
        "began with than the rounds behind it allow. Fewer rows answer, with blunter thresholds, and the others are "
        "nothing; how many is what fits. The server waits until the last round (update.rounds), and "
        "sends all sites the same model, so that nothing refuses it. Its control has a run as long."
    )
    papers: ClassVar[tuple[str, ...]] = ("Fowl et al. 2022, arXiv:2110.13057 (Robbing the Fed: the layer)",)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of `planted-layer`, and what it used of the limit."""
        rows = Metric("rows", "rows that answer", "rows", "none", Chance.NONE)
        return (*super().metrics, rows, Metric("of_limit", "share of the limit", "share", "none", Chance.NONE))

    def control_situation(self, situation: Situation) -> Situation:
        """The usual one, with as many rounds behind it."""
        return replace(super().control_situation(situation), rounds=situation.rounds)

    def made(self, federation: Federation, case: Case) -> Tensors:
        """As many rows as fit."""
        return within(federation, case.public().pixels, most=limit_of(federation))

    def recover(self, seen: Seen, rng: np.random.Generator) -> list[Patches]:
        """Read the rows that answer."""
        exchange: Exchange = exchange_of(seen)
        return [read(update, exchange, Share(slice(0, answering(update.before)))) for update in exchange]

    def score(self, found: list[Patches], case: Case) -> Scores:
        """As `planted-layer`."""
        assert isinstance(case, UpdateCase)
        federation = case.federation
        used = _moved(federation, federation.base) / limit_of(federation)
        return super().score(found, case) | {"rows": float(answering(federation.base)), "of_limit": used}


def within(federation: Federation, public: Pixels, *, most: float) -> Tensors:
    """The travelling tensors with as many planted rows as leave them within a length of the public ones.

    Parameters
    ----------
    federation, public
        As `planted`.
    most
        The length.
    """
    rows = len(federation.base[f"{FIRST}.weight"])
    low, high = _FEWEST, rows - 1
    best = _blunt(federation, public, low, most)
    while low < high:
        middle = (low + high + 1) // 2
        tried = _blunt(federation, public, middle, most)
        if _moved(federation, tried) <= most:
            low, best = middle, tried
        else:
            high = middle - 1
    return best


def limit_of(federation: Federation) -> float:
    """How far a model may be from the first in the last round of a run under masks."""
    numbers = sum(each.size for each in federation.base.values())
    return reach(SecAggConfig().clip, numbers, max(1, federation.situation.rounds - 1))


def answering(given: Tensors) -> int:
    """How many rows of a planted layer answer: they come first, and the others are nothing."""
    return int(np.any(given[f"{FIRST}.weight"] != 0, axis=1).sum())


def _blunt(federation: Federation, public: Pixels, rows: int, most: float) -> Tensors:
    made = planted(federation, public, Share(slice(0, rows)))
    weight, bias, scale = (made[name] for name in (f"{FIRST}.weight", f"{FIRST}.bias", "blocks.0.norm2.weight"))
    width = weight.shape[1]
    gain = float(np.abs(scale).max()) * float(np.linalg.norm(weight[0])) * _BLUNT
    direction = weight[0] / np.linalg.norm(weight[0])
    # The larger what enters the layer, the more of a clipped update is its rows' and not the next layer's.
    scale[:] = _NORMS * most / math.sqrt(width)
    weight[:rows] = gain / scale[0] * direction
    bias[:rows] *= _BLUNT
    weight[rows:], bias[rows:] = 0.0, 0.0
    made[f"{SECOND}.weight"][:, :rows] *= _HEARD
    made[f"{SECOND}.weight"][:, rows:] = 0.0
    return made


def _moved(federation: Federation, given: Tensors) -> float:
    public = {name: federation.bench.public[name].float().cpu().numpy() for name in given}
    return length({name: given[name] - public[name] for name in given})
