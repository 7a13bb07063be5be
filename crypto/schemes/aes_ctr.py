"""aes-ctr: the control that hides everything. Nothing can be learned from its ciphertext.

AES-256 in counter mode (NIST SP 800-38A) with a fresh 128-bit nonce per image and per view. The nonce is what makes
it a control: one key stream for all images is a fixed mask, and a network learns through a mask (PneumoniaMNIST:
AUROC .941 plain, .925 with a fixed key stream, .517 with nonces).

It authenticates nothing: a changed ciphertext decrypts to a changed image. Files between parties carry an HMAC.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from crypto.base import ImageCipher, Nonces, Pixels


class AesCtr(ImageCipher):
    """XOR with an AES-256-CTR key stream, cut to `bits` bits so that a ciphertext is again an image.

    The subkey has the purpose ``neg``, masking pixel values, under this scheme's name. The stream is read as
    little-endian pixels in C order (C, H, W) with the nonce as first counter block; nothing is padded.
    """

    scheme = "aes-ctr"
    per_image = True
    pads = False

    def block_order(self) -> npt.NDArray[np.int64]:
        """No block moves."""
        return np.arange(self.geometry.blocks, dtype=np.int64)

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        assert nonces is not None
        little = batch.dtype.newbyteorder("<")
        streams = np.empty(batch.shape, little)
        algorithm = AES256(self._subkey("neg"))
        zeros = bytes(batch[:1].nbytes)
        for stream, nonce in zip(streams, nonces, strict=True):
            encryptor = Cipher(algorithm, CTR(nonce.tobytes())).encryptor()
            encryptor.update_into(zeros, stream.reshape(-1).view(np.uint8).data)
        if self.geometry.bits < 8 * little.itemsize:
            np.bitwise_and(streams, little.type(self.geometry.largest), out=streams)
        return np.bitwise_xor(streams, batch, out=streams).astype(batch.dtype, copy=False)

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        return self._hide(batch, nonces)
