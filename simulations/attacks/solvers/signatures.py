"""What an image has in common with itself after hiding: numbers that need no key to compute and survive one.

All are of values as shares of their range; where values may have been negated, of their distance from the middle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simulations.attacks.solvers.blocks import cut

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[Any]

_LEVELS = 64
_BLOCK_LEVELS = 17


def shares(images: Pixels, *, negate: bool) -> npt.NDArray[np.float32]:
    """Values from 0 to 1; where they may be negated, ``|2v - 1|``, which is the same for both."""
    values = images.astype(np.float32) / np.float32(np.iinfo(images.dtype).max)
    return np.abs(2 * values - 1) if negate else values


def tones(images: Pixels, *, negate: bool, levels: int = _LEVELS) -> Floats:
    """Quantiles of each image's values, float64 (n, levels): they survive every permutation of its values."""
    values = shares(images, negate=negate).reshape(len(images), -1)
    return np.quantile(values, np.linspace(0, 1, levels), axis=1).T.astype(np.float64)


def block_tones(
    images: Pixels, block: int, *, negate: bool, levels: int = _BLOCK_LEVELS, relit: bool = False
) -> Floats:
    """Quantiles over an image's blocks of what survives inside a block, float64 (n, 5 levels).

    Mean, deviation, least and largest value survive a permutation inside blocks; the length of a block as a vector
    about the middle of the range survives every orthogonal matrix as well. Which block is which is not used.

    Parameters
    ----------
    relit
        Whether brightness and contrast differ between images that are to be alike: values are then taken as deviations
        from their image's mean, in units of its deviation.
    """
    values = shares(images, negate=negate)
    if relit:
        values = standardised(values)
    blocks = cut(values, block)
    length = np.sqrt(np.square(cut(2 * shares(images, negate=False) - 1, block)).mean(axis=2))
    measures = [blocks.mean(axis=2), blocks.std(axis=2), blocks.min(axis=2), blocks.max(axis=2), length]
    at = np.linspace(0, 1, levels)
    return np.concatenate([np.quantile(each, at, axis=1).T for each in measures], axis=1).astype(np.float64)


def standardised(images: Pixels) -> Pixels:
    """Values of each image with mean 0 and deviation 1; zeros for an image without contrast."""
    axes = tuple(range(1, images.ndim))
    centred = images - images.mean(axis=axes, keepdims=True)
    spread = centred.std(axis=axes, keepdims=True)
    made: Pixels = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return made
