"""Arrays of pixels on their way into and out of files: limits, byte order, orientation, and training squares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.files.header import LARGEST_SIDE
from crypto.files.recipe import Recipe
from crypto.imaging.preprocess import percentiles_to_bytes, scale_to_bytes, to_square, window_to_bytes
from medveil.errors import DataError

Pixels = NDArray[Any]

LARGEST_VALUES = 2**27
"""Values of one image that is opened: 11585 x 11585 grey, 6688 x 6688 RGB. A cipher needs some 30 bytes for each."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """One image as it was stored, and what turns its numbers into a picture.

    Parameters
    ----------
    values
        uint8 or uint16 (C, H, W), C of 1 to 4; signed samples as the same bits unsigned.
    bits
        Of a sample.
    signed
        Whether samples are two's complement.
    palette
        uint8 (n, 3), the colours that values of one channel stand for; None where they stand for themselves.
    white_is_zero
        Whether grey runs from white to black.
    orientation
        As EXIF counts it, 1 (upright) to 8.
    """

    values: Pixels
    bits: int
    signed: bool = False
    palette: Pixels | None = None
    white_is_zero: bool = False
    orientation: int = 1


def check_size(*, width: int, height: int, channels: int, where: str | Path) -> None:
    """Refuse an image of no size, or of one that would fill the memory, before anything is decoded.

    Raises
    ------
    DataError
        It is so.
    """
    if width < 1 or height < 1:
        raise DataError(f"is an image of {width} x {height} pixels", where=where)
    if max(width, height) > LARGEST_SIDE or width * height * channels > LARGEST_VALUES:
        problem = f"is an image of {width} x {height} pixels and {channels} channels"
        raise DataError(problem, where=where, cure=f"up to {LARGEST_VALUES} values are opened")


def check_block(*, width: int, height: int, block: int, where: str | Path) -> None:
    """Refuse an image smaller than a block of the cipher: it would be padding for the most part.

    Raises
    ------
    DataError
        It is.
    """
    if min(width, height) < block:
        problem = f"is an image of {width} x {height} pixels, smaller than a block of {block}"
        raise DataError(problem, where=where, cure="choose a smaller --block")


def mac_parts(values: Pixels) -> tuple[bytes, memoryview]:
    """What a MAC covers of one frame of ciphertext: its shape, and its samples as C-order little-endian CHW."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    shape = " ".join(map(str, (8 * little.dtype.itemsize, *little.shape)))
    return shape.encode("ascii"), little.reshape(-1).view(np.uint8).data


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W) or (H, W, C) pixels the way EXIF's orientation says they are to be seen."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return pixels


def to_training(samples: Samples, recipe: Recipe) -> NDArray[np.uint8]:
    """Bring an image to what is trained on: upright, 8 bit, without alpha, square.

    Grey: the recipe's window if given, else the whole range of up to 8 bits, else percentiles 0.5 to 99.5. Colour: a
    palette is looked up, 16 bit is scaled to 8.

    Returns
    -------
    uint8 (C, size, size), C of 1 or 3.
    """
    assert recipe.size is not None
    shown = upright(_to_bytes(samples, recipe), samples.orientation)
    channels = recipe.channels or (1 if shown.ndim == 2 else 3)
    return to_square(np.ascontiguousarray(shown), size=recipe.size, channels=channels)


def _to_bytes(samples: Samples, recipe: Recipe) -> NDArray[np.uint8]:
    values = samples.values
    if samples.palette is not None:
        return look_up(values[0], samples.palette)
    if len(values) >= 3:
        colour = values[:3].transpose(1, 2, 0)
        return colour.astype(np.uint8) if samples.bits == 8 else scale_to_bytes(colour, 0, 2**samples.bits - 1)
    grey = _grey(samples, recipe)
    return np.subtract(255, grey, dtype=np.uint8) if samples.white_is_zero else grey


def _grey(samples: Samples, recipe: Recipe) -> NDArray[np.uint8]:
    values = samples.values[0]
    if samples.signed:
        values = values.view(np.dtype(f"i{values.dtype.itemsize}"))
    if recipe.window is not None:
        return window_to_bytes(values, recipe.window)
    if samples.bits > 8 or samples.signed:
        return percentiles_to_bytes(values)
    return scale_to_bytes(values, 0, 2**samples.bits - 1)


def look_up(indices: Pixels, palette: Pixels) -> NDArray[np.uint8]:
    """Replace indices (H, W) by the colours of a palette (n, 3): uint8 (H, W, 3).

    Raises
    ------
    DataError
        An index is beyond the palette.
    """
    if indices.size and int(indices.max()) >= len(palette):
        raise DataError(f"has the index {int(indices.max())} into a palette of {len(palette)} colours")
    found: NDArray[np.uint8] = palette[indices]
    return found
