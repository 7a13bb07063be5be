"""peft-leak: a server hands out pre-trained weights of its own making; what trains between them prints patches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crypto.base import Geometry, Reading
from medveil.training import BIAS, BIAS_NORM, CORE
from models.sizes import skeleton
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, sized
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import as_numbers, exchange_of
from simulations.attacks.solvers.imprint import Patches
from simulations.attacks.study.attack import Chance, Metric, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.planted_layer import PlantedLayer
from simulations.attacks.updates.planted_trunk import Gate, Sizes, gates, plant, read_biases, read_cores, too_narrow

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_SCOPES = (BIAS, BIAS_NORM, CORE)


class PeftLeak(PlantedLayer):
    """Make the frozen weights, so that cores or biases alone tell patches."""

    name = "peft-leak"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.UPDATES,
            Capability.TRAINING,
            Capability.SURROGATE,
            Capability.MANIPULATION,
            Capability.FROZEN,
            Capability.INITIAL,
            Capability.WHOLE_MODEL,
        }
    )
    text = (
        "Where biases or small cores train alone, the trunk between them is a file that sites were given. The server "
        "makes it: positions become loud codes, attention is silenced in all blocks but the last, and the rows of an "
        "MLP answer to one place each. In the round it then sends exactly the model that all agreed on. A core's "
        "gradient has, of each row, r numbers of the tokens that opened it, and cores of several blocks make up a "
        "patch; thresholds along a direction part the images of a batch. A bias's gradient has none of a token, but "
        "where a row stands on the bend of GELU it moves with the patch, so that as many rows as a patch has numbers, "
        "beside one that is simply open, give the patch of one image, and of several their weighted mean. The adapters "
        "the paper attacks do not exist here: they read whole tokens, and need fewer blocks."
    )
    papers: ClassVar[tuple[str, ...]] = (
        "Sami et al. 2025, arXiv:2506.04453 (PEFTLeak: adapters in a trunk of the server's)",
        "Fowl et al. 2022, arXiv:2110.13057 (Robbing the Fed: thresholds)",
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of `planted-layer`, and how many places the blocks are enough for."""
        return (*super().metrics, Metric("aimed", "places that rows answer to", "share", "none", Chance.NONE))

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """It is for biases and cores, in a model wide enough for codes and deep enough for a patch."""
        if situation.train.scope not in _SCOPES:
            return f"scope {situation.train.scope} is not of biases or cores alone"
        if getattr(skeleton(sized(situation.model, geometry)), "pos_embed", None) is None:
            return "the model has no table of positions to make codes of"
        sizes = _sizes(situation, geometry)
        narrow = too_narrow(sizes.width, sizes.length, sizes.places)
        if narrow is None and not gates(sizes, situation.train.scope, bins=1):
            what = f"{sizes.depth - 1} blocks before the last, of rank {sizes.rank}"
            return f"{what}, read too few numbers of a token for a patch of {sizes.length}"
        return narrow

    def control_situation(self, situation: Situation) -> Situation:
        """One plain image and one step of SGD in the same scope, on the server's file."""
        plain = situation.unprotected()
        train = replace(plain.train, scope=situation.train.scope, rank=situation.train.rank)
        return replace(plain, train=train, server_weights=True)

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """As for any attack on updates, in a model whose public start is the server's."""
        assert isinstance(setting, UpdateSetting)
        target = setting.situation
        here = self.control_situation(target) if setting.unprotected else target
        count = min(self.updates, max(1, setting.capped(setting.images) // (target.images * target.sites)))
        plan, quiet, summed = _plan(here, setting.geometry), here.train.optimizer != "sgd", here.sites > 1
        public = as_numbers(setting.geometry.cut(setting.public.pixels), Reading(setting.geometry.bits))

        def remodel(model: VisionTransformer) -> None:
            plant(model, plan, here.train.scope, public, quiet=quiet, summed=summed and not quiet)

        return update_case(setting, key, here, updates=count, remodel=remodel)

    def recover(self, seen: Seen, rng: np.random.Generator) -> list[Patches]:
        """Read each update."""
        exchange: Exchange = exchange_of(seen)
        here, shape = exchange.situation, exchange.geometry
        model, plan = exchange.model(), _plan(here, shape)
        reader = read_cores if here.train.scope == CORE else read_biases
        return [reader(update.change, model, plan, shape.blocks) for update in exchange]

    def score(self, found: list[Patches], case: Case) -> Scores:
        """As `planted-layer`, of all places."""
        assert isinstance(case, UpdateCase)
        aimed = len(_plan(case.situation, case.geometry)) / case.geometry.blocks
        return super().score(found, case) | {"aimed": aimed}


def _sizes(situation: Situation, geometry: Geometry) -> Sizes:
    model: Any = skeleton(sized(situation.model, geometry))
    rows = int(model.blocks[0].mlp.fc1.out_features)
    width, depth = int(model.embed_dim), len(model.blocks)
    return Sizes(depth, width, rows, situation.train.rank, geometry.block_length, geometry.blocks)


def _plan(situation: Situation, geometry: Geometry) -> list[Gate]:
    images = situation.images * situation.sites
    bins = min(situation.train.rank, 1 if images == 1 else 2 * images)
    return gates(_sizes(situation, geometry), situation.train.scope, bins=bins)
