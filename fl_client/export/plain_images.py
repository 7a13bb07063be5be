"""The images of a model that reads plain ones: nothing hides them, and padding is open to everyone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.geometry import Geometry
from crypto.padding import Padding

_OPEN = bytes(32)


class PlainImages:
    """Brings plain images to the size of a model.

    A model that learned padded images saw pseudo-random pixels right and below. Theirs came from the key; these come
    from the image alone, and are other ones of the same kind.

    Parameters
    ----------
    channels, image_size, padded_size
        Of an image, before and after.
    """

    def __init__(self, *, channels: int, image_size: int, padded_size: int) -> None:
        self._padding: Padding | None = None
        if padded_size != image_size:
            # One block of the whole image: the padding alone is asked for, and it knows no blocks.
            made = Geometry(channels=channels, height=image_size, width=image_size, block=padded_size)
            self._padding = Padding(made, _OPEN)

    def fill(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Pad an image (C, H, W) where the model wants it."""
        if self._padding is None:
            return image
        filled: npt.NDArray[Any] = self._padding.fill(image[None])[0]
        return filled
