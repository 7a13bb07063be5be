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
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.base import BITS_LIMIT, NONCE_BYTES, ImageCipher
from crypto.cipher import SCHEMES, make_cipher
from crypto.config import FIRST_DERIVATION, NEWEST_DERIVATION, CipherConfig
from crypto.derivation import VERSIONS
from crypto.files.recipe import PURPOSES, TRAINING
from crypto.keys import Key
from crypto.reading.marks import FORMAT
from crypto.sealed import seal, unseal
from medveil.bounded import SETTINGS, parse_json
from medveil.errors import FormatError, IntegrityError, KeyMaterialError
from medveil.files import check_format

VERSION = 3
"""Version 2 says how the key became the cipher, and is bound to the file's name; version 3 says in which way images
were prepared before they were hidden."""
KINDS = ("dicom", "png", "tiff")
LARGEST_TEXT = 2**26
_BOUNDS = dataclasses.replace(SETTINGS, length=LARGEST_TEXT)
LARGEST_SIDE = 2**20
MAC_BYTES = 32
FITS, ELSEWHERE, UNSAID = "fits", "elsewhere", "unsaid"
_STATE = "hidden-file"
_NAMES = "hidden-name"
NOT_PREPARED = 0
_SINCE: dict[int, dict[str, Any]] = {
    2: {"derivation": FIRST_DERIVATION, "place": b""},
    3: {"preparation": NOT_PREPARED},
}
"""Fields by the version that brought them, and what a file of an earlier one means by saying nothing."""
_MOST_PREPARATIONS = 2**16


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
    derivation
        How the key became the cipher (`crypto.derivation`).
    preparation
        The way images for training were prepared, a version of `crypto.imaging.preprocess`; `NOT_PREPARED` for an
        archive, and where an older MedVeil did not say.
    place
        HMAC of the name the file was hidden under (`make_place`); empty where it was not said.
    nonces
        16 bytes for each frame, for schemes that need them; else empty.
    sealed
        What showing the file needs and a viewer must not see (`crypto.sealed`); empty where there is none.
    mac
        32 bytes; empty while the file is being written.
    version
        Of the header as it stands in the file.
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
    derivation: int = NEWEST_DERIVATION
    preparation: int = NOT_PREPARED
    place: bytes = b""
    nonces: bytes = b""
    sealed: bytes = b""
    mac: bytes = b""
    version: int = VERSION

    @property
    def config(self) -> CipherConfig:
        """The cipher that hid the file, as configuration."""
        return CipherConfig(scheme=self.scheme, block=self.block, negate=self.negate, derivation=self.derivation)

    def cipher(self, key: Key | None) -> ImageCipher:
        """Make the cipher that hid the file."""
        shape = {"channels": self.channels, "height": self.height, "width": self.width, "bits": self.bits}
        return make_cipher(self.config, key, **shape, use=self.purpose)

    def to_json(self) -> str:
        """The header as one line of JSON, the same for the same header."""
        return _canonical({"format": FORMAT, "version": self.version, **_plain(self)})


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
        document = parse_json(text, where=where, bounds=_BOUNDS)
    except FormatError:
        raise IntegrityError("its MedVeil header is cut short or damaged", where=where) from None
    version = check_format(document, name=FORMAT, newest=VERSION, where=where)
    given = {name: value for name, value in document.items() if name not in {"format", "version"}}
    header = _typed(given, version, where)
    _check(header, where)
    written = header.to_json()
    if (text if isinstance(text, str) else text.decode("utf-8", "replace")) != written:
        # The MAC is over what is read, and would leave spaces, orders and repeated fields to anyone.
        raise IntegrityError("its MedVeil header is not as it was written", where=where)
    return header


def make_place(key: Key, name: str) -> bytes:
    """What binds a hidden file to its name: 32 bytes that say nothing of it to whoever has not the key.

    Parameters
    ----------
    key
        The key that hides the file.
    name
        Relative to the folder that was hidden, with slashes. Disks differ in how they compose accents; it does not
        count.
    """
    composed = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
    return hmac.digest(key.subkey("mac", _NAMES), composed, "sha256")


def place_of(key: Key, header: HiddenHeader, names: Sequence[str]) -> str:
    """Whether a file, its MAC checked, was hidden under one of these names: ``FITS``, ``ELSEWHERE`` or ``UNSAID``."""
    if not header.place:
        return UNSAID
    fits = any(hmac.compare_digest(make_place(key, name), header.place) for name in names)
    return FITS if fits else ELSEWHERE


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
        raise FormatError("is an archive", where=where, cure="decrypt it before training, or hide it for training")
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
    left = {"version", *_unsaid(header.version)}
    return {
        name: _text_of(value) if isinstance(value, bytes) else value
        for name, value in values.items()
        if name not in left
    }


def _unsaid(version: int) -> dict[str, Any]:
    """What a file of a version does not say, and what it means by that."""
    return {name: value for since, fields in _SINCE.items() if version < since for name, value in fields.items()}


def _typed(given: dict[str, Any], version: int, where: str | Path) -> HiddenHeader:
    values: dict[str, Any] = {"version": version, **_unsaid(version)}
    for each in (each for each in dataclasses.fields(HiddenHeader) if each.name not in values):
        kind = {"str": str, "int": int, "bool": bool, "bytes": str}[str(each.type)]
        value = given.get(each.name)
        if type(value) is not kind:
            raise IntegrityError(f"its MedVeil header has no valid '{each.name}'", where=where)
        values[each.name] = _bytes_of(str(value), each.name, where) if each.type == "bytes" else value
    unknown = sorted(set(given) - (set(values) - {"version", *_unsaid(version)}))
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
        and len(header.place) in {0, MAC_BYTES}
        and header.derivation in VERSIONS
        and 0 <= header.preparation < _MOST_PREPARATIONS
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
