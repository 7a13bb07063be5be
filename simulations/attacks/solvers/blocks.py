"""Images cut into a cipher's blocks, and signed permutations of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, StemPermutation

Pixels = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


def cut(images: Pixels, block: int) -> Pixels:
    """Cut images into blocks in the cipher's order.

    Parameters
    ----------
    images
        (n, C, H, W), H and W multiples of `block`.
    block
        Edge of a block in pixels.

    Returns
    -------
    ndarray
        (n, N, L): blocks in row-major order, values of a block at ``(c * B + dy) * B + dx``.
    """
    _, channels, height, width = images.shape
    return Geometry(channels=channels, height=height, width=width, block=block).cut(images)


def folded(values: Pixels, largest: int) -> npt.NDArray[np.int32]:
    """``|2v - largest|``: what a value and its negative have in common."""
    return np.abs(2 * values.astype(np.int32) - largest)


@dataclass(frozen=True)
class SignedPermutation:
    """What a scheme that moves and negates values does to an image: ``hidden[k] = f_k(plain[source[k]])``.

    Attributes
    ----------
    source : intp (P,)
        Where each value of the flattened hidden image stood in the flattened plain one.
    flips : bool (P,)
        Which hidden values are negated.
    """

    source: Indices
    flips: Flags

    def decrypt(self, hidden: Pixels, largest: int) -> Pixels:
        """Undo it on images of any shape that flatten to (n, P)."""
        flat = hidden.reshape(len(hidden), -1)
        # A source an attack guessed need not be a permutation; what it leaves out stays dark.
        plain = np.zeros_like(flat)
        plain[:, self.source] = np.where(self.flips, largest - flat, flat)
        return plain.reshape(hidden.shape)


def signed_permutation(key: StemPermutation, geometry: Geometry) -> SignedPermutation:
    """The permutation of whole images that a block-pixel key stands for."""
    positions = geometry.block_positions()
    source = np.empty(positions.size, np.intp)
    flips = np.empty(positions.size, np.bool_)
    source[positions] = positions[key.pi][:, key.rho]
    flips[positions] = key.mask
    return SignedPermutation(source, flips)


def row_classes(*tables: Pixels) -> list[Indices]:
    """Number rows by content: rows of any of the tables get the same number where they are equal.

    Parameters
    ----------
    *tables
        (n_i, m) of one dtype.

    Returns
    -------
    list of intp (n_i,)
    """
    stacked = np.ascontiguousarray(np.concatenate(tables))
    if not stacked.shape[1]:
        return [np.zeros(len(table), np.intp) for table in tables]
    rows = stacked.view(np.dtype((np.void, stacked.dtype.itemsize * stacked.shape[1]))).ravel()
    numbers = np.unique(rows, return_inverse=True)[1].astype(np.intp)
    return np.split(numbers, np.cumsum([len(table) for table in tables])[:-1])
