"""Weights of attention that look as training leaves them, for models too small or too short of images to get there.

Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023, arXiv 2305.09828: in trained
Transformers the product of query and key weights of a head is near a multiple of the identity, and that of value and
output weights near a negative one. Both are drawn so, with a share of noise, and split by a singular value
decomposition: queries and keys of each head to the head's rank, values and outputs to the full width. Positions begin
as sines and cosines of row and column, and are learned like any others.

Everything drawn is about attention and positions of a *public* start: a stem follows its key afterwards, as ever, and
moves the rows of the positions with the patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medveil.errors import ConfigError
from models.rotary import is_rotary

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Matrix = npt.NDArray[np.float64]

QUERY_KEY = (0.7, 0.7)
"""Shares of noise and of the identity in query times key."""
VALUE_OUTPUT = (0.4, -0.4)
"""The same in value times output."""
STEP = 2.0**-12
"""Weights are whole multiples of it: decompositions and sines of different machines differ by far less, and all sites
must begin with the same bits (`models.vit.model_hash`)."""
_AXES = 4
"""A position is sine and cosine of row and of column, so many numbers a frequency."""


def begin_mimetic(model: VisionTransformer, *, seed: int) -> None:
    """Let attention and positions of a fresh model begin as the module says, in place.

    Parameters
    ----------
    model
        A fresh model of `models.vit.build_vit`; one without storage is checked and left.
    seed
        Of the run.

    Raises
    ------
    ConfigError
        Its attention has another form, its positions are not learned or rotary too, or its width is no multiple of 4.
    """
    if getattr(model, "pos_embed", None) is None or is_rotary(model):
        # A product near the identity makes a patch look at itself; turned by places, it would look elsewhere.
        problem = (
            "is mimetic, which is known for models with learned absolute positions alone, and this one's are others"
        )
        raise ConfigError(problem, where="model.init", cure="default, or a model without RoPE (vit_tiny_patch16_224)")
    layers = [_attention(block) for block in model.blocks]
    if model.embed_dim % _AXES:
        problem = f"sines and cosines of two axes do not fill the width {model.embed_dim}"
        raise ConfigError(problem, where="model.init", cure="a model.width that is a multiple of 4")
    if model.patch_embed.proj.weight.is_meta:
        return
    with torch.no_grad():
        for depth, attention in enumerate(layers):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, depth])))
            _begin_attention(attention, rng)
        _begin_positions(model)


def _attention(block: nn.Module) -> Any:
    attention: Any = getattr(block, "attn", None)
    qkv, out = getattr(attention, "qkv", None), getattr(attention, "proj", None)
    width = out.weight.shape[0] if isinstance(out, nn.Linear) else 0
    if not isinstance(qkv, nn.Linear) or tuple(qkv.weight.shape) != (3 * width, width):
        problem = "is mimetic, which is known for attention with one matrix of queries, keys and values"
        raise ConfigError(
            problem, where="model.init", cure="default, or a model of plain blocks (vit_tiny_patch16_224)"
        )
    return attention


def _begin_attention(attention: Any, rng: np.random.Generator) -> None:
    width, heads = attention.proj.weight.shape[0], attention.num_heads
    rank = width // heads
    rows: Tensor = attention.qkv.weight
    for head in range(heads):
        query, key = _split(_drawn(rng, width, *QUERY_KEY), rank)
        # A Linear layer's weight is the transpose of the paper's matrix.
        rows[head * rank : (head + 1) * rank] = _rounded(query.T)
        rows[width + head * rank : width + (head + 1) * rank] = _rounded(key)
    value, output = _split(_drawn(rng, width, *VALUE_OUTPUT), width)
    rows[2 * width :] = _rounded(value.T)
    attention.proj.weight.copy_(_rounded(output.T))


def _drawn(rng: np.random.Generator, width: int, noise: float, identity: float) -> Matrix:
    made: Matrix = noise * rng.standard_normal((width, width)) / np.sqrt(width) + identity * np.eye(width)
    return made


def _split(product: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """Two factors (d, rank) and (rank, d) of a product (d, d), the best of that rank, equally large."""
    left, values, right = np.linalg.svd(product)
    # A decomposition may turn the signs of a pair of vectors: the largest number of each is the positive one.
    largest = np.abs(left).argmax(0)
    signs = np.sign(left[largest, np.arange(len(values))])
    root = np.sqrt(values[:rank])
    return left[:, :rank] * signs[:rank] * root, (right * signs[:, None])[:rank] * root[:, None]


def _begin_positions(model: VisionTransformer) -> None:
    position = cast("Tensor", model.pos_embed)
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    rows, columns = model.patch_embed.grid_size
    position.zero_()
    position[0, prefix:] = _rounded(sines_of(rows, columns, model.embed_dim))


def sines_of(rows: int, columns: int, width: int) -> Matrix:
    """Positions float64 (rows * columns, width): sines of row and of column, then cosines.

    timm's `build_sincos2d_pos_embed` in double precision: in single, the last bits are each machine's own.
    """
    frequencies = 10000.0 ** -(np.arange(width // _AXES) / (width // _AXES))
    row, column = np.divmod(np.arange(rows * columns), columns)
    angles = [each[:, None] * frequencies for each in (row, column)]
    return np.concatenate([part(angle) for part in (np.sin, np.cos) for angle in angles], axis=1)


def _rounded(values: Matrix) -> Tensor:
    return torch.from_numpy(np.rint(values / STEP) * STEP).float()
