"""A key-bearing model as a file of its own: sealed under the site's key, whose file only its passphrase opens."""

from __future__ import annotations

from pathlib import Path

from crypto.files.sealing import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES, sealed_output, unsealed
from crypto.keyring import Keyring
from crypto.keys import SiteKey

LABEL = "KEY-BEARING: guard this like the key that hides this site's images"


def save_sealed(path: Path, weights: bytes, key: SiteKey) -> None:
    """Seal the bytes of a safetensors file (StorageError where the disk refuses)."""
    with sealed_output(path, key) as stream:
        stream.write(weights)


def open_sealed(path: Path, keys: Keyring) -> bytes:
    """The bytes of the safetensors file, in memory alone; errors as `crypto.files.sealing.unsealed`."""
    with unsealed(path, keys) as stream:
        return stream.read()


def sealed_bytes(plain: int) -> int:
    """How large so many bytes are when sealed."""
    return HEADER_BYTES + plain + (plain // CHUNK_BYTES + 1) * TAG_BYTES
