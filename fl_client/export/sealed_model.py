"""A key-bearing model as a file of its own: sealed under the site's key, whose file only its passphrase opens."""

from __future__ import annotations

from pathlib import Path

from crypto.files.sealing import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES, private_folder, seal_file, unseal_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.files import read_bytes, write_bytes

LABEL = "KEY-BEARING: guard this like the key that hides this site's images"


def save_sealed(path: Path, weights: bytes, key: SiteKey) -> None:
    """Seal the bytes of a safetensors file (StorageError where the disk refuses)."""
    with private_folder() as folder:
        write_bytes(folder / "weights", weights, mode=0o600)
        seal_file(folder / "weights", path, key)


def open_sealed(path: Path, keys: Keyring) -> bytes:
    """The bytes of the safetensors file; errors as `crypto.files.sealing.unseal_file`."""
    with private_folder() as folder:
        unseal_file(path, folder / "weights", keys)
        return read_bytes(folder / "weights")


def sealed_bytes(plain: int) -> int:
    """How large so many bytes are when sealed."""
    return HEADER_BYTES + plain + (plain // CHUNK_BYTES + 1) * TAG_BYTES
