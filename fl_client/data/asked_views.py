"""Views of an image that is asked about: the image itself, and augmented ones, drawn from what the image is.

A model that is asked about several views of an image and averaged errs less than about one (Krizhevsky et al., 2012).
Views are drawn from the pixels and from nothing else: the same image has the same views in a run and in ``predict``,
whatever it is called. They are made before hiding, as in training.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from fl_client.data.augment import OF_RUN, augment
from fl_client.data.rng import generator

Bytes = npt.NDArray[np.uint8]


def asked_view(image: Bytes, view: int, level: str) -> Bytes:
    """View `view` (from 0, the image itself) of an image.

    Parameters
    ----------
    image
        uint8 (C, S, S).
    level
        ``light``, ``medium`` or ``strong``.

    Returns
    -------
    uint8 (C, S, S)
    """
    if view == 0:
        return image
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
    return augment(image, name=f"{OF_RUN}{level}", flip=False, rng=generator(0, "asked", digest, view))
