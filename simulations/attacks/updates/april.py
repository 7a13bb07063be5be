"""april: the closed form for attention of APRIL, in the architecture it was published for and on ours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from crypto.base import Geometry
from models.sizes import skeleton
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, sized
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateImageAttack, exchange_of
from simulations.attacks.study.cases import Seen
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from medveil.wire import Tensors
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]
QKV, POSITIONS, WEIGHT, BIAS = (
    "blocks.0.attn.qkv.weight",
    "pos_embed",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
)

_LONG = 1000.0


class Published(nn.Module):
    """A block as APRIL wants the first one: attention meets the tokens themselves, with no norm and no way around it.

    Parameters
    ----------
    block
        timm's.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.attn, self.norm2, self.mlp = block.attn, block.norm2, block.mlp

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, T, D) to tokens."""
        parts: Any = self
        x = parts.attn(x)
        made: Tensor = x + parts.mlp(parts.norm2(x))
        return made


class April(UpdateImageAttack):
    """Solve for the tokens that attention saw, then for the patches they were made of."""

    name = "april"
    needs = frozenset({Capability.UPDATES, Capability.STEM_UPDATE, Capability.BLOCK_UPDATE})
    text = (
        "Where attention meets tokens as they leave the position embedding, its weights and their gradients give the "
        "product of the tokens with their own gradient, which is that of the positions: the tokens follow by least "
        "squares, and the patches from them where the model is at least as wide as a patch has numbers. The control is "
        "the architecture it was published for, whose first block has no norm and no skip before attention; every ViT "
        "that trains here has both, and there the formula is wrong. It is here as a check of the bench: the simpler "
        "stem-closed-form needs none of that."
    )
    papers = ("Lu et al. 2022, arXiv:2112.14087 (APRIL, closed form)",)
    margin = 0.1
    weight = 2.0

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """A model narrower than a patch has numbers gives tokens and no pixels."""
        model = skeleton(sized(situation.model, geometry))
        if getattr(model, "pos_embed", None) is None:
            return "the model has no table of positions to learn"
        if model.embed_dim < geometry.block_length:
            return f"a patch has {geometry.block_length} numbers, and the model is {model.embed_dim} wide"
        return None

    def control_situation(self, situation: Situation) -> Situation:
        """As published: a gradient, which weights after so long a step round no more than single precision does.

        It is computed in double precision: while attention is nearly even, as it is at the start, the tokens' gradients
        are nearly alike, and the equations as good as singular.
        """
        plain = situation.unprotected()
        return replace(plain, train=replace(plain.train, lr=_LONG, min_lr=_LONG, precision="fp64"))

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """The control's model has the published first block."""
        assert isinstance(setting, UpdateSetting)
        if not setting.unprotected:
            return super().case(setting, key)
        here = self.control_situation(setting.situation)
        return update_case(setting, key, here, updates=self.count(setting), remodel=as_published)

    def invert(self, seen: Seen, place: int, rng: np.random.Generator) -> Floats:
        """Image (1, C, H, W) behind an update."""
        exchange: Exchange = exchange_of(seen)
        update = exchange[place]
        return closed_form(update.change, update.before, exchange.geometry)


def closed_form(change: Tensors, before: Tensors, geometry: Geometry) -> Floats:
    """The image (1, C, H, W) of a gradient, or of what it changed: tokens by least squares, then their patches.

    Parameters
    ----------
    change
        Of the first block's qkv weight and of the positions; any factor will do.
    before
        The same, and the patch embedding, as they were.
    geometry
        Of images and patches.
    """
    moved = {name: change[name].astype(np.float64) for name in (QKV, POSITIONS)}
    was = {name: before[name].astype(np.float64) for name in (QKV, POSITIONS, WEIGHT, BIAS)}
    width = moved[QKV].shape[1]
    parts = zip(was[QKV].reshape(3, width, width), moved[QKV].reshape(3, width, width), strict=True)
    product = np.sum([weight.T @ gradient for weight, gradient in parts], axis=0)
    tokens, *_ = np.linalg.lstsq(moved[POSITIONS][0].T, product, rcond=None)
    embedded = (tokens - was[POSITIONS][0])[-geometry.blocks :] - was[BIAS]
    weight = was[WEIGHT].reshape(width, -1)
    patches, *_ = np.linalg.lstsq(weight, embedded.T, rcond=None)
    image: Floats = geometry.join(np.ascontiguousarray(patches.T)[None])
    return image


def as_published(model: VisionTransformer) -> None:
    """Give a model the first block that APRIL was published for, in place."""
    model.blocks[0] = Published(model.blocks[0])
