"""Samples of a raster image on their way to what a viewer shows: palettes, depth, sign, windows, orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crypto.imaging.preprocess import percentiles_to_bytes, scale_to_bytes, window_to_bytes
from crypto.reading.base import Bytes, Pixels
from medveil.errors import DataError


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

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (colour) of what a viewer shows."""
        return 3 if self.palette is not None or len(self.values) >= 3 else 1

    def as_stored(self) -> Pixels:
        """The samples in the type they are of: unsigned or signed (C, H, W)."""
        return self.values.view(np.dtype(f"i{self.values.dtype.itemsize}")) if self.signed else self.values


def shown(samples: Samples, window: Sequence[float] | None) -> Bytes:
    """Bring an image to what a viewer shows: upright, 8 bit, without alpha.

    Grey: `window` (centre, width) if given, else the whole range of up to 8 bits, else percentiles 0.5 to 99.5.
    Colour, which a window of grey values leaves alone: a palette is looked up, 16 bit is scaled to 8.

    Returns
    -------
    uint8 (H, W) or (H, W, 3)

    Raises
    ------
    DataError
        An index is beyond the palette.
    """
    return np.ascontiguousarray(upright(_to_bytes(samples, window), samples.orientation))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W) or (H, W, C) pixels the way EXIF's orientation says they are to be seen."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return pixels


def look_up(indices: Pixels, palette: Pixels) -> Bytes:
    """Replace indices (H, W) by the colours of a palette (n, 3): uint8 (H, W, 3).

    Raises
    ------
    DataError
        An index is beyond the palette.
    """
    if indices.size and int(indices.max()) >= len(palette):
        raise DataError(f"has the index {int(indices.max())} into a palette of {len(palette)} colours")
    found: Bytes = palette[indices]
    return found


def _to_bytes(samples: Samples, window: Sequence[float] | None) -> Bytes:
    values = samples.values
    if samples.palette is not None:
        return look_up(values[0], samples.palette)
    if len(values) >= 3:
        colour = samples.as_stored()[:3].transpose(1, 2, 0)
        low, high = _range(samples)
        return colour if colour.dtype == np.uint8 and samples.bits == 8 else scale_to_bytes(colour, low, high)
    grey = _grey(samples, window)
    return np.subtract(255, grey, dtype=np.uint8) if samples.white_is_zero else grey


def _grey(samples: Samples, window: Sequence[float] | None) -> Bytes:
    values = samples.as_stored()[0]
    if window is not None:
        return window_to_bytes(values, window)
    if samples.bits > 8 or samples.signed:
        return percentiles_to_bytes(values)
    return scale_to_bytes(values, *_range(samples))


def _range(samples: Samples) -> tuple[int, int]:
    """The darkest and the brightest value that a sample can be."""
    half = 2 ** (samples.bits - 1)
    return (-half, half - 1) if samples.signed else (0, 2 * half - 1)
