"""Images as PNG data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def data_uri(image: npt.NDArray[Any]) -> str:
    """A (C, H, W) uint8 or uint16 image as ``data:image/png;base64,...``.

    Three channels are shown in colour, any other number by the first channel; 16-bit values are stretched from their
    least to their greatest, so that a ciphertext does not look greyer than it is.
    """
    shown = _stretched(image) if image.dtype == np.uint16 else image.astype(np.uint8)
    picture = Image.fromarray(np.moveaxis(shown, 0, -1) if len(shown) == 3 else shown[0])
    packed = io.BytesIO()
    picture.save(packed, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _stretched(image: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    low, high = int(image.min()), int(image.max())
    return np.rint((image.astype(np.float64) - low) * (255 / max(1, high - low))).astype(np.uint8)
