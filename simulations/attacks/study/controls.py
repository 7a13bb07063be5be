"""Ciphers that exist to be broken: what an attack must succeed on before its failure elsewhere means anything.

They are in no registry; no command hides images with them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, ImageCipher, Nonces, Pixels, StemPermutation
from crypto.config import CipherConfig
from crypto.derivation import KeyStream, permutation
from crypto.keys import Key

Indices = npt.NDArray[np.intp]


class _Blocks(ImageCipher):
    """Blocks in another order, their values in another order that all blocks share."""

    def __init__(self, config: CipherConfig, key: Key | None, geometry: Geometry) -> None:
        super().__init__(config, key, geometry)
        self._rho, self._pi = self._orders()

    def stem_permutation(self) -> StemPermutation:
        """Return the two orders, without negation."""
        return StemPermutation(self._rho.copy(), self._pi.copy(), np.zeros(len(self._rho), np.bool_))

    def _orders(self) -> tuple[Indices, Indices]:
        raise NotImplementedError

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        return self.geometry.join(self.geometry.cut(batch)[:, self._pi][..., self._rho])

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        blocks = self.geometry.cut(batch)
        plain = np.empty_like(blocks)
        plain[:, self._pi[:, None], self._rho] = blocks
        return self.geometry.join(plain)


class BlockShuffle(_Blocks):
    """Only the order of the blocks is secret: the target of jigsaw solvers."""

    scheme = "block-shuffle"

    def _orders(self) -> tuple[Indices, Indices]:
        shape = self.geometry
        return np.arange(shape.block_length), permutation(KeyStream(self._subkey("pi")), shape.blocks)


class PixelShuffle(_Blocks):
    """Only the order inside blocks is secret: the target of layout recovery."""

    scheme = "pixel-shuffle"

    def _orders(self) -> tuple[Indices, Indices]:
        shape = self.geometry
        return permutation(KeyStream(self._subkey("rho")), shape.block_length), np.arange(shape.blocks)


class IntegerSeeded(_Blocks):
    """block-pixel without negation whose key is an integer a person might type: NumPy's shuffle, seeded with it.

    ``numpy.random.seed(K)`` before each of the two permutations, so that one key K makes both. `space` is how many
    integers come into question.
    """

    scheme = "integer-seeded"
    space = 2**20

    @property
    def seed(self) -> int:
        """The integer."""
        return int.from_bytes(self._subkey("rho")[:8], "big") % self.space

    def _orders(self) -> tuple[Indices, Indices]:
        return seeded_orders(self.seed, self.geometry)


def seeded_orders(seed: int, shape: Geometry) -> tuple[Indices, Indices]:
    """In-block and block order of an integer key."""
    return seeded(seed, shape.block_length), seeded(seed, shape.blocks)


def seeded(seed: int, n: int) -> Indices:
    """NumPy's legacy shuffle of n things under a seed: MT19937 and Fisher-Yates."""
    return np.random.RandomState(seed).permutation(n)
