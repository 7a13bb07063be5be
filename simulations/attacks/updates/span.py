"""Attacks `span` and `span-inversion`: is an image in what the first block's gradient spans, and which image is it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from crypto.base import Geometry, Reading
from fl_client.measures import auroc
from medveil.training import CORE
from models.sizes import skeleton
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Update, sized
from simulations.attacks.situations.setting import UpdateCase
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateAttack, UpdateImageAttack, as_numbers, exchange_of
from simulations.attacks.study.attack import Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.head_features import inside_of
from simulations.attacks.updates.spanned import QKV, QKV_CORE, distances, outside, solved

Floats = npt.NDArray[np.float64]
NEEDS = frozenset(
    {Capability.UPDATES, Capability.BASICS, Capability.BLOCK_SPAN, Capability.WHOLE_MODEL, Capability.ONE_STEP}
)
PAPERS = (
    "Petrov et al. 2024, arXiv:2405.15586 (DAGER: the test of candidates)",
    "Kalikman et al. 2026, arXiv:2606.18312 (TIGER: the span as an objective)",
)


def too_many_tokens(situation: Situation, geometry: Geometry) -> str | None:
    """Why there is nothing outside the span; None where there is."""
    model: Any = skeleton(sized(situation.model, geometry))
    if getattr(model, "pos_embed", None) is None:
        return "the model has no table of positions"
    images = situation.images * situation.sites
    tokens = images * (geometry.blocks + model.num_prefix_tokens)
    if tokens < _width(situation, model):
        return None
    wide = f"a core's rank ({situation.train.rank})" if situation.train.scope == CORE else "the model is wide"
    told = "" if situation.train.scope == CORE else f", and {model.embed_dim}"
    return f"exists while tokens x images are fewer than {wide}: here {tokens} of {images} images{told}"


def rest_of(update: Update, tokens: int, model: Any) -> Floats:
    """What the tokens of an update do not reach: of a core, among what its frame lets through."""
    if QKV in update.change:
        return outside(update.change[QKV].astype(np.float64), tokens=tokens)
    core = outside(update.change[QKV_CORE].astype(np.float64), tokens=tokens)
    made: Floats = core @ model.blocks[0].attn.qkv.parametrizations.weight[0].right.double().numpy()
    return made


def _width(situation: Situation, model: Any) -> int:
    """Numbers of a token that an update says something of."""
    return situation.train.rank if situation.train.scope == CORE else int(model.embed_dim)


class Span(UpdateAttack):
    """Tell images that are in an update from others of the kind."""

    name = "span"
    recovers = "facts"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.CANDIDATES})
    needs = NEEDS
    text = (
        "The gradient of the first block's attention has rows that the tokens it saw span, and no others, as long as "
        "tokens times images are fewer than the model is wide. The attacker has images among which those of an update "
        "are, asks of each how far its tokens are from that span, and so knows whether a patient's image is in the "
        "update. It needs no gradient of the stem: whoever knows the public stem asks with plain images, and a stem "
        "that was adapted to a key and stays at home hides nothing of this, since it gives the same tokens. Of a mean "
        "over several images every single one is found."
    )
    papers = PAPERS
    main = "auroc"
    margin = 0.1
    weight = 3.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """AUROC over candidates."""
        return (Metric("auroc", "AUROC of images in the update against others of the kind"),)

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """Too many tokens, or no table of positions."""
        return too_many_tokens(situation, geometry)

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """All images attacked are candidates: for each update those of the others are the outsiders."""
        return self.among_others(setting, key)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Floats:
        """Distances (updates, candidates)."""
        exchange: Exchange = exchange_of(seen)
        model = exchange.model(torch.float64)
        images = as_numbers(seen.candidates, Reading(exchange.geometry.bits))
        tokens = exchange.geometry.blocks + int(model.num_prefix_tokens)
        return np.stack([distances(model, images, rest_of(each, tokens * each.images, model)) for each in exchange])

    def score(self, found: Floats, case: Case) -> Scores:
        """AUROC over all pairs of an update and a candidate."""
        assert isinstance(case, UpdateCase)
        inside = inside_of(case, found.shape[1]).astype(np.int64)
        nearness = -found.ravel()
        return {"auroc": auroc(inside.ravel(), np.stack([-nearness, nearness], axis=1))}

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random order."""
        yield {"auroc": 0.5}


class SpanInversion(UpdateImageAttack):
    """Find the image whose tokens lie in the span."""

    name = "span-inversion"
    needs = NEEDS
    text = (
        "The continuous form of span: not a list of candidates is asked, but the image is solved for whose tokens all "
        "lie in what the first block's gradient spans. In a ViT a token is the norm of a linear function of one patch, "
        "so that each patch follows by least squares of its own, exactly for one image where the model is wider than "
        "tokens and numbers of a patch together. It needs no gradient of the stem, only a stem that gives the same "
        "tokens: the public one, also where the site's own was adapted to its key. Of several images in an update the "
        "solutions for a patch mix, and what is shown is one of the mixtures; candidates are still told (span)."
    )
    papers = PAPERS
    margin = 0.1
    weight = 3.0

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """Too many tokens, or a patch of more numbers than there are equations."""
        reason = too_many_tokens(situation, geometry)
        if reason is not None:
            return reason
        model: Any = skeleton(sized(situation.model, geometry))
        tokens = situation.images * situation.sites * (geometry.blocks + model.num_prefix_tokens)
        equations, unknown = _width(situation, model) - tokens, geometry.block_length + 1
        if equations >= unknown:
            return None
        return f"a patch has {unknown} unknowns, and the model leaves {equations} equations for them"

    def invert(self, seen: Seen, place: int, rng: np.random.Generator) -> Floats:
        """Image (1, C, H, W) behind an update."""
        exchange: Exchange = exchange_of(seen)
        model, update = exchange.model(torch.float64), exchange[place]
        tokens = (exchange.geometry.blocks + int(model.num_prefix_tokens)) * update.images
        return solved(model, rest_of(update, tokens, model), exchange.geometry)
