"""What hiding has in common for all raster files: the header, what is sealed in it, and the time each stage takes."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crypto.base import NONCE_BYTES, ImageCipher, Nonces
from crypto.files.ciphers import SHELF
from crypto.files.header import HiddenHeader, make_place, seal_private, unseal_private
from crypto.files.kinds import FileReport
from crypto.files.recipe import KEPT, Recipe
from crypto.keyring import Keyring
from crypto.keys import Key, SiteKey
from crypto.reading.base import Pixels
from medveil.errors import DataError, IntegrityError, KeyMaterialError

LARGEST_EXTRAS = 2**24
"""Bytes of metadata, packed; with as many of nonces the header is still one that is read."""


@contextlib.contextmanager
def timed(report: FileReport, stage: str) -> Iterator[None]:
    """Add the time the block takes to a stage of a report."""
    start = time.perf_counter()
    try:
        yield
    finally:
        report.seconds[stage] = report.seconds.get(stage, 0.0) + time.perf_counter() - start


def make_header(
    recipe: Recipe,
    key: Key,
    *,
    kind: str,
    shape: tuple[int, ...],
    bits: int,
    signed: bool = False,
    frames: int = 1,
    name: str = "",
) -> tuple[HiddenHeader, ImageCipher]:
    """Make the header of a file that is to be hidden, without what is sealed and without MAC, and its cipher.

    Parameters
    ----------
    recipe, key
        How and under which key.
    kind
        Of the hidden file.
    shape
        C, H, W of a frame before padding.
    bits, signed, frames
        Of a sample, and how many images there are. Each gets a nonce of its own where the scheme needs them.
    name
        What it is bound to; empty for nothing.
    """
    channels, height, width = shape
    sides = {"channels": channels, "height": height, "width": width}
    cipher = SHELF.cipher(recipe.cipher, key, **sides, bits=bits, use=recipe.purpose)
    header = HiddenHeader(
        purpose=recipe.purpose,
        kind=kind,
        scheme=recipe.cipher.scheme,
        block=recipe.cipher.block,
        negate=recipe.cipher.negate,
        channels=channels,
        height=height,
        width=width,
        bits=bits,
        frames=frames,
        signed=signed,
        fingerprint=key.fingerprint,
        derivation=recipe.cipher.derivation,
        preparation=recipe.preparation,
        place=make_place(key, name) if name else b"",
        nonces=cipher.fresh_nonces(frames).tobytes() if cipher.per_image else b"",
    )
    return header, cipher


def with_extras(header: HiddenHeader, key: Key, extras: dict[str, Any]) -> HiddenHeader:
    """Seal what showing the file needs into its header.

    Raises
    ------
    DataError
        It is too large.
    """
    if not extras:
        return header
    packed = zlib.compress(json.dumps(extras, separators=(",", ":"), default=_text).encode("ascii"))
    if len(packed) > LARGEST_EXTRAS:
        raise DataError(f"has {len(packed)} bytes of metadata", cure=f"up to {LARGEST_EXTRAS} are kept")
    return dataclasses.replace(header, sealed=seal_private(key, packed, associated=_associated(header)))


def extras_of(header: HiddenHeader, key: Key, *, where: Path) -> dict[str, Any]:
    """Return what `with_extras` sealed; an empty dict where nothing was."""
    if not header.sealed:
        return {}
    try:
        packed = unseal_private(key, header.sealed, associated=_associated(header))
        extras: dict[str, Any] = json.loads(zlib.decompress(packed))
    except (IntegrityError, ValueError, zlib.error):
        raise IntegrityError("what is sealed in its header is damaged", where=where) from None
    return extras


def check_kept(recipe: Recipe, metadata: Sequence[str], *, where: Path) -> None:
    """Refuse to leave metadata in the clear.

    A camera's EXIF block often holds a thumbnail, and a small picture beside its ciphertext gives away the key.

    Raises
    ------
    DataError
        The recipe keeps identities, and there is metadata.
    """
    if recipe.identity == KEPT and metadata:
        problem = f"carries metadata ({', '.join(metadata)}) that may hold a preview of the image"
        raise DataError(problem, where=where, cure="an identity that is sealed or removed")


def find_key(header: HiddenHeader, keys: Keyring, *, where: Path) -> SiteKey:
    """The key that hid a file.

    Raises
    ------
    KeyMaterialError
        The ring does not hold it.
    """
    try:
        return keys.find(header.fingerprint)
    except KeyMaterialError as error:
        raise KeyMaterialError(error.problem, where=where, cure=error.cure) from None


def nonces_of(header: HiddenHeader, first: int = 0, n: int = 1) -> Nonces | None:
    """Nonces of frames `first` to ``first + n - 1``, uint8 (n, 16); None for a scheme without."""
    if not header.nonces:
        return None
    every = np.frombuffer(header.nonces, dtype=np.uint8).reshape(-1, NONCE_BYTES)
    return every[first : first + n]


def _associated(header: HiddenHeader) -> bytes:
    return dataclasses.replace(header, sealed=b"", mac=b"").to_json().encode("ascii")


def _text(data: Any) -> str:
    if not isinstance(data, bytes):
        raise TypeError(type(data).__name__)
    return base64.b64encode(data).decode("ascii")


def shaped(values: Pixels, header: HiddenHeader, padded: tuple[int, int], *, where: Path) -> Pixels:
    """Return ciphertext of the shape its header says.

    Raises
    ------
    IntegrityError
        It has another.
    """
    if values.shape != (header.channels, *padded):
        raise IntegrityError("its pixels do not fit its header", where=where, cure="restore it from a copy")
    return values
