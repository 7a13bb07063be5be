"""Which of timm's architectures train here, and which of those a stem that follows a key can be before.

A model is *moved* by its stem (`models.stem`): that takes patches that do not overlap, positions that are rows of a
table or rotations, and attention that knows no other order. Some models know the places of patches deeper down, in a
number for every pair of places; they train on hidden images with a public stem that learns, or on plain ones, and no
stem adapts them. The rest is refused.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from medveil.errors import PolicyError
from models.policy import Policy
from models.rotary import is_rotary
from models.timm_import import import_timm

import_timm()

from timm.layers.patch_embed import PatchEmbed  # noqa: E402 - import_timm comes first
from timm.layers.pos_embed_sincos import (  # noqa: E402
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    RotaryEmbeddingMixed,
)
from timm.models.beit import Beit  # noqa: E402
from timm.models.eva import Eva  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from timm.models.vision_transformer_relpos import VisionTransformerRelPos  # noqa: E402

MOVED = (VisionTransformer, Eva)
UNMOVED = (VisionTransformerRelPos, Beit)
_RELATIVE = (
    "adds to attention a learned number for every pair of places (relative positions), which no stem brings into the "
    "order of a key"
)


def why_refused(model: Any) -> str | None:
    """Why a model of timm's does not train here at all, as the end of a sentence about it; None where it does."""
    if type(model) not in MOVED + UNMOVED:
        return why_of_class(type(model).__name__)
    if type(model) in UNMOVED:
        return _unfit_embedding(model.patch_embed)
    if model.pos_embed is None and not is_rotary(model):
        return "has no learned absolute position embedding, and no rotary one"
    return _unfit_embedding(model.patch_embed) or _unfit_rotation(model) or _unfit_randomness(model)


def why_of_class(kind: str) -> str:
    """Why a model of a class that is none of ours is refused."""
    return f"is a {kind}: a stem that follows a key is known for timm's VisionTransformer and Eva only"


def why_unmoved(model: Any) -> str | None:
    """Why no stem before a model that trains here can follow a key, likewise; None where one can."""
    return _RELATIVE if isinstance(model, UNMOVED) else None


def check_stem(model: Any, policy: Policy) -> None:
    """Refuse a stem that a model cannot have (PolicyError, with the reason)."""
    problem = why_unmoved(model)
    if problem is not None and policy.init != "public":
        cure = "set stem.init to public, or name a model with learned absolute or rotary positions"
        raise PolicyError(f"a {type(model).__name__} {problem}", where=f"policy {policy}", cure=cure)


def _unfit_embedding(embed: Any) -> str | None:
    if type(embed) is not PatchEmbed or embed.dynamic_img_pad:
        return f"embeds patches with a {type(embed).__name__} whose layers or padding reach beyond a block"
    projection = embed.proj
    if projection.kernel_size != projection.stride or projection.groups != 1 or any(projection.padding):
        return "has patches that overlap, are padded, or see single channels"
    return None


def _unfit_rotation(model: Any) -> str | None:
    if not is_rotary(model):
        return None
    if getattr(model.rope, "aug_active", False):
        return "shifts, stretches or scales its rotary positions at random in training (rope jitter)"
    if type(model.rope) not in (RotaryEmbeddingCat, RotaryEmbeddingDinoV3, RotaryEmbeddingMixed):
        return f"has rotary positions of a kind that is not known here ({type(model.rope).__name__})"
    return None


def _unfit_randomness(model: Any) -> str | None:
    for part, layer in model.named_modules():
        if isinstance(layer, nn.Dropout) and layer.p > 0 and part != "head_drop":
            return f"drops tokens or features at random ('{part}'), which differ under a permutation"
    return None if model.patch_drop is None or isinstance(model.patch_drop, nn.Identity) else "drops patches at random"
