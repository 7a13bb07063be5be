"""etc: Encryption-then-Compression. Whole blocks are moved, turned, mirrored, negated, their channels reordered.

For block j, channel c and place p of a block's B x B places, ::

    c_j[c, p] = f_j( x_{pi[j]}[ gamma_j[c], sigma_j(p) ] ),    f_j = identity, or v -> 2**bits - 1 - v where neg_j = 1

with pi a permutation of the blocks, gamma_j an order of the channels, sigma_j one of the 8 symmetries of the square,
and one neg_j for all channels of a block. It always negates; the setting ``negate`` changes nothing. Blocks of any B.

How the key is drawn, with the subkeys of this scheme's name:

- ``pi``: a permutation of N;
- ``rho``: one stream. First N words u_j, of which s_j = u_j mod 8 names the symmetry: the block is mirrored left to
  right if s_j >= 4, then turned s_j mod 4 quarters of a turn anticlockwise. Then the N permutations gamma_0, gamma_1,
  .. of C are drawn one after another;
- ``neg``: neg_j is bit j.

It was made so that hidden images still compress as JPEG, and is used with ViTs and ConvMixers without an adaptation
network [1]_; [2]_ studies pixel shuffling and negation within blocks, a relative. There is no stem rule: one patch
embedding serves all blocks, and each is turned in its own way. CIFAR-10 without an adaptation network: 85.9 %, where
plain images give 96.7 % (arXiv:2001.07761).

What it is not: confidentiality, or scrambling within a block. **Every block shows its pixels**, turned and negated:
letters and lesions smaller than a block can be read in the ciphertext.

With one channel (most radiology) gamma_j is the identity: a block has 16 states and not 96, and its neighbours on all
four sides can be compared without guessing colours.

Known breaks:

- ciphertexts alone: jigsaw solvers put block-scrambled images together again, with turning, mirroring, negation and
  channel order among the unknowns [3]_ [4]_; several images under one key make it easier (arXiv:2305.04543); grey EtC,
  long thought the safe form, falls to ciphertexts alone too (J. Imaging 12(2):65, 2026);
- one known pair gives the key, up to blocks that look alike;
- the histogram of every block is left as it is, or mirrored.

References
----------
.. [1] MaungMaung, Kiya, "Privacy-preserving image classification using an isotropic network", arXiv:2204.07707.
.. [2] AprilPyone, Kiya, "Block-wise image transformation with secret key for adversarially robust defense",
   arXiv:2010.00801.
.. [3] arXiv:2202.00806.
.. [4] arXiv:2211.02369.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crypto.derivation import KeyStream, mask_bits, permutation, permutations
from crypto.signed_permutation import Gather, SignedPermutation, block_gather

_SYMMETRIES = 8


class EncryptionThenCompression(SignedPermutation):
    """Block scrambling, and for each block a symmetry of the square, a negation and an order of channels."""

    scheme = "etc"

    def _drawn(self) -> Gather:
        shape = self.geometry
        pi = permutation(KeyStream(self._subkey("pi")), shape.blocks)
        stream = KeyStream(self._subkey("rho"))
        turned = symmetries(shape.block)[stream.words(shape.blocks) % _SYMMETRIES]
        channels = permutations(stream, shape.blocks, shape.channels)
        inner = channels[:, :, None] * shape.block**2 + turned[:, None]
        negated = mask_bits(KeyStream(self._subkey("neg")), shape.blocks)
        spread = np.repeat(negated[:, None], shape.block_length, axis=1)
        return block_gather(shape, pi, inner.reshape(shape.blocks, shape.block_length), spread)


def symmetries(block: int) -> npt.NDArray[np.int64]:
    """Where each place of a square comes from under its 8 symmetries: int64 (8, block**2).

    Symmetry s mirrors left to right if s >= 4, then turns by s mod 4 quarters anticlockwise.
    """
    places = np.arange(block**2, dtype=np.int64).reshape(block, block)
    both = (places, places[:, ::-1])
    return np.stack([np.rot90(both[s // 4], s % 4).ravel() for s in range(_SYMMETRIES)])
