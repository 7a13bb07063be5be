"""What the gradient of the first block's attention says of the tokens it saw: they span its rows.

The gradient of a linear layer is a sum over tokens of (gradient of its output) x (its input), so that with fewer tokens
than the layer is wide the rows of the gradient span the inputs, and nothing else. Petrov et al., "DAGER", arXiv
2405.15586, ask of candidates whether they lie there; Kalikman et al., "TIGER", arXiv 2606.18312, make it an objective
to descend. In a ViT there is no need to descend: an input is the norm of a linear function of one patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crypto.base import Geometry

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]
QKV = "blocks.0.attn.qkv.weight"
QKV_CORE = "blocks.0.attn.qkv.parametrizations.weight.0.core"


def tokens_of(model: VisionTransformer, images: Floats) -> Tensor:
    """What the first block's attention reads of images (n, C, H, W): its tokens (n, T, D) behind the norm."""
    stem: Any = model
    with torch.no_grad():
        given = torch.from_numpy(images).to(next(model.parameters()).dtype)
        tokens = stem.norm_pre(stem.patch_drop(stem._pos_embed(stem.patch_embed(given))))
        read: Tensor = stem.blocks[0].norm1(tokens)
    return read


def outside(gradient: Floats, *, tokens: int) -> Floats:
    """What no combination of so many tokens reaches: orthonormal rows (D - tokens, D).

    Parameters
    ----------
    gradient
        Of the weight (3 D, D), up to a factor.
    tokens
        How many it was made of, below D.
    """
    _, _, directions = np.linalg.svd(gradient, full_matrices=True)
    rest: Floats = directions[tokens:]
    return rest


def distances(model: VisionTransformer, images: Floats, rest: Floats) -> Floats:
    """How far each image's tokens are from the span, as a share of their length: float64 (n,), 0 for one inside."""
    read = tokens_of(model, images).double().numpy()
    off = np.linalg.norm(read @ rest.T, axis=2) / np.maximum(np.linalg.norm(read, axis=2), 1e-12)
    made: Floats = off.mean(axis=1)
    return made


def solved(model: VisionTransformer, rest: Floats, geometry: Geometry) -> Floats:
    """The image (1, C, H, W) all of whose tokens lie in the span, by least squares, patch by patch.

    A token is W x + c before the norm, which takes its mean away, divides by its deviation s and applies gain g and
    shift b. That it lies in the span, rest (g (W x + c - mean) + s b) = 0, is linear in x and s together: s is solved
    for as if it were free.
    """
    stem: Any = model
    weight = stem.patch_embed.proj.weight.detach().double().flatten(1).numpy()
    bias = stem.patch_embed.proj.bias
    offset = 0.0 if bias is None else bias.detach().double().numpy()
    places = stem.pos_embed.detach().double().numpy()[0, -geometry.blocks :] + offset
    norm = stem.blocks[0].norm1
    gain, shift = (each.detach().double().numpy() for each in (norm.weight, norm.bias))
    seen = rest * gain
    seen = seen - seen.mean(axis=1, keepdims=True)
    columns = np.concatenate([seen @ weight, (rest @ shift)[:, None]], axis=1)
    found, *_ = np.linalg.lstsq(columns, -(seen @ places.T), rcond=None)
    image: Floats = geometry.join(np.ascontiguousarray(found[:-1].T)[None])
    return image
