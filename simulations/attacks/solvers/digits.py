"""Reading a fixed moving and negating of values exactly: number every value, a digit to an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crypto.base import Geometry
from simulations.attacks.solvers.blocks import Pixels, SignedPermutation


def by_digits(hide: Callable[[Pixels], Pixels], shape: Geometry, *, negate: bool) -> SignedPermutation:
    """Number all P values of an image and read where each went: exact for every fixed moving and negating of values.

    Image k holds digit k of each number, in a base of half the grey values, so that a negated digit is in the upper
    half; in the base of all grey values where nothing is negated.

    Parameters
    ----------
    hide
        Gives the ciphertexts of images (n, C, H, W) of one's choice, of the same shape.
    """
    base = digit_base(shape, negate=negate)
    size = shape.blocks * shape.block_length
    places = np.arange(size)
    count = digits_needed(shape, negate=negate)
    helpers = np.stack([places // base**k % base for k in range(count)]).astype(np.uint8 if base <= 256 else np.uint16)
    answers = hide(helpers.reshape(count, shape.channels, *shape.padded)).reshape(count, -1).astype(np.int64)
    flips = (answers[0] >= base) if negate else np.zeros(size, np.bool_)
    read = np.where(flips, shape.largest - answers, answers)
    source = (read * base ** np.arange(count)[:, None]).sum(axis=0)
    # Only an answer that does not follow the rule gives a place outside the image.
    return SignedPermutation((source % size).astype(np.intp), flips)


def digit_base(shape: Geometry, *, negate: bool) -> int:
    """Values a helper image may use."""
    return (shape.largest + 1) // 2 if negate else shape.largest + 1


def digits_needed(shape: Geometry, *, negate: bool) -> int:
    """Helper images that number all values of an image."""
    size = shape.blocks * shape.block_length
    count, numbered = 1, digit_base(shape, negate=negate)
    while numbered < size:
        count, numbered = count + 1, numbered * digit_base(shape, negate=negate)
    return count
