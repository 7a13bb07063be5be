"""Arrays of pixels on their way into hidden files: blocks, what a MAC covers, and training squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crypto.files.recipe import Recipe
from crypto.imaging.preprocess import to_square
from crypto.reading.base import Pixels
from crypto.reading.samples import Samples, shown
from medveil.errors import DataError


def check_block(*, width: int, height: int, block: int, where: str | Path) -> None:
    """Refuse an image smaller than a block of the cipher: it would be padding for the most part.

    Raises
    ------
    DataError
        It is.
    """
    if min(width, height) < block:
        problem = f"is an image of {width} x {height} pixels, smaller than a block of {block}"
        raise DataError(problem, where=where, cure="choose a smaller block")


def mac_parts(values: Pixels) -> tuple[bytes, memoryview]:
    """What a MAC covers of one frame of ciphertext: its shape, and its samples as C-order little-endian CHW."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    shape = " ".join(map(str, (8 * little.dtype.itemsize, *little.shape)))
    return shape.encode("ascii"), little.reshape(-1).view(np.uint8).data


def to_training(samples: Samples, recipe: Recipe) -> NDArray[np.uint8]:
    """Bring an image to what is trained on: what a viewer shows (`crypto.reading.samples.shown`), square.

    Returns
    -------
    uint8 (C, size, size), C of 1 or 3.
    """
    assert recipe.size is not None
    channels = recipe.channels or samples.channels
    return to_square(shown(samples, recipe.window), size=recipe.size, channels=channels)
