"""The control that hides nothing: ciphertext is plaintext. For baselines, never for sharing."""

from __future__ import annotations

import numpy as np

from crypto.base import ImageCipher, Nonces, Pixels, StemPermutation
from medveil.errors import ConfigError


class NoCipher(ImageCipher):
    """The identity. It takes no key, pads nothing, and a stem follows it by staying as it is."""

    scheme = "none"
    stem_rule = "identity"
    needs_key = False
    pads = False

    def stem_permutation(self) -> StemPermutation:
        """Return the identity on whole blocks.

        Raises
        ------
        ConfigError
            The image is not a whole number of blocks, and without a cipher nothing pads it.
        """
        shape = self.geometry
        if shape.padded != self.padded:
            problem = f"{shape.height}x{shape.width} images are not whole blocks of {shape.block}"
            raise ConfigError(problem, where="cipher", cure="choose an image size that is a multiple of the block")
        positions = np.arange(shape.block_length, dtype=np.int64)
        blocks = np.arange(shape.blocks, dtype=np.int64)
        return StemPermutation(positions, blocks, np.zeros(shape.block_length, np.bool_))

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        return batch.copy()

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        return batch.copy()
