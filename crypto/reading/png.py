"""PNG files down to the sample: every depth and colour type exactly as stored, every chunk seen (ISO/IEC 15948).

Pillow opens 16-bit colour as 8 bit without a word, and says nothing of chunks it does not know. So the file is read
here, chunk by chunk; inflating and unfiltering stay with Pillow's own decoder, which stops at the size it was told
and thus is no door for decompression bombs.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from crypto.files.streams import Opener, decoding, open_file, size_of
from crypto.reading.base import Pixels, check_size
from medveil.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
COLOURS = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGB_ALPHA}
LARGEST_CHUNKS = 2**26
"""Bytes of everything but pixels: more than the largest header of ours."""

_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_KNOWN_CRITICAL = frozenset({"IHDR", "PLTE", "IDAT", "IEND"})
_ANIMATED = frozenset({"acTL", "fcTL", "fdAT"})

# How Pillow's zip decoder unpacks each depth and number of channels. It has no 16-bit colour, but a big-endian sample
# read as big-endian 16 bit gives the high byte and read as little-endian the low byte; and two channels of 16 bit are
# four of 8.
_UNPACK: dict[tuple[int, int], tuple[tuple[str, str], ...]] = {
    (1, 1): (("P", "P;1"),),
    (2, 1): (("P", "P;2"),),
    (4, 1): (("P", "P;4"),),
    (8, 1): (("L", "L"),),
    (8, 2): (("LA", "LA"),),
    (8, 3): (("RGB", "RGB"),),
    (8, 4): (("RGBA", "RGBA"),),
    (16, 1): (("LA", "LA"),),
    (16, 2): (("RGBA", "RGBA"),),
    (16, 3): (("RGB", "RGB;16B"), ("RGB", "RGB;16L")),
    (16, 4): (("RGBA", "RGBA;16B"), ("RGBA", "RGBA;16L")),
}


class Chunk(NamedTuple):
    """A chunk other than IHDR, IDAT and IEND."""

    name: str
    data: bytes
    late: bool = False
    """Whether it stands behind the pixels."""


@dataclass(frozen=True, kw_only=True)
class Png:
    """A PNG file, its pixels still compressed."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    chunks: tuple[Chunk, ...]
    compressed: bytes = field(repr=False)
    trailing: bool
    """Whether bytes follow the end of the image."""

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return CHANNELS[self.colour]

    def find(self, name: str) -> bytes | None:
        """The data of the first chunk of a name."""
        return next((chunk.data for chunk in self.chunks if chunk.name == name), None)

    def palette(self) -> Pixels | None:
        """The colours that samples stand for, uint8 (n, 3); None where they stand for themselves."""
        if self.colour != PALETTE:
            return None
        data = self.find("PLTE") or b""
        if not data or len(data) % 3 or len(data) > 3 * 2**self.depth:
            raise DataError(f"has a palette of {len(data)} bytes")
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)


def read_png(path: Path, *, pixels: bool = True, opened: Opener = open_file) -> Png:
    """Read a PNG file; `pixels` false leaves its pixels on the disk, `opened` opens it.

    Raises
    ------
    DataError
        It is damaged, cut short, animated, too large, or not a PNG.
    StorageError
        The disk refused.
    """
    with decoding(path), opened(path) as stream:
        return _read(stream, size_of(stream), path, pixels=pixels)


def _read(stream: BinaryIO, size: int, path: Path, *, pixels: bool) -> Png:
    if stream.read(len(SIGNATURE)) != SIGNATURE:
        raise DataError("is not a PNG file", where=path)
    name, length = _next_chunk(stream, size, path)
    if name != "IHDR" or length != 13:
        raise DataError("does not start with a PNG header", where=path)
    made = _header(_chunk_data(stream, name, length, path), path)
    most = 2 * _raw_bytes(made) + 2**20
    chunks: list[Chunk] = []
    compressed: list[bytes] = []
    held = packed = 0
    whole = True
    while True:
        name, length = _next_chunk(stream, size, path)
        if name == "IEND":
            break
        if name == "IDAT":
            packed += length
            if packed > most:
                raise DataError("has more pixel data than its size explains", where=path)
            if pixels:
                data, fits = _data_and_sum(stream, name, length)
                compressed.append(data)
                whole = whole and fits
            else:
                stream.seek(length + 4, os.SEEK_CUR)
            continue
        held += length
        _check_chunk(name, held, path)
        chunks.append(Chunk(name, _chunk_data(stream, name, length, path), late=packed > 0))
    if not packed:
        raise DataError("has no pixels", where=path)
    more = _chunk_data(stream, name, length, path)
    if not whole:
        # Last, so that a file is refused in the same words where its pixels were left on the disk at first.
        raise _no_sum("IDAT", path)
    return Png(
        width=made.width,
        height=made.height,
        depth=made.depth,
        colour=made.colour,
        interlaced=made.interlaced,
        chunks=tuple(chunks),
        compressed=b"".join(compressed),
        trailing=bool(more or stream.read(1)),
    )


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


def _header(data: bytes, path: Path) -> _Header:
    width, height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    depth, colour, compression, filters, interlace = data[8:]
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise DataError(f"is a PNG of colour type {colour}, depth {depth}, that no standard knows", where=path)
    check_size(width=width, height=height, channels=CHANNELS[colour], where=path)
    return _Header(width, height, depth, colour, interlace == 1)


def _raw_bytes(header: _Header) -> int:
    row = -(-header.width * CHANNELS[header.colour] * header.depth // 8)
    # Interlacing adds rows, each with its filter byte: at most two for one.
    return 2 * header.height * (row + 8)


def _next_chunk(stream: BinaryIO, size: int, path: Path) -> tuple[str, int]:
    head = stream.read(8)
    if len(head) < 8:
        raise DataError("is cut short", where=path)
    length, name = int.from_bytes(head[:4], "big"), head[4:]
    if not name.isalpha() or not name.isascii():
        raise DataError("is damaged: a chunk has no name", where=path)
    if length + 4 > size - stream.tell():
        raise DataError("is cut short", where=path)
    return name.decode("ascii"), length


def _chunk_data(stream: BinaryIO, name: str, length: int, path: Path) -> bytes:
    data, fits = _data_and_sum(stream, name, length)
    if not fits:
        raise _no_sum(name, path)
    return data


def _data_and_sum(stream: BinaryIO, name: str, length: int) -> tuple[bytes, bool]:
    data = stream.read(length)
    return data, stream.read(4) == zlib.crc32(data, zlib.crc32(name.encode("ascii"))).to_bytes(4, "big")


def _no_sum(name: str, path: Path) -> DataError:
    return DataError(f"is damaged: the checksum of its chunk {name} does not fit", where=path)


def _check_chunk(name: str, held: int, path: Path) -> None:
    if name in _ANIMATED:
        raise DataError("is an animated PNG", where=path, cure="take its frames apart")
    if name[0].isupper() and name not in _KNOWN_CRITICAL:
        raise DataError(f"has a chunk {name} that no reader may pass over", where=path)
    if name == "IHDR" or held > LARGEST_CHUNKS:
        raise DataError(f"has a chunk {name} that no PNG has", where=path)


def samples_of(png: Png) -> Pixels:
    """Decode the samples exactly as stored: uint8 or uint16 (C, H, W).

    Raises
    ------
    DataError
        They are cut short or damaged.
    """
    size = (png.width, png.height)
    planes = [
        np.asarray(Image.frombytes(mode, size, png.compressed, "zip", (raw, int(png.interlaced))))
        for mode, raw in _UNPACK[png.depth, png.channels]
    ]
    if png.depth < 16:
        return np.ascontiguousarray(planes[0].reshape(png.height, png.width, -1).transpose(2, 0, 1))
    if len(planes) == 1:
        pairs = planes[0].reshape(png.height, png.width, -1, 2)
        planes = [pairs[..., 0], pairs[..., 1]]
    high, low = (plane.transpose(2, 0, 1).astype(np.uint16) for plane in planes)
    return np.ascontiguousarray(high << 8 | low)


def text_chunk(keyword: str, text: str) -> Chunk:
    """An iTXt chunk, uncompressed."""
    return Chunk("iTXt", keyword.encode("latin-1") + bytes(5) + text.encode("utf-8"))


def text_of(chunk: Chunk, keyword: str) -> bytes | None:
    """The text of an iTXt chunk of a keyword, or None where it is another chunk.

    Raises
    ------
    DataError
        It is damaged, or inflates beyond what any chunk may hold.
    """
    start = keyword.encode("latin-1") + b"\0"
    if chunk.name != "iTXt" or not chunk.data.startswith(start):
        return None
    flags, rest = chunk.data[len(start) : len(start) + 2], chunk.data[len(start) + 2 :]
    parts = rest.split(b"\0", 2)
    if len(flags) != 2 or len(parts) != 3 or flags[0] > 1 or flags[1]:
        raise DataError("is damaged: a text chunk is not whole")
    return inflated(parts[2], LARGEST_CHUNKS) if flags[0] else parts[2]


def inflated(data: bytes, most: int) -> bytes:
    """Inflate a zlib stream.

    Raises
    ------
    DataError
        It is damaged, cut short, or longer than `most` bytes.
    """
    inflater = zlib.decompressobj()
    try:
        made = inflater.decompress(data, most)
    except zlib.error:
        raise DataError("is damaged: compressed data does not inflate") from None
    if not inflater.eof:
        raise DataError("is damaged: compressed data is cut short or too long")
    return made
