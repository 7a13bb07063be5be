"""What a cipher really does, read from the cipher itself: for the evaluator, never for an attack."""

from __future__ import annotations

from typing import Any

import numpy as np

from crypto.base import ImageCipher
from simulations.attacks.blocks import Indices, SignedPermutation
from simulations.attacks.cases import hide, oracle
from simulations.attacks.digits import by_digits

_NONCES = 2**35


def true_movement(cipher: ImageCipher, negate: bool) -> SignedPermutation | None:
    """The signed permutation that a cipher is for every image; None where it is none, or another for each image."""
    shape = cipher.geometry
    if cipher.per_image:
        return None
    noise = np.random.default_rng(1).integers(0, shape.largest + 1, (1, shape.channels, *shape.padded), dtype=np.uint8)
    hidden = hide(cipher, noise, first=_NONCES).images
    if hidden.dtype != noise.dtype:
        return None
    found = by_digits(oracle(cipher), shape, negate=negate)
    return found if np.array_equal(found.decrypt(hidden, shape.largest), noise) else None


def true_order(cipher: ImageCipher) -> Indices | None:
    """The block order of a cipher that turns blocks; None for all others."""
    rotation: Any = getattr(cipher, "stem_rotation", None)
    if rotation is None or cipher.stem_rule != "orthogonal":
        return None
    made: Indices = rotation().pi.astype(np.intp)
    return made
