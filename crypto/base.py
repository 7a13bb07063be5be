"""What every image cipher is: its geometry, its interface, and the checks it makes before it touches a pixel."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from crypto import tensors
from crypto.config import CipherConfig
from crypto.keys import Key, SimulatedKey
from medveil.errors import ConfigError, DataError, KeyMaterialError

Images = TypeVar("Images")
Pixels = NDArray[Any]
Nonces = NDArray[np.uint8]

NONCE_BYTES = 16
BITS_LIMIT = 16


class StemPermutation(NamedTuple):
    """How a stem follows a key: ``ciphertext[j][i] = f_i(plaintext[pi[j]][rho[i]])``, a sign change where `mask`.

    Key material: whoever holds it reads every image of the key.
    """

    rho: NDArray[np.int64]
    """int64 (L,): position in the plaintext block of each value of a ciphertext block."""
    pi: NDArray[np.int64]
    """int64 (N,): plaintext block of each ciphertext block."""
    mask: NDArray[np.bool_]
    """bool (L,): which values of a ciphertext block are negated."""


@dataclass(frozen=True)
class Geometry:
    """Shape of the images a cipher is cut for: pixels, blocks and bits.

    Raises
    ------
    ConfigError
        A size is below 1, or `bits` outside 1 to 16.
    """

    channels: int
    height: int
    width: int
    block: int
    bits: int = 8

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width", "block", "bits"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is {getattr(self, name)}", where="cipher", cure="at least 1")
        if self.bits > BITS_LIMIT:
            raise ConfigError(f"'bits' is {self.bits}", where="cipher", cure=f"1 to {BITS_LIMIT}")

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks down and across."""
        return -(-self.height // self.block), -(-self.width // self.block)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width in pixels, rounded up to whole blocks."""
        return self.grid[0] * self.block, self.grid[1] * self.block

    @property
    def block_length(self) -> int:
        """L: values in a block."""
        return self.channels * self.block**2

    @property
    def blocks(self) -> int:
        """N: blocks in a padded image."""
        return self.grid[0] * self.grid[1]

    @property
    def largest(self) -> int:
        """The largest value a pixel can have."""
        return int(2**self.bits - 1)

    @property
    def params(self) -> dict[str, int]:
        """The fields a subkey is derived with."""
        rows, columns = self.padded
        return {"B": self.block, "C": self.channels, "H": rows, "W": columns, "bits": self.bits}

    def block_positions(self) -> NDArray[np.intp]:
        """Where each value of each block lies in the flattened padded image: intp (N, L)."""
        rows, columns = self.grid
        flat = np.arange(self.blocks * self.block_length, dtype=np.intp)
        cut = flat.reshape(self.channels, rows, self.block, columns, self.block)
        return cut.transpose(1, 3, 0, 2, 4).reshape(self.blocks, self.block_length)


class ImageCipher(ABC):
    """Hides images of one geometry under one key, and shows them again.

    Make one with `crypto.cipher.make_cipher`. Instances hold no state that encrypting changes.

    Attributes
    ----------
    scheme : str
        Name of the cipher.
    per_image : bool
        Whether each image (and each view of one) needs a nonce of its own, to be stored with it.
    stem_rule : str or None
        How a ViT's stem follows the key: ``"signed-permutation"``, ``"identity"``, or None where it cannot.
    fingerprint : str
        The key's; ``""`` for a cipher without key.
    padded : tuple of int
        Height and width of a ciphertext.
    """

    scheme: ClassVar[str]
    per_image: ClassVar[bool] = False
    stem_rule: ClassVar[str | None] = None
    needs_key: ClassVar[bool] = True

    def __init__(self, config: CipherConfig, key: Key | None, geometry: Geometry) -> None:
        if self.needs_key and key is None:
            raise KeyMaterialError(f"the cipher {self.scheme} needs a key", cure="give a key, or choose scheme 'none'")
        self.config = config
        self.geometry = geometry
        self.fingerprint = key.fingerprint if key is not None and self.needs_key else ""
        self.padded = self._padded()
        self._key = key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.geometry}, fingerprint={self.fingerprint!r})"

    def encrypt(self, images: Images, nonces: Nonces | None = None) -> Images:
        """Hide images.

        Parameters
        ----------
        images
            (N, C, H, W) or (C, H, W), uint8 or uint16, numpy array or torch tensor; values up to 2**bits - 1.
        nonces
            uint8 (N, 16), or (16,) for one image; needed by ciphers with `per_image`, ignored by the others.

        Returns
        -------
        Same type as `images`
            (N, C, *padded) or (C, *padded), same dtype.

        Raises
        ------
        DataError
            Wrong shape, dtype or values.
        KeyMaterialError
            Nonces are needed and not there.
        """
        size = (self.geometry.height, self.geometry.width)
        return self._apply(images, nonces, size=size, hiding=True)

    def decrypt(self, images: Images, nonces: Nonces | None = None) -> Images:
        """Show what `encrypt` hid, cropped to the original size; parameters and errors as there."""
        return self._apply(images, nonces, size=self.padded, hiding=False)

    def stem_permutation(self) -> StemPermutation:
        """Return the permutations and signs that move a stem into this key's domain.

        Raises
        ------
        ConfigError
            No stem can follow this cipher (`stem_rule` is None).
        """
        problem = f"the cipher {self.scheme} has no stem rule: no convolution can follow it"
        raise ConfigError(problem, cure="choose block-pixel, or a public or secret stem")

    def fresh_nonces(self, n: int) -> NDArray[np.uint8]:
        """Draw nonces from the operating system: uint8 (n, 16)."""
        return np.frombuffer(bytearray(os.urandom(n * NONCE_BYTES)), dtype=np.uint8).reshape(n, NONCE_BYTES)

    def derived_nonces(self, first: int, n: int) -> NDArray[np.uint8]:
        """Derive nonces `first` to ``first + n - 1`` of a simulated key, all different: uint8 (n, 16).

        They repeat from run to run, which a simulation wants and which would betray a real key: two images under one
        nonce give away their difference.

        Raises
        ------
        KeyMaterialError
            The key is not a `SimulatedKey`.
        """
        if not isinstance(self._key, SimulatedKey):
            raise KeyMaterialError("nonces are derived in simulations only", cure="use fresh nonces and store them")
        counters = np.zeros((n, 2), dtype=">u8")
        counters[:, 1] = np.arange(first, first + n, dtype=np.uint64)
        # A block cipher is a bijection, so no two counters share a nonce.
        hide = Cipher(AES256(self._subkey("nonce")), ECB()).encryptor()
        return np.frombuffer(bytearray(hide.update(counters.tobytes())), dtype=np.uint8).reshape(n, NONCE_BYTES)

    def _padded(self) -> tuple[int, int]:
        return self.geometry.padded

    def _subkey(self, purpose: str) -> bytes:
        assert self._key is not None
        return self._key.subkey(purpose, self.scheme, **self.geometry.params)

    def _apply(self, images: Images, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool) -> Images:
        tensor = tensors.as_tensor(images)
        if tensor is not None and tensor.device.type != "cpu":
            return cast(Images, self._apply_on_device(tensor, nonces, size=size, hiding=hiding))
        given = cast(Pixels, images) if tensor is None else tensors.to_numpy(tensor)
        out = self._apply_to_array(given, nonces, size=size, hiding=hiding)
        return cast(Images, out if tensor is None else tensors.like(out, tensor))

    def _apply_to_array(self, images: Pixels, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool) -> Pixels:
        images = np.asarray(images)
        self._check_layout(images.shape, str(images.dtype), size)
        batch = np.ascontiguousarray(images).reshape(-1, self.geometry.channels, *size)
        self._check_values(batch)
        checked = self._check_nonces(nonces, len(batch))
        out = self._hide(batch, checked) if hiding else self._show(batch, checked)
        return out if images.ndim == 4 else out[0]

    def _apply_on_device(
        self, images: tensors.Tensor, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool
    ) -> tensors.Tensor:
        """Encrypt a tensor of another device by way of the CPU; ciphers that can stay there override it."""
        out = self._apply_to_array(tensors.to_numpy(images), nonces, size=size, hiding=hiding)
        return tensors.like(out, images)

    def _check_layout(self, shape: tuple[int, ...], dtype: str, size: tuple[int, int]) -> None:
        wanted = (self.geometry.channels, *size)
        if len(shape) not in {3, 4} or tuple(shape[-3:]) != wanted:
            listed = ", ".join(map(str, wanted))
            raise DataError(f"images of shape {tuple(shape)} for {self.scheme}", cure=f"({listed}) or (N, {listed})")
        if dtype not in {"uint8", "uint16"}:
            raise DataError(f"images of dtype {dtype} for {self.scheme}", cure="uint8 or uint16")
        if dtype == "uint8" and self.geometry.bits > 8:
            raise DataError(f"images of dtype uint8 for a cipher of {self.geometry.bits} bits", cure="uint16")

    def _check_values(self, batch: Pixels) -> None:
        if self.geometry.bits == 8 * batch.dtype.itemsize:
            return
        found = int(batch.max(initial=0))
        if found > self.geometry.largest:
            raise too_large(found, self.geometry)

    def _check_nonces(self, nonces: Nonces | None, n: int) -> Nonces | None:
        if not self.per_image:
            return None
        if nonces is None:
            cure = "draw fresh_nonces for encryption, give the stored ones for decryption"
            raise KeyMaterialError(f"the cipher {self.scheme} needs a nonce for each image", cure=cure)
        given = np.asarray(nonces)
        if given.ndim == 1:
            given = given[None]
        if given.shape != (n, NONCE_BYTES) or given.dtype != np.uint8:
            problem = f"nonces of shape {given.shape} and dtype {given.dtype} for {n} images"
            raise DataError(problem, cure=f"uint8 ({n}, {NONCE_BYTES})")
        return np.ascontiguousarray(given)

    @abstractmethod
    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        """Encrypt a checked, contiguous batch (N, C, H, W)."""

    @abstractmethod
    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        """Decrypt a checked, contiguous batch (N, C, *padded)."""


def too_large(found: int, geometry: Geometry) -> DataError:
    """Say that a pixel does not fit the cipher's bits."""
    problem = f"pixel value {found} in images of {geometry.bits} bits"
    return DataError(problem, cure=f"values from 0 to {geometry.largest}, or a cipher with more bits")
