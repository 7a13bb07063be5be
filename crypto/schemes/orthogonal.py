"""orthogonal: turn every block by one keyed random orthogonal matrix, and permute the blocks.

Pixels are read as z = (2 v - m) / m with m = 2**bits - 1, a block is a vector z of length L, and ::

    y_j = Q z_{pi[j]}        c_j = round( 65535 / 2 (1 + y_j / sqrt(L)) )

It takes uint8 and gives uint16. A model reads a ciphertext as y = sqrt(L) (2 c - 65535) / 65535 (`reading`), numbers
of the size of those it would read in plaintext.

No value clips: Q keeps lengths, so |y_i| <= ||y|| = ||z|| <= sqrt(L), every |z_i| being at most 1.

How the key is drawn, with the subkeys of this scheme's name:

- ``rho``: L * L standard normals (`crypto.derivation.normals`), row by row the matrix G; G = Q R with the diagonal of R
  positive, which makes Q unique, and uniform over all orthogonal matrices (Mezzadri, arXiv:math-ph/0609050);
- ``pi``: a permutation of N; ``pad``: as for block-pixel.

**Rounding.** A value of c is off by at most 1/2, and a value of y by at most sqrt(L) / 65535. Decryption turns the
errors back by the transpose of Q, and a pixel is lost where they sum up to half a grey value. With m = 255:

- at worst they sum up to 255 L / (2 * 65535) grey values, which is below 1/2 for L <= 256;
- beyond, they are as good as independent: the sum is normal with deviation 0.001123 sqrt(L), 0.0311 for L = 768
  (measured .0311; the worst of 90 million pixels of lung histology came back .19 off). For L = 768 a loss is an event
  of 16 deviations, for L = 2048 of 9.8: one pixel in 10**22;
- nothing rests on that: every ciphertext is decrypted once before it is returned, and an image of which a pixel would
  come back more than .45 off is refused (for L = 2048 to be expected once in 10**13 images of 224x224x3).

L above 2048 is refused: round trips begin to fail (L = 4096: one image in 2 million lost) and keys become slow (1.4 s
and 250 MB at 2048 on one core). Two machines, or two thread counts of BLAS, get matrices that differ in the last
digits and ciphertexts that differ by 1 here and there; each decrypts the other's. Test vectors have that tolerance.

The stem rule: W' = W Q^T on what a model reads, and pos'[j] = pos[pi[j]]; see `models.stem`. Logits on ciphertext then
are those on plaintext but for rounding, and so is training by SGD; AdamW is not, for its steps depend on the axes.

What it is not: confidentiality. Known breaks:

- it is linear: about L known blocks give Q by least squares (800 blocks, 4 images of 224x224x3, for L = 768: without
  rounding to 276 dB, from ciphertexts of even 8 bits by ridge regression to 41 dB);
- the length of every block is kept, so that dark blocks and bright ones stand out in the ciphertext as they are; equal
  blocks stay equal;
- ciphertexts alone give the covariance of blocks turned by Q: with the covariance of a public set, its eigenvectors
  give Q up to signs.

References
----------
.. [1] Aso, Chuman, Kiya et al., arXiv:2301.03843: a random orthogonal matrix for each block with ConvMixer, a relative.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, ImageCipher, Nonces, Pixels, Reading, StemRotation
from crypto.config import CipherConfig
from crypto.derivation import STORE, KeyStream, normals, permutation
from crypto.keys import Key
from crypto.padding import Padding
from medveil.errors import ConfigError, DataError

LONGEST = 2048
_TOP = 65535
_MARGIN = 0.45
"""How far from its grey value a pixel may come back, in grey values; beyond 0.5 it would be another."""
_GROUP_BYTES = 2**24
"""Blocks turned together, in bytes of float32, so that memory stays flat."""


class Orthogonal(ImageCipher):
    """A keyed random orthogonal matrix on every block, and a permutation of the blocks; uint8 in, uint16 out."""

    scheme = "orthogonal"
    stem_rule = "orthogonal"
    largest_bits = 8

    def __init__(self, config: CipherConfig, key: Key | None, geometry: Geometry, *, use: str = STORE) -> None:
        super().__init__(config, key, geometry, use=use)
        length = geometry.block_length
        gaussian = normals(self._subkey("rho"), length * length).reshape(length, length)
        self._matrix = orthogonal(gaussian)
        self._single = self._matrix.astype(np.float32)
        self._pi = permutation(KeyStream(self._subkey("pi")), geometry.blocks)
        self._padding = Padding(geometry, self._subkey("pad"))

    @classmethod
    def check(cls, geometry: Geometry) -> None:
        """Refuse more than 8 bits, and blocks of more than 2048 values.

        Raises
        ------
        ConfigError
            The images are of that kind.
        """
        super().check(geometry)
        if geometry.block_length > LONGEST:
            problem = f"blocks of {geometry.block_length} values for {cls.scheme}"
            fitting = math.isqrt(LONGEST // geometry.channels)
            cure = f"at most {LONGEST}: a block of {fitting}" if fitting else f"at most {LONGEST} channels"
            raise ConfigError(problem, where="cipher", cure=f"{cure} for {geometry.channels} channels")

    @property
    def reading(self) -> Reading:
        """How a model reads a ciphertext: 16 bits, and sqrt(L) times as large as 16-bit images usually are."""
        return Reading(16, math.sqrt(self.geometry.block_length))

    def hidden_dtype(self, dtype: npt.DTypeLike) -> np.dtype[Any]:
        """Return uint16, whatever was hidden."""
        return np.dtype(np.uint16)

    def stem_rotation(self) -> StemRotation:
        """Return the matrix and the permutation of blocks, as copies."""
        return StemRotation(self._matrix.copy(), self._pi.copy())

    def _check_dtype(self, dtype: str, *, hiding: bool) -> None:
        wanted = "uint8" if hiding else "uint16"
        if dtype != wanted:
            what = "images" if hiding else "ciphertexts"
            raise DataError(f"{what} of dtype {dtype} for {self.scheme}", cure=wanted)

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        shape = self.geometry
        out = np.empty((len(batch), shape.channels, *self.padded), np.uint16)
        for group in self._groups(len(batch)):
            blocks = shape.cut(self._padding.fill(batch[group]))[:, self._pi]
            hidden = self._turned(blocks)
            self._check_return(blocks, hidden)
            out[group] = shape.join(hidden)
        return out

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        shape = self.geometry
        out = np.empty((len(batch), shape.channels, shape.height, shape.width), np.uint8)
        for group in self._groups(len(batch)):
            values = self._returned(shape.cut(batch[group]))
            blocks = np.empty(values.shape, np.uint8)
            # Under a wrong key values lie anywhere.
            blocks[:, self._pi] = np.clip(np.rint(values), 0, shape.largest)
            out[group] = shape.join(blocks)[:, :, : shape.height, : shape.width]
        return out

    def _groups(self, images: int) -> list[slice]:
        shape = self.geometry
        step = max(1, _GROUP_BYTES // (4 * shape.blocks * shape.block_length))
        return [slice(first, first + step) for first in range(0, images, step)]

    def _turned(self, blocks: Pixels) -> Pixels:
        """Ciphertext blocks, uint16 (n, N, L), of plain ones in the order of the ciphertext."""
        largest = self.geometry.largest
        y = np.matmul((2 * blocks.astype(np.float32) - largest) / largest, self._single.T)
        y *= _TOP / 2 / math.sqrt(self.geometry.block_length)
        y += _TOP / 2
        hidden: Pixels = np.rint(y, out=y).astype(np.uint16)
        return hidden

    def _returned(self, hidden: Pixels) -> npt.NDArray[np.float32]:
        """Grey values, not yet rounded, of ciphertext blocks."""
        largest = self.geometry.largest
        y = hidden.astype(np.float32)
        y -= _TOP / 2
        y *= 2 / _TOP * math.sqrt(self.geometry.block_length) * largest / 2
        values: npt.NDArray[np.float32] = np.matmul(y, self._single)
        values += largest / 2
        return values

    def _check_return(self, blocks: Pixels, hidden: Pixels) -> None:
        off = np.abs(self._returned(hidden) - blocks).max(initial=0.0)
        if off > _MARGIN:
            problem = f"an image would come back from {self.scheme} {off:.2f} grey values off"
            raise DataError(problem, cure="choose another scheme for it, or a smaller block")


def orthogonal(gaussian: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Q of G = Q R whose R has a positive diagonal: float64 (L, L)."""
    q, r = np.linalg.qr(gaussian)
    unique: npt.NDArray[np.float64] = q * np.sign(np.diagonal(r))
    return unique
