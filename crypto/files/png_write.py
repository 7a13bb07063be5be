"""Write PNG files: every depth and colour type, band by band (ISO/IEC 15948)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from crypto.reading.base import Pixels
from crypto.reading.png import PALETTE, SIGNATURE, Chunk

_BAND_BYTES = 2**20


def write_png(
    stream: BinaryIO,
    samples: Pixels,
    *,
    depth: int,
    colour: int,
    chunks: Iterable[Chunk] = (),
    ciphertext: bool = False,
) -> None:
    """Write a PNG file, band by band.

    Parameters
    ----------
    stream
        Where to.
    samples
        uint8 or uint16 (C, H, W), values below 2**depth.
    depth, colour
        Bits of a sample and colour type.
    chunks
        What goes before and behind the pixels.
    ciphertext
        Whether the pixels look like noise, where filters and a search for repetitions cost time and give nothing.
    """
    _, height, width = samples.shape
    listed = list(chunks)
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    stream.write(SIGNATURE)
    _write_chunk(stream, "IHDR", sides + bytes([depth, colour, 0, 0, 0]))
    for chunk in (each for each in listed if not each.late):
        _write_chunk(stream, chunk.name, chunk.data)
    strategy = zlib.Z_RLE if ciphertext else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(1 if ciphertext else 6, zlib.DEFLATED, 15, 9, strategy)
    for band in _bands(samples, depth, filtered=not ciphertext and depth >= 8 and colour != PALETTE):
        packed = packer.compress(band.data)
        if packed:
            _write_chunk(stream, "IDAT", packed)
    _write_chunk(stream, "IDAT", packer.flush())
    for chunk in (each for each in listed if each.late):
        _write_chunk(stream, chunk.name, chunk.data)
    _write_chunk(stream, "IEND", b"")


def _write_chunk(stream: BinaryIO, name: str, data: bytes) -> None:
    kind = name.encode("ascii")
    stream.write(len(data).to_bytes(4, "big") + kind + data)
    stream.write(zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big"))


def _bands(samples: Pixels, depth: int, *, filtered: bool) -> Iterator[Pixels]:
    """Rows ready to be compressed, each behind the byte that names its filter: uint8 (rows, 1 + bytes)."""
    channels, height, width = samples.shape
    row = -(-channels * width * depth // 8)
    step = max(1, _BAND_BYTES // row)
    above = np.zeros((1, row), np.uint8)
    for first in range(0, height, step):
        rows = _packed(samples[:, first : first + step], depth)
        yield _filtered(rows, above, distance=channels * depth // 8) if filtered else np.pad(rows, ((0, 0), (1, 0)))
        above = rows[-1:]


def _packed(samples: Pixels, depth: int) -> Pixels:
    """Rows of bytes as PNG stores them, uint8 (H, bytes)."""
    interleaved = np.ascontiguousarray(samples.transpose(1, 2, 0))
    rows = interleaved.reshape(len(interleaved), -1)
    if depth == 16:
        return rows.astype(">u2").view(np.uint8)
    if depth == 8:
        return rows
    bits = np.unpackbits(rows[..., None], axis=-1)[..., 8 - depth :]
    return np.packbits(bits.reshape(len(rows), -1), axis=1)


def _filtered(rows: Pixels, above: Pixels, *, distance: int) -> Pixels:
    """Of the filters None, Sub and Up, take for each row the one with the smallest sum of differences."""
    sub = rows.copy()
    sub[:, distance:] -= rows[:, :-distance]
    up = rows - np.concatenate([above, rows[:-1]])
    candidates = np.stack([rows, sub, up])
    sums = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = sums.argmin(axis=0)
    out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    out[:, 0] = best
    out[:, 1:] = candidates[best, np.arange(len(rows))]
    return out
