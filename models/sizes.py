"""How large a model is, and what training it takes, before any of it is built.

A configuration of some bytes can ask for a model of a hundred gigabytes. `least_parameters` multiplies the numbers it
gives, and touches nothing of timm's; `skeleton` is the whole model without its storage, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from models.config import ModelConfig
from models.vit import build_vit, check_beginning
from models.vits import check_vit
from models.without_storage import without_storage

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_STATES = 8
"""Copies of a model's tensors in training: model, public start, gradients, AdamW's two moments, what came, what goes,
and the whole that is kept."""
_ACTIVATIONS = 17
"""Numbers kept for a token, of the width's size, in a block: 34 bytes in half precision, by Korthikanti et al.,
"Reducing Activation Recomputation in Large Transformer Models", MLSys 2023, section 4.1, without the scores."""
_SCORES = 2
"""Attention scores and their gradients, of one block at a time: fused kernels keep none."""
_IMAGES = 2
"""A batch of images as numbers, and its augmentation or mixture."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Vision Transformer that decide what it takes."""

    parameters: int
    tokens: int
    width: int
    depth: int
    heads: int


def least_parameters(*, width: int, depth: int, patch: int, channels: int, tokens: int, classes: int) -> int:
    """Fewest numbers such a model has: patch and position embedding, attention, head; any MLP comes on top."""
    return width * (channels * patch**2 + tokens + classes + depth * 4 * width)


def least_shape(config: ModelConfig) -> Shape:
    """The smallest a configuration can mean, by arithmetic alone; what it leaves to timm counts as 1."""
    width, depth, patch = config.width or 1, config.depth or 1, config.patch or 1
    tokens = max(1, (config.image_size or 1) // patch) ** 2
    parameters = least_parameters(
        width=width,
        depth=depth,
        patch=patch,
        channels=config.channels or 1,
        tokens=tokens,
        classes=config.classes or 1,
    )
    return Shape(parameters=parameters, tokens=tokens, width=width, depth=depth, heads=config.heads or 1)


def skeleton(config: ModelConfig) -> VisionTransformer:
    """The model of a configuration without storage for a single weight, and without its pretrained ones.

    Raises
    ------
    ConfigError
        As `models.vit.build_vit` does.
    """
    check_beginning(config.init, config.pretrained.strip())
    with without_storage():
        return build_vit(replace(config, pretrained="false", mean=None, std=None), seed=0)


def shape_of(model: VisionTransformer) -> Shape:
    """The sizes of a model that was built, with storage or without."""
    check_vit(model)
    positions = getattr(model, "pos_embed", None)
    return Shape(
        parameters=sum(tensor.numel() for tensor in model.state_dict().values() if tensor.is_floating_point()),
        tokens=model.patch_embed.num_patches if positions is None else int(positions.shape[1]),
        width=model.embed_dim,
        depth=len(model.blocks),
        heads=heads_of(model),
    )


def heads_of(model: VisionTransformer) -> int:
    """Attention heads of a block, whatever it calls its attention: some have several side by side, some none apart."""
    return next(int(cast("Any", each).num_heads) for each in model.blocks[0].modules() if hasattr(each, "num_heads"))


def training_bytes(shape: Shape, *, batch: int, image: int, itemsize: int, more: int = 0) -> int:
    """About what training takes, in bytes: of the size of what it will be, and not below what the weights alone take.

    Parameters
    ----------
    shape
        The model's sizes.
    batch
        Images a step.
    image
        Numbers of an image.
    itemsize
        Bytes of a number: 4, or 8 under ``precision: fp64``.
    more
        Copies of the model's tensors beyond the usual: an average of weights is one, moments that are kept four.
    """
    weights = (_STATES + more) * shape.parameters
    activations = _ACTIVATIONS * batch * shape.tokens * shape.width * shape.depth
    scores = _SCORES * batch * shape.heads * shape.tokens**2
    return itemsize * (weights + activations + scores + _IMAGES * batch * image)
