"""From known pairs to the matrix of `orthogonal`: blocks by their lengths, the matrix by Procrustes.

An orthogonal matrix keeps the length of every block. So hidden blocks are matched with plain ones by length, over all
pairs at once; the matrix that turns the ones into the others best, in the least-squares sense and among orthogonal
matrices, is a product of singular vectors (Schoenemann 1966, doi:10.1007/BF02289451). It is known in the directions in
which the plain blocks of the pairs differ, which are those in which other images of the kind differ too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from crypto.base import Geometry
from simulations.attacks.solvers.blocks import Indices, Pixels, cut

Floats = npt.NDArray[np.float64]

_TOP = 65535
_ROUNDS = 3
_SEEN = 10
"""How many times its rounding a direction of the plain blocks must be long to count as known."""


@dataclass(frozen=True)
class Rotation:
    """``y[j] = matrix @ z[order[j]]`` as far as it is known: float64 (L, L) and intp (N,)."""

    matrix: Floats
    order: Indices
    shape: Geometry

    def decrypt(self, hidden: Pixels) -> Pixels:
        """Turn the blocks of ciphertexts back, uint16 (n, C, H, W) to uint8; unknown directions stay at the mean."""
        shape = self.shape
        values = read(hidden, shape) @ self.matrix
        blocks = np.empty(values.shape, np.uint8)
        blocks[:, self.order] = np.clip(np.rint((values + 1) / 2 * shape.largest), 0, shape.largest)
        return shape.join(blocks)


def read(hidden: Pixels, shape: Geometry) -> Floats:
    """Ciphertexts as turned blocks, float64 (n, N, L): c = 65535 / 2 * (1 + y / sqrt(L))."""
    made: Floats = (cut(hidden, shape.block) * (2 / _TOP) - 1) * math.sqrt(shape.block_length)
    return made


def plain_vectors(images: Pixels, shape: Geometry) -> Floats:
    """Images as the blocks that are turned, float64 (n, N, L): z = (2 v - maxval) / maxval."""
    made: Floats = cut(images, shape.block) * (2 / shape.largest) - 1
    return made


def length_error(shape: Geometry) -> float:
    """How far the length of a block may be off after rounding: a value of y is off by sqrt(L) / 65535 at most."""
    return shape.block_length / _TOP


def recover_rotation(plain: Pixels, hidden: Pixels, shape: Geometry, *, rng: np.random.Generator) -> Rotation:
    """Recover order and matrix from pairs (m, C, H, W)."""
    before, after = plain_vectors(plain, shape), read(hidden, shape)
    order = _assigned(cdist(_lengths(after), _lengths(before)), rng)
    matrix = _procrustes(before[:, order], after, length_error(shape))
    for _ in range(_ROUNDS):
        guess = _rows(before @ matrix.T)
        new = _assigned(cdist(_rows(after), guess, "sqeuclidean"), rng)
        if np.array_equal(new, order):
            break
        order, matrix = new, _procrustes(before[:, new], after, length_error(shape))
    return Rotation(matrix, order, shape)


def sorted_lengths(images: Pixels, vectors: Callable[[Pixels, Geometry], Floats], shape: Geometry) -> Floats:
    """What turning and moving blocks leaves of an image: the lengths of its blocks, in order, float64 (n, N).

    `vectors` is `read` for ciphertexts, `plain_vectors` for plain images.
    """
    return np.stack([np.sort(np.linalg.norm(vectors(image[None], shape)[0], axis=1)) for image in images])


def _procrustes(before: Floats, after: Floats, error: float) -> Floats:
    length = before.shape[2]
    left, values, right = np.linalg.svd(after.reshape(-1, length).T @ before.reshape(-1, length))
    # The singular values are squares of lengths.
    known = values > (_SEEN * error) ** 2
    made: Floats = left[:, known] @ right[known]
    return made


def _lengths(vectors: Floats) -> Floats:
    made: Floats = np.linalg.norm(vectors, axis=2).T
    return made


def _rows(vectors: Floats) -> Floats:
    return vectors.transpose(1, 0, 2).reshape(vectors.shape[1], -1)


def _assigned(cost: Floats, rng: np.random.Generator) -> Indices:
    """The cheapest assignment of columns to rows; in no order that ties could betray."""
    rows, columns = rng.permutation(len(cost)), rng.permutation(len(cost))
    made = np.empty(len(cost), np.intp)
    made[rows] = columns[linear_sum_assignment(cost[rows][:, columns])[1]]
    return made
