"""From decoded pixels to the 8-bit square images a cipher hides.

Aspect is not kept and nothing is padded: an image fills the square, as in the papers on learnable image ciphers; a
border would be a block every ciphertext shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medveil.errors import DataError

VERSION = 2
"""Of what becomes of a file's pixels; a store of another version is built anew.

2: DICOM by one reader (slopes that are negative or none, lookup tables that lie about their bits, inversion by
PresentationLUTShape, padding of either sign), images whose percentiles are one value by their whole range, rasters by
one reader (TIFF: sign, white as zero, palettes of bytes; 16-bit colour is rounded), and one scale for an npz file.
"""
PERCENTILES = (0.5, 99.5)

Bytes = npt.NDArray[np.uint8]


def window_to_bytes(values: npt.NDArray[Any], window: Sequence[float]) -> Bytes:
    """Map a window of grey values linearly to 0..255; values outside are clamped.

    Parameters
    ----------
    values
        Any shape and real dtype, in the units of `window` (Hounsfield units for CT).
    window
        Centre and width.
    """
    centre, width = window
    return scale_to_bytes(values, centre - width / 2, centre + width / 2)


def percentiles_to_bytes(values: npt.NDArray[Any], counted: npt.NDArray[np.bool_] | None = None) -> Bytes:
    """Map the 0.5th to the 99.5th percentile linearly to 0..255: for files that say no window.

    Parameters
    ----------
    values
        Any shape and real dtype.
    counted
        Which values the percentiles are taken over (padding left out); None for all.
    """
    return scale_to_bytes(values, *grey_range(values if counted is None or not counted.any() else values[counted]))


def grey_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The range that is shown of a file that says no window.

    The 0.5th to the 99.5th percentile; where these are one value, as in sparse images of nuclear medicine, the least to
    the largest.
    """
    low, high = np.percentile(values, PERCENTILES)
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))


def scale_to_bytes(values: npt.NDArray[Any], low: float, high: float) -> Bytes:
    """Map `low`..`high` linearly to 0..255, rounding to nearest; values outside are clamped.

    Raises
    ------
    DataError
        A value is NaN or infinite.
    """
    scaled = np.asarray(values, dtype=np.float64)
    if not np.isfinite(scaled).all():
        raise DataError("holds values that are not finite")
    if not high > low:
        return np.zeros(scaled.shape, dtype=np.uint8)
    return np.rint(np.clip((scaled - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)


def to_square(pixels: Bytes, *, size: int, channels: int) -> Bytes:
    """Resize to a square and bring to the channels asked for.

    Parameters
    ----------
    pixels
        uint8 (H, W) or (H, W, 3).
    size
        Side of the result in pixels; bilinear, antialiased when it shrinks (Pillow).
    channels
        1 (ITU-R 601-2 luma of colour) or 3 (grey repeated).

    Returns
    -------
    uint8 (channels, size, size)
    """
    image = Image.fromarray(pixels)
    if channels == 1 and image.mode != "L":
        image = image.convert("L")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    made = np.asarray(image, dtype=np.uint8)
    if made.ndim == 2:
        return np.repeat(made[None], channels, axis=0)
    return np.ascontiguousarray(made.transpose(2, 0, 1))
