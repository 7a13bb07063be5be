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

    Three channels are shown in colour, any other number by the first channel; 16-bit values keep their upper 8 bits.
    """
    shown = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8)
    picture = Image.fromarray(np.moveaxis(shown, 0, -1) if len(shown) == 3 else shown[0])
    packed = io.BytesIO()
    picture.save(packed, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
