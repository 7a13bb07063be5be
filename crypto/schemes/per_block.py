"""per-block: every block has a pixel permutation, and a negation mask, of its own; the blocks are permuted too.

For block j and position i of N blocks of length L, ::

    c_j[i] = f_{j,i}( x_{pi[j]}[ rho_j[i] ] ),    f_{j,i} = identity, or v -> 2**bits - 1 - v where mask_j[i] = 1

with masks under ``negate: true`` only. It is the idea of extended learnable encryption (ELE, [1]_): block-pixel hides
all blocks alike, so that statistics over the blocks of one image give its in-block permutation away; here each block
of an image is hidden in its own way, and those statistics need many images.

How the key is drawn, with the subkeys of this scheme's name:

- ``rho``: one stream, from which the N permutations rho_0, rho_1, .. of L are drawn one after another;
- ``pi``: a permutation of N;
- ``neg``: the first N L bits of the stream, mask_0 first.

What it is not: ELE itself, which also splits pixels into nibbles and puts an adaptation network before the classifier;
confidentiality; or kind to a Vision Transformer. No patch embedding fits it, because one convolution serves all blocks:
there is no stem rule, and accuracy falls (ELE on CIFAR-10: 67.1 % without an adaptation network and 83.1 % with one,
where plain images give 96.7 % [1]_).

Known breaks:

- one key means one fixed permutation of all values of an image, and such a cipher falls to about
  log(N L) / log(2**bits) known or chosen images [2]_: 3 chosen ones of 224x224x3 at 8 bits, and one more for the mask;
- ciphertexts alone: every position keeps its own mean, variance and correlations over images, which accumulate under
  one key;
- SIA-GAN, unpaired, halves the perceptual distance of ELE (LPIPS .295 to .148), though blocks stay scrambled [3]_;
- the histogram of an image is left as it is (folded when negating).

References
----------
.. [1] Madono, Tanaka, Onishi, Ogawa, "Block-wise scrambled image recognition using adaptation network",
   arXiv:2001.07761.
.. [2] Li et al., 2008, doi:10.1016/j.image.2008.01.003.
.. [3] Madono, Tanaka, Onishi, Ogawa, "SIA-GAN: scrambling inversion attack using generative adversarial network",
   IEEE Access 2021.
"""

from __future__ import annotations

from crypto.derivation import KeyStream, mask_bits, permutation, permutations
from crypto.signed_permutation import Gather, SignedPermutation, block_gather


class PerBlock(SignedPermutation):
    """A keyed pixel permutation and optional negation for each block, and a permutation of the blocks.

    The exact inverse on integers exists, as for every signed permutation.
    """

    scheme = "per-block"
    may_negate = True

    def _drawn(self) -> Gather:
        shape = self.geometry
        rho = permutations(KeyStream(self._subkey("rho")), shape.blocks, shape.block_length)
        pi = permutation(KeyStream(self._subkey("pi")), shape.blocks)
        mask = None
        if self.config.negate:
            mask = mask_bits(KeyStream(self._subkey("neg")), rho.size).reshape(rho.shape)
        return block_gather(shape, pi, rho, mask)
