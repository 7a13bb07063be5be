"""What a hidden file says of itself: who hid it, how, what for, and a MAC over all of it.

The header is JSON, inside the file's own format: a private element of a DICOM file, a text chunk of a PNG, a tag of a
TIFF. It is in the clear but for `sealed`, and proven by `mac`: HMAC-SHA256 under the key's ``mac`` subkey over the
header itself, without the MAC, and over what the file's kind feeds it (the ciphertext, and for DICOM the data set).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.base import BITS_LIMIT, NONCE_BYTES, ImageCipher
from crypto.cipher import SCHEMES, make_cipher
from crypto.config import CipherConfig
from crypto.files.recipe import PURPOSES, TRAINING
from crypto.keys import Key
from crypto.sealed import seal, unseal
from medveil.errors import FormatError, IntegrityError, KeyMaterialError
from medveil.files import check_format

FORMAT = "medveil-hidden"
VERSION = 1
KINDS = ("dicom", "png", "tiff")
LARGEST_TEXT = 2**26
LARGEST_SIDE = 2**20
MAC_BYTES = 32
_STATE = "hidden-file"


@dataclass(frozen=True, kw_only=True)
class HiddenHeader:
    """The header of a hidden file.

    Parameters
    ----------
    purpose
        ``"training"`` or ``"archive"``.
    kind
        What the file is: ``"dicom"``, ``"png"`` or ``"tiff"``.
    scheme, block, negate
        The cipher.
    channels, height, width, bits, frames
        Shape of what was hidden, before padding; `frames` images of it.
    signed
        Whether samples are two's complement of `bits` bits.
    fingerprint
        Of the key.
    nonces
        16 bytes for each frame, for schemes that need them; else empty.
    sealed
        What showing the file needs and a viewer must not see (`crypto.sealed`); empty where there is none.
    mac
        32 bytes; empty while the file is being written.
    """

    purpose: str
    kind: str
    scheme: str
    block: int
    negate: bool
    channels: int
    height: int
    width: int
    bits: int
    frames: int
    signed: bool
    fingerprint: str
    nonces: bytes = b""
    sealed: bytes = b""
    mac: bytes = b""

    def cipher(self, key: Key | None) -> ImageCipher:
        """Make the cipher that hid the file."""
        config = CipherConfig(scheme=self.scheme, block=self.block, negate=self.negate)
        return make_cipher(config, key, channels=self.channels, height=self.height, width=self.width, bits=self.bits)

    def to_json(self) -> str:
        """The header as one line of JSON, the same for the same header."""
        return _canonical({"format": FORMAT, "version": VERSION, **_plain(self)})


def parse_header(text: str | bytes, *, where: str | Path) -> HiddenHeader:
    """Read a header.

    Raises
    ------
    FormatError
        It is no header of ours, of a newer version, or names a scheme this MedVeil does not have.
    IntegrityError
        It is cut short, or a field is missing, unknown or impossible.
    """
    if len(text) > LARGEST_TEXT:
        raise FormatError("has a header larger than any MedVeil writes", where=where)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise IntegrityError("its MedVeil header is cut short or damaged", where=where) from None
    check_format(document, name=FORMAT, newest=VERSION, where=where)
    given = {name: value for name, value in document.items() if name not in {"format", "version"}}
    header = _typed(given, where)
    _check(header, where)
    return header


def make_mac(key: Key, header: HiddenHeader, parts: Iterable[bytes | memoryview]) -> bytes:
    """The MAC of a hidden file: over its header without MAC, and `parts`, each with its length.

    Parts are cut where the file's kind says, always alike; large ones may come as they are read.
    """
    made = hmac.new(key.subkey("mac"), digestmod="sha256")
    unsigned = dataclasses.replace(header, mac=b"").to_json().encode("ascii")
    for part in itertools.chain([unsigned], parts):
        made.update(memoryview(part).nbytes.to_bytes(8, "big"))
        made.update(part)
    return made.digest()


def check_mac(key: Key, header: HiddenHeader, parts: Iterable[bytes | memoryview], *, where: str | Path) -> None:
    """Refuse a file whose MAC does not fit.

    Raises
    ------
    KeyMaterialError
        The file was hidden under another key.
    IntegrityError
        The file was changed after it was hidden.
    """
    if key.fingerprint != header.fingerprint:
        problem = f"was hidden under the key {header.fingerprint}, not {key.fingerprint}"
        raise KeyMaterialError(problem, where=where, cure="give the key it was hidden under")
    if not hmac.compare_digest(make_mac(key, header, parts), header.mac):
        raise IntegrityError("was changed after it was hidden", where=where, cure="restore it from a copy")


def check_ciphertext(shape: tuple[int, ...], header: HiddenHeader, frame: int, *, where: str | Path) -> None:
    """Refuse ciphertext of a frame that is not to be trained on, or not of the shape (C, H, W) its header says.

    Raises
    ------
    FormatError
        The file is an archive.
    IntegrityError
        The header says other things than the pixels.
    """
    if header.purpose != TRAINING:
        raise FormatError("is an archive", where=where, cure="decrypt it before training, or hide it --for training")
    if not 0 <= frame < header.frames or shape != (header.channels, header.height, header.width):
        raise IntegrityError("its pixels do not fit its header", where=where, cure="restore it from a copy")


def seal_private(key: Key, plaintext: bytes, *, associated: bytes) -> bytes:
    """Seal what only the key's holder may see of a file; see `crypto.sealed.seal`."""
    return seal(key.subkey("state", _STATE), plaintext, associated=associated)


def unseal_private(key: Key, sealed: bytes, *, associated: bytes) -> bytes:
    """Return what `seal_private` was given."""
    return unseal(key.subkey("state", _STATE), sealed, associated=associated)


def _plain(header: HiddenHeader) -> dict[str, Any]:
    values = dataclasses.asdict(header)
    return {name: _text_of(value) if isinstance(value, bytes) else value for name, value in values.items()}


def _typed(given: dict[str, Any], where: str | Path) -> HiddenHeader:
    values: dict[str, Any] = {}
    for each in dataclasses.fields(HiddenHeader):
        kind = {"str": str, "int": int, "bool": bool, "bytes": str}[str(each.type)]
        value = given.get(each.name)
        if type(value) is not kind:
            raise IntegrityError(f"its MedVeil header has no valid '{each.name}'", where=where)
        values[each.name] = _bytes_of(str(value), each.name, where) if each.type == "bytes" else value
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise IntegrityError(f"its MedVeil header has an unknown field {unknown[0]!a}", where=where)
    return HiddenHeader(**values)


def _check(header: HiddenHeader, where: str | Path) -> None:
    if header.scheme not in SCHEMES:
        cure = f"this MedVeil has {', '.join(SCHEMES)}"
        raise FormatError(f"is hidden with {header.scheme[:64]!a}", where=where, cure=cure)
    sides = (header.height, header.width, header.block)
    possible = (
        header.purpose in PURPOSES
        and header.kind in KINDS
        and header.channels in {1, 2, 3, 4}
        and all(1 <= side <= LARGEST_SIDE for side in sides)
        and 1 <= header.bits <= BITS_LIMIT
        and header.frames >= 1
        and len(header.fingerprint) <= 2 * MAC_BYTES
        and header.fingerprint.isalnum()
        and len(header.mac) == MAC_BYTES
        and len(header.nonces) == (header.frames * NONCE_BYTES if SCHEMES[header.scheme].per_image else 0)
    )
    if not possible:
        raise IntegrityError("its MedVeil header says what no MedVeil writes", where=where)


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes_of(text: str, name: str, where: str | Path) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IntegrityError(f"its MedVeil header has no valid '{name}'", where=where) from None


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
