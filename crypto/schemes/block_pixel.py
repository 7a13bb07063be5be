"""block-pixel: permute the pixels inside each block, permute the blocks, optionally negate pixels.

This is obfuscation, not confidentiality. It keeps what a Vision Transformer needs to learn, and what a viewer needs
to recognise a patient it hides; an attacker with the right material reads it:

- one known pair of an image and its ciphertext gives away both permutations and the mask, and with them every image
  of the key (measured: all pixels for blocks of 14 to 32 from one 224x224 image, in milliseconds);
- ciphertexts alone suffice when one key hid many images: correlations between positions of a block give back their
  arrangement, and what remains is a jigsaw (arXiv:2202.00806, arXiv:2211.02369);
- the histogram of an image is left as it is (folded when negating), and equal blocks stay equal.

The number of keys, L! N!, is no measure of any of this. Use AES-GCM where confidentiality is needed.

References
----------
.. [1] arXiv:2411.05901 and arXiv:2501.15363, the scheme and its use with ViTs on medical images (blocks of 25x25x3).
.. [2] Qi, AprilPyone, Kinoshita, Kiya, "Privacy-preserving image classification using Vision Transformer",
   arXiv:2205.12041.
.. [3] Li et al., "A general quantitative cryptanalysis of permutation-only multimedia ciphers against plaintext
   attacks", 2008, doi:10.1016/j.image.2008.01.003.
"""

from __future__ import annotations

import numpy as np

from crypto.base import Geometry, StemPermutation
from crypto.config import CipherConfig
from crypto.derivation import STORE, KeyStream, mask_bits, permutation
from crypto.keys import Key
from crypto.signed_permutation import Gather, SignedPermutation, block_gather


class BlockPixel(SignedPermutation):
    """Keyed pixel and block permutation with optional negation; exactly invertible on integers.

    ``c_j[i] = f_i(x_{pi[j]}[rho[i]])`` for block j and position i, with ``f_i(v) = 2**bits - 1 - v`` where the mask is
    set.
    """

    scheme = "block-pixel"
    may_negate = True
    stem_rule = "signed-permutation"

    def __init__(self, config: CipherConfig, key: Key | None, geometry: Geometry, *, use: str = STORE) -> None:
        super().__init__(config, key, geometry, use=use)
        rho = permutation(KeyStream(self._subkey("rho")), geometry.block_length)
        pi = permutation(KeyStream(self._subkey("pi")), geometry.blocks)
        mask = np.zeros(geometry.block_length, np.bool_)
        if config.negate:
            mask = mask_bits(KeyStream(self._subkey("neg")), geometry.block_length)
        self._stem = StemPermutation(rho, pi, mask)

    def stem_permutation(self) -> StemPermutation:
        """Return rho, pi and the mask (all False without negation), as copies."""
        rho, pi, mask = self._stem
        return StemPermutation(rho.copy(), pi.copy(), mask.copy())

    def _drawn(self) -> Gather:
        rho, pi, mask = self._stem
        return block_gather(self.geometry, pi, rho, mask if self.config.negate else None)
