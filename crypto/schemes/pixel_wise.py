"""pixel-wise: negate and reorder the channels of each pixel where it stands. A target for attacks, never for use.

For channel k of the pixel at place p, ::

    c[k, p] = f_{k,p}( x[ gamma_p[k], p ] ),    f_{k,p} = identity, or v -> 2**bits - 1 - v where the mask is set

with gamma_p an order of the channels (for C = 1 the identity). No pixel moves. It always negates; the settings
``negate`` and ``block`` change nothing but the subkeys. Nothing is padded.

It is here because the attacks that the seed paper names were made for it: a scheme that withstands them without being
their target has shown nothing. Two forms, as in the literature: `pixel-wise` has one key for all images, and
`pixel-wise-fresh` a key per image, from a nonce stored beside it.

How the key is drawn, with the subkeys of the scheme's name:

- ``rho``: one stream, from which the permutations gamma_p of C are drawn one after another, in raster order of p;
- ``neg``: one bit for each value of a ciphertext, in C order (C, H, W).

For `pixel-wise-fresh` both streams are ChaCha20 under the image's nonce (16 bytes, the counter first) in place of
zeros.

Known breaks: leading-bit and minimum-difference read images off single ciphertexts, whatever the keys; one chosen
plaintext gives a key that is used twice [2]_; inverse networks and GANs do as well [3]_.

References
----------
.. [1] Sirichotedumrong, Kinoshita, Kiya, "Pixel-based image encryption without key management for privacy-preserving
   deep neural networks", IEEE Access 7, 2019, doi:10.1109/ACCESS.2019.2959017.
.. [2] Chang, Case, "Attacks on image encryption schemes for privacy-preserving deep neural networks",
   arXiv:2004.13263.
.. [3] Sirichotedumrong, Kiya, "Visual security evaluation of learnable image encryption methods against
   ciphertext-only attacks", arXiv:2010.06198.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, ImageCipher, Nonces, Pixels
from crypto.derivation import KeyStream, mask_bits, permutations
from crypto.signed_permutation import Gather, SignedPermutation


class PixelWise(SignedPermutation):
    """Negation and channel order for each pixel, the same for all images of a key."""

    scheme = "pixel-wise"
    pads = False
    target = True

    def _drawn(self) -> Gather:
        return Gather(*_draw(KeyStream(self._subkey("rho")), KeyStream(self._subkey("neg")), self.geometry))


class PixelWiseFresh(ImageCipher):
    """Negation and channel order for each pixel, drawn anew for each image from its nonce."""

    scheme = "pixel-wise-fresh"
    per_image = True
    pads = False
    target = True

    def block_order(self) -> npt.NDArray[np.int64]:
        """No block moves."""
        return np.arange(self.geometry.blocks, dtype=np.int64)

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        out = np.empty_like(batch)
        for image, hidden, (source, flips) in zip(batch, out, self._drawn(nonces, batch.dtype), strict=True):
            hidden.reshape(-1)[:] = image.reshape(-1)[source] ^ flips
        return out

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        out = np.empty_like(batch)
        for image, shown, (source, flips) in zip(batch, out, self._drawn(nonces, batch.dtype), strict=True):
            shown.reshape(-1)[source] = image.reshape(-1) ^ flips
        return out

    def _drawn(self, nonces: Nonces | None, dtype: np.dtype[Any]) -> Iterator[tuple[npt.NDArray[np.intp], Pixels]]:
        assert nonces is not None
        rho, neg = self._subkey("rho"), self._subkey("neg")
        for nonce in nonces:
            source, negated = _draw(KeyStream(rho, nonce.tobytes()), KeyStream(neg, nonce.tobytes()), self.geometry)
            yield source, negated * dtype.type(self.geometry.largest)


def _draw(rho: KeyStream, neg: KeyStream, shape: Geometry) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    pixels = shape.height * shape.width
    order = permutations(rho, pixels, shape.channels).T
    source = (order * pixels + np.arange(pixels)).astype(np.intp).ravel()
    return source, mask_bits(neg, source.size)
