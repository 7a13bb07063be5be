"""What compressed frames say of themselves: looked at before a decoder builds anything for them."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

_JPEG_START, _J2K_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
_JP2_START, _JP2_CODESTREAM, _JP2_BOX = b"\0\0\0\x0cjP  \r\n\x87\n", b"jp2c", 8
_CODING = 0x52
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SCAN, _END = 0xDA, 0xD9
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Start of frame of JPEG (tables and arithmetic conditioning left out), and of JPEG-LS."""
_MOST_SEGMENTS = 4096
_MOST_BOXES = 64
_RLE_HEADER = 64
_RLE_MOST = 64
"""Bytes that one byte of RLE can stand for: two, a count and a value, become 128."""


class Codestream(NamedTuple):
    """What a codestream will be decoded to.

    Parameters
    ----------
    rows, columns
        Sides of the image; no rows where they are said behind the pixels.
    channels, bits
        Components, and bits of a sample of the first one.
    mixed
        Whether its colours were transformed as part of JPEG 2000, which decoding undoes: they come out as RGB.
    """

    rows: int
    columns: int
    channels: int
    bits: int
    mixed: bool = False


def codestream_of(syntax: UID, coded: bytes) -> Codestream | None:
    """Read the header of a compressed frame; None where it has none that can be read, or its kind has no header."""
    try:
        if syntax in JPEG2000TransferSyntaxes:
            return _j2k(coded)
        if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
            return _jpeg(coded)
    except (struct.error, IndexError):
        return None
    return None


def has_header(syntax: UID) -> bool:
    """Whether codestreams of a syntax say themselves what they will be decoded to."""
    return syntax in JPEG2000TransferSyntaxes or syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes


def starts_frame(syntax: UID, fragment: bytes) -> bool:
    """Whether a fragment starts with the first bytes of a frame of this kind."""
    if syntax in JPEG2000TransferSyntaxes:
        return fragment.startswith(_J2K_START)
    if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        return fragment.startswith(_JPEG_START)
    # Each frame of RLE is one fragment (PS3.5 A.4.2).
    return syntax == RLELossless


def most_bytes(syntax: UID, length: int) -> int | None:
    """How many bytes a frame of so many coded ones can be at most; None where no bound is known."""
    return _RLE_MOST * max(0, length - _RLE_HEADER) if syntax == RLELossless else None


def _j2k(coded: bytes) -> Codestream | None:
    at = _codestream_at(coded)
    if not coded.startswith(_J2K_START, at):
        return None
    right, down, left, top = struct.unpack_from(">4L", coded, at + 8)
    channels, depth = struct.unpack_from(">HB", coded, at + 40)
    mixed = False
    for marker, where in _segments(coded, at + 2):
        if marker == _CODING:
            # SGcod: progression order, layers, then whether the components are transformed (ISO 15444-1 A.6.1).
            mixed = coded[where + 6] == 1
    return Codestream(down - top, right - left, channels, (depth & 0x7F) + 1, mixed)


def _codestream_at(coded: bytes) -> int:
    """Where the codestream starts: at once, as DICOM asks, or in a box of a JP2 file, as some tools write it."""
    at = 0
    for _ in range(_MOST_BOXES if coded.startswith(_JP2_START) else 0):
        length, kind = struct.unpack_from(">L4s", coded, at)
        if kind == _JP2_CODESTREAM:
            return at + _JP2_BOX
        at += max(length, _JP2_BOX)
    return at


def _jpeg(coded: bytes) -> Codestream | None:
    for marker, where in _segments(coded, 2) if coded.startswith(_JPEG_START) else ():
        if marker in _FRAMES:
            bits, rows, columns, channels = struct.unpack_from(">BHHB", coded, where + 2)
            return Codestream(rows, columns, channels, bits)
    return None


def _segments(coded: bytes, at: int) -> list[tuple[int, int]]:
    """Markers of the main header, and where the length of each stands."""
    found = []
    for _ in range(_MOST_SEGMENTS):
        while coded[at] == 0xFF and coded[at + 1] == 0xFF:
            at += 1
        marker = coded[at + 1]
        if coded[at] != 0xFF or marker in {_SCAN, _END, 0x90, 0x93}:
            break
        at += 2
        if marker in _STANDALONE:
            continue
        found.append((marker, at))
        at += struct.unpack_from(">H", coded, at)[0]
        if at + 2 > len(coded):
            break
    return found
