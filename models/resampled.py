"""Patch and position embeddings at another size, with the same bits on every machine.

All sites of a run must begin with the same bits (`models.hashes`), and timm resamples in single precision, whose last
bits change with the number of threads and the processor. Here its two rules run in double precision and end on a grid
far coarser than what machines differ by.

Patches follow Beyer et al., "FlexiViT", CVPR 2023, arXiv 2212.08013: the embedding that gives a resized patch what the
old one gave the patch, by least squares. Positions are resized like an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from models.vits import VisionTransformer

PATCHES, POSITIONS = "patch_embed.proj.weight", "pos_embed"
_GRID_BITS = 16
"""Steps of the grid from zero to the largest entry, as a power of two: finer than bfloat16, coarser than any error."""


def resampled(state: Mapping[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    """A state whose patch and position embedding have the model's sizes.

    Parameters
    ----------
    state
        Tensors under the model's names; those of another form are left to whoever loads them.
    model
        Of the wanted image and patch size; one without storage will do.
    """
    made = dict(state)
    patches, side = made.get(PATCHES), model.patch_embed.patch_size
    if patches is not None and patches.ndim == 4 and tuple(patches.shape[-2:]) != tuple(side):
        made[PATCHES] = resized_patches(patches, (side[0], side[1]))
    positions, wanted = made.get(POSITIONS), getattr(model, POSITIONS, None)
    if positions is None or wanted is None or positions.ndim != 3 or positions.shape[2:] != wanted.shape[2:]:
        return made
    first = 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens
    old = math.isqrt(max(0, positions.shape[1] - first))
    if positions.shape != wanted.shape and old > 0 and old**2 == positions.shape[1] - first:
        grid = model.patch_embed.grid_size
        made[POSITIONS] = resized_positions(positions, first, (grid[0], grid[1]))
    return made


def resized_patches(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """A patch embedding (D, C, h, w) for patches of another size, (D, C, *size)."""
    out, channels, high, wide = weight.shape
    basis = torch.eye(high * wide, dtype=torch.float64).reshape(-1, 1, high, wide)
    resize = _resize(basis, size).reshape(high * wide, -1).numpy()
    moved = weight.double().reshape(out * channels, -1) @ torch.from_numpy(np.linalg.pinv(resize)).T
    return _on_grid(moved.reshape(out, channels, *size), weight.dtype)


def resized_positions(positions: Tensor, first: int, grid: tuple[int, int]) -> Tensor:
    """Positions (1, first + n * n, D) for another grid of patches, (1, first + rows * columns, D)."""
    side = math.isqrt(positions.shape[1] - first)
    places = positions[:, first:].double().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    moved = _resize(places, grid).permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1)
    return torch.cat([positions[:, :first], _on_grid(moved, positions.dtype)], dim=1)


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(images, size=size, mode="bicubic", antialias=True)


def _on_grid(values: Tensor, dtype: torch.dtype) -> Tensor:
    largest = float(values.abs().max())
    if not math.isfinite(largest) or largest == 0:
        return values.to(dtype)
    step = 2.0 ** (math.frexp(largest)[1] - _GRID_BITS)
    return (torch.round(values / step) * step).to(dtype)
