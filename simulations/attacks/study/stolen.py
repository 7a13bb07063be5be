"""Hidden images as a thief of a site's disk finds them: sealed once more, as rows of a store's file."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from crypto.base import ImageCipher, Images, Nonces
from crypto.cipher import SCHEMES
from crypto.sealed import TAG_BYTES
from crypto.sealed_rows import IDENTITY_BYTES, RowWriter, file_key
from fl_client.data.store_build import as_rows
from simulations.attacks.study.cases import Pixels


def stolen(scheme: str) -> type[ImageCipher]:
    """A scheme whose ciphertexts are what lies on the disk, written by what writes a store, without the key's tags."""
    kind: type[ImageCipher] = SCHEMES[scheme]

    class Stolen(kind):  # type: ignore[misc, valid-type]
        """Hides and seals; whoever attacks it has neither key."""

        def encrypt(self, images: Images, nonces: Nonces | None = None) -> Images:
            """The bytes in which each image lies, in the shape of its ciphertext."""
            hidden = np.asarray(super().encrypt(images, nonces))
            assert self._key is not None
            subkey = self._key.subkey("store")
            return cast(Images, as_it_lies(hidden, subkey, _identity_of(hidden, subkey)))

    return Stolen


def as_it_lies(hidden: Pixels, subkey: bytes, identity: str) -> Pixels:
    """Ciphertexts (n, C, H, W) as their bytes lie in a sealed file of this identity."""
    rows = as_rows(hidden, hidden.dtype)
    with tempfile.TemporaryDirectory(prefix="medveil-stolen-") as folder:
        path = Path(folder) / "train.sealed"
        with RowWriter(path, file_key(subkey, identity, "train"), rows.shape[1]) as writer:
            writer.append(rows)
        lying = np.fromfile(path, dtype=np.uint8).reshape(len(rows), rows.shape[1] + TAG_BYTES)
    return np.ascontiguousarray(lying[:, :-TAG_BYTES]).view(hidden.dtype).reshape(hidden.shape)


def _identity_of(hidden: Pixels, subkey: bytes) -> str:
    """What a site draws, drawn from the images: a study gives the same figures again, and no two files share a key."""
    return hashlib.sha256(subkey + hidden.tobytes()).hexdigest()[: 2 * IDENTITY_BYTES]
