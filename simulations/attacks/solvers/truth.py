"""What a cipher really does, read from the cipher itself: for the evaluator, never for an attack."""

from __future__ import annotations

from typing import Any

import numpy as np

from crypto.base import ImageCipher, StemPermutation
from medveil.errors import ConfigError
from simulations.attacks.solvers.blocks import Indices, SignedPermutation
from simulations.attacks.solvers.digits import by_digits


def true_key(cipher: ImageCipher) -> StemPermutation | None:
    """The signed permutation of a block-pixel key (the identity for ``none``); None for schemes without one."""
    try:
        return cipher.stem_permutation()
    except ConfigError:
        return None


def true_movement(cipher: ImageCipher, negate: bool) -> SignedPermutation | None:
    """The signed permutation that a cipher is for every image; None where it is none, or another for each image."""
    shape = cipher.geometry
    if cipher.per_image:
        return None
    noise = np.random.default_rng(1).integers(0, shape.largest + 1, (1, shape.channels, *shape.padded), dtype=np.uint8)
    hidden = cipher.encrypt(noise)
    if hidden.dtype != noise.dtype:
        return None
    found = by_digits(cipher.encrypt, shape, negate=negate)
    return found if np.array_equal(found.decrypt(hidden, shape.largest), noise) else None


def true_blocks(cipher: ImageCipher) -> Indices | None:
    """The plain block behind each hidden one, (N,), of a cipher that moves whole blocks; None where it is none."""
    key = true_key(cipher)
    if key is not None:
        return key.pi.astype(np.intp)
    found = true_movement(cipher, negate=True)
    if found is None:
        return None
    positions = cipher.geometry.block_positions()
    block_of = np.empty(positions.size, np.intp)
    block_of[positions] = np.arange(len(positions))[:, None]
    behind = block_of[found.source[positions]]
    return behind[:, 0] if (behind == behind[:, :1]).all() else None


def true_order(cipher: ImageCipher) -> Indices | None:
    """The block order of a cipher that turns blocks; None for all others."""
    rotation: Any = getattr(cipher, "stem_rotation", None)
    if rotation is None or cipher.stem_rule != "orthogonal":
        return None
    made: Indices = rotation().pi.astype(np.intp)
    return made
