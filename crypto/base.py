"""What every image cipher is: its interface, and the checks it makes before it touches a pixel."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from crypto import tensors
from crypto.config import FIRST_DERIVATION, CipherConfig
from crypto.derivation import STORE
from crypto.geometry import BITS_LIMIT, PLAIN, Geometry, Pixels, Reading, StemPermutation, StemRotation
from crypto.keys import Key, SimulatedKey
from medveil.called import typed
from medveil.errors import ConfigError, DataError, KeyMaterialError
from medveil.values import shown_value

__all__ = [
    "BITS_LIMIT",
    "NONCE_BYTES",
    "PLAIN",
    "Geometry",
    "ImageCipher",
    "Nonces",
    "Pixels",
    "Reading",
    "StemPermutation",
    "StemRotation",
    "too_large",
]

Images = TypeVar("Images")
Nonces = npt.NDArray[np.uint8]

NONCE_BYTES = 16
_MOST_DRAWN, _COUNTERS = 2**32, 2**64


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
        How a ViT's stem follows the key: ``"signed-permutation"``, ``"orthogonal"``, ``"identity"``, or None where it
        cannot.
    pads : bool
        Whether images are padded to whole blocks.
    may_negate : bool
        Whether the setting ``negate`` changes anything.
    largest_bits : int
        Most bits a pixel may have.
    target : bool
        Whether the scheme is there to be broken by the attacks, and must hide nothing real.
    fingerprint : str
        The key's; ``""`` for a cipher without key.
    padded : tuple of int
        Height and width of a ciphertext.
    """

    scheme: ClassVar[str]
    per_image: ClassVar[bool] = False
    stem_rule: ClassVar[str | None] = None
    needs_key: ClassVar[bool] = True
    pads: ClassVar[bool] = True
    may_negate: ClassVar[bool] = False
    largest_bits: ClassVar[int] = BITS_LIMIT
    target: ClassVar[bool] = False

    def __init__(self, config: CipherConfig, key: Key | None, geometry: Geometry, *, use: str = STORE) -> None:
        self.check(geometry)
        if self.needs_key and key is None:
            raise KeyMaterialError(f"the cipher {self.scheme} needs a key", cure="give a key, or choose scheme 'none'")
        self.config = config
        self.geometry = geometry
        self.fingerprint = key.fingerprint if key is not None and self.needs_key else ""
        self.padded = geometry.padded if self.pads else (geometry.height, geometry.width)
        self._key = key
        self._use = use if config.derivation != FIRST_DERIVATION else ""

    @classmethod
    def check(cls, geometry: Geometry) -> None:
        """Refuse images the scheme cannot hide.

        Raises
        ------
        ConfigError
            Their pixels have too many bits, or their blocks a size the scheme does not take.
        """
        if geometry.bits > cls.largest_bits:
            problem = f"images of {geometry.bits} bits for {cls.scheme}"
            raise ConfigError(problem, where="cipher", cure=f"at most {cls.largest_bits} bits, or another scheme")

    @property
    def reading(self) -> Reading:
        """How a model reads a ciphertext: as it reads images of `bits` bits, unless the scheme says otherwise."""
        return Reading(self.geometry.bits)

    def hidden_dtype(self, dtype: npt.DTypeLike) -> np.dtype[Any]:
        """Return the dtype of the ciphertext of images of a dtype (DataError where it is none)."""
        try:
            return np.dtype(dtype)
        except TypeError:
            raise DataError(f"there is no dtype {shown_value(dtype)}", cure="uint8 or uint16") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.geometry}, fingerprint={self.fingerprint!r})"

    def encrypt(self, images: Images, nonces: Nonces | None = None, *, threads: int = 1) -> Images:
        """Hide images.

        Parameters
        ----------
        images
            (N, C, H, W) or (C, H, W), uint8 or uint16, numpy array or torch tensor; values up to 2**bits - 1.
        nonces
            uint8 (N, 16), or (16,) for one image; needed by ciphers with `per_image`, ignored by the others.
        threads
            Share a batch among so many, of at least 8 images each; the result is the same to the bit. It holds for
            schemes that gather (`crypto.signed_permutation`) and images on the CPU; others take one, or BLAS's own.

        Returns
        -------
        Same type as images
            (N, C, *padded) or (C, *padded), of `hidden_dtype`: the same dtype for all schemes but ``orthogonal``.

        Raises
        ------
        DataError
            Wrong shape, dtype or values.
        KeyMaterialError
            Nonces are needed and not there.
        """
        size = (self.geometry.height, self.geometry.width)
        return self._apply(images, nonces, size=size, hiding=True, threads=threads)

    def decrypt(self, images: Images, nonces: Nonces | None = None, *, threads: int = 1) -> Images:
        """Show what `encrypt` hid, cropped to the original size; parameters and errors as there."""
        return self._apply(images, nonces, size=self.padded, hiding=False, threads=threads)

    def stem_permutation(self) -> StemPermutation:
        """Return the permutations and signs that move a stem into this key's domain.

        Raises
        ------
        ConfigError
            No stem can follow this cipher (`stem_rule` is None).
        """
        raise self._no_stem("signed-permutation")

    def stem_rotation(self) -> StemRotation:
        """Return the orthogonal matrix and the permutation that move a stem into this key's domain.

        Raises
        ------
        ConfigError
            `stem_rule` is not ``"orthogonal"``.
        """
        raise self._no_stem("orthogonal")

    def block_order(self) -> npt.NDArray[np.int64] | None:
        """Which block of the padded image lies at each place of a ciphertext: int64 (N,), numbered row by row.

        Key material, as `stem_permutation` is. None where the scheme does not say.
        """
        if self.stem_rule is None:
            return None
        return self.stem_rotation().pi if self.stem_rule == "orthogonal" else self.stem_permutation().pi

    @typed
    def fresh_nonces(self, n: int) -> npt.NDArray[np.uint8]:
        """Draw nonces from the operating system: uint8 (n, 16) (ConfigError for less than none)."""
        _refuse_beyond("n", n, _MOST_DRAWN)
        return np.frombuffer(bytearray(os.urandom(n * NONCE_BYTES)), dtype=np.uint8).reshape(n, NONCE_BYTES)

    @typed
    def derived_nonces(self, first: int, n: int) -> npt.NDArray[np.uint8]:
        """Derive nonces `first` to ``first + n - 1`` of a simulated key, all different: uint8 (n, 16).

        They repeat from run to run, which a simulation wants and which would betray a real key: two images under one
        nonce give away their difference.

        Raises
        ------
        KeyMaterialError
            The key is not a `SimulatedKey`.
        ConfigError
            A number is below 0, or larger than there are nonces to count.
        """
        _refuse_beyond("n", n, _MOST_DRAWN)
        _refuse_beyond("first", first, _COUNTERS - n)
        if not isinstance(self._key, SimulatedKey):
            raise KeyMaterialError("nonces are derived in simulations only", cure="use fresh nonces and store them")
        counters = np.zeros((n, 2), dtype=">u8")
        counters[:, 1] = np.uint64(first) + np.arange(n, dtype=np.uint64)
        # A block cipher is a bijection, so no two counters share a nonce.
        hide = Cipher(AES256(self._subkey("nonce")), ECB()).encryptor()
        return np.frombuffer(bytearray(hide.update(counters.tobytes())), dtype=np.uint8).reshape(n, NONCE_BYTES)

    def _no_stem(self, rule: str) -> ConfigError:
        found = "no stem rule: no convolution can follow it" if self.stem_rule is None else f"no {rule} stem"
        problem = f"the cipher {self.scheme} has {found}"
        return ConfigError(problem, cure="choose block-pixel or orthogonal, or a public or secret stem")

    def _subkey(self, purpose: str) -> bytes:
        assert self._key is not None
        return self._key.subkey(purpose, self.scheme, use=self._use, **self.geometry.params)

    def _apply(
        self, images: Images, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool, threads: int
    ) -> Images:
        tensor = tensors.as_tensor(images)
        if tensor is not None and tensor.device.type != "cpu":
            return cast(Images, self._apply_on_device(tensor, nonces, size=size, hiding=hiding))
        given = cast(Pixels, images) if tensor is None else tensors.to_numpy(tensor)
        out = self._apply_to_array(given, nonces, size=size, hiding=hiding, threads=threads)
        return cast(Images, out if tensor is None else tensors.like(out, tensor))

    def _apply_to_array(
        self, images: Pixels, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool, threads: int = 1
    ) -> Pixels:
        try:
            images = np.asarray(images)
        except ValueError:
            raise DataError("images that are no array", cure="all rows of one length") from None
        self._check_layout(images.shape, str(images.dtype), size, hiding=hiding)
        batch = np.ascontiguousarray(images).reshape(-1, self.geometry.channels, *size)
        self._check_values(batch, self.geometry.bits if hiding else self.reading.bits)
        checked = self._check_nonces(nonces, len(batch))
        out = self._shared(batch, checked, hiding=hiding, threads=threads)
        return out if images.ndim == 4 else out[0]

    def _apply_on_device(
        self, images: tensors.Tensor, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool
    ) -> tensors.Tensor:
        """Encrypt a tensor of another device by way of the CPU; ciphers that can stay there override it."""
        out = self._apply_to_array(tensors.to_numpy(images), nonces, size=size, hiding=hiding)
        return tensors.like(out, images)

    def _check_layout(self, shape: tuple[int, ...], dtype: str, size: tuple[int, int], *, hiding: bool) -> None:
        wanted = (self.geometry.channels, *size)
        if len(shape) not in {3, 4} or tuple(shape[-3:]) != wanted:
            listed = ", ".join(map(str, wanted))
            raise DataError(f"images of shape {tuple(shape)} for {self.scheme}", cure=f"({listed}) or (N, {listed})")
        self._check_dtype(dtype, hiding=hiding)

    def _check_dtype(self, dtype: str, *, hiding: bool) -> None:
        if dtype not in {"uint8", "uint16"}:
            raise DataError(f"images of dtype {dtype} for {self.scheme}", cure="uint8 or uint16")
        if dtype == "uint8" and self.geometry.bits > 8:
            raise DataError(f"images of dtype uint8 for a cipher of {self.geometry.bits} bits", cure="uint16")

    def _check_values(self, batch: Pixels, bits: int) -> None:
        if bits == 8 * batch.dtype.itemsize:
            return
        found = int(batch.max(initial=0))
        if found >= 2**bits:
            raise too_large(found, bits)

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

    def _shared(self, batch: Pixels, nonces: Nonces | None, *, hiding: bool, threads: int) -> Pixels:
        """Encrypt or decrypt a checked, contiguous batch; a scheme that gains by `threads` overrides it."""
        return self._hide(batch, nonces) if hiding else self._show(batch, nonces)

    @abstractmethod
    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        """Encrypt a checked, contiguous batch (N, C, H, W)."""

    @abstractmethod
    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        """Decrypt a checked, contiguous batch (N, C, *padded)."""


def too_large(found: int, bits: int) -> DataError:
    """Say that a pixel does not fit the cipher's bits."""
    problem = f"pixel value {found} in images of {bits} bits"
    return DataError(problem, cure=f"values from 0 to {2**bits - 1}, or a cipher with more bits")


def _refuse_beyond(name: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise ConfigError(f"'{name}' is {shown_value(value)}", where="nonces", cure=f"0 to {most}")
