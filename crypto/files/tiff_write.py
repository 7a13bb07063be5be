"""TIFF files written page by page, in memory that does not grow with their number."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

from crypto.reading.base import Pixels
from crypto.reading.tiff import POINTERS, TYPE_BYTES, Tag
from crypto.reading.tiff_pixels import (
    BITS,
    COMPRESSION,
    DEFLATE,
    HEIGHT,
    NONE,
    PHOTOMETRIC,
    PLANAR,
    ROWS,
    SAMPLES,
    STRIP_BYTES,
    STRIPS,
    WIDTH,
)

LARGEST_CLASSIC = 2**32 - 2**16
_STRIP_BYTES = 2**20
_SHORT, _LONG, _LONG8 = 3, 4, 16


class TiffWriter:
    """Writes pages of 8- or 16-bit samples to a stream, one after another.

    Parameters
    ----------
    stream
        Empty, seekable.
    order
        Byte order, ``"<"`` or ``">"``.
    big
        Whether to write a BigTIFF, for files of 4 GiB and more.
    """

    def __init__(self, stream: BinaryIO, *, order: str = "<", big: bool = False) -> None:
        self._stream = stream
        self._order, self._big = order, big
        mark = b"II" if order == "<" else b"MM"
        self._offset = "Q" if big else "I"
        stream.write(mark + (self._pack("HHH", 43, 8, 0) if big else self._pack("H", 42)))
        self._link = stream.tell()
        stream.write(self._pack(self._offset, 0))

    def add(
        self, values: Pixels, tags: Iterable[Tag], *, photometric: int, planar: bool = False, compress: bool = False
    ) -> dict[int, int]:
        """Write a page.

        Parameters
        ----------
        values
            uint8 or uint16 (C, H, W).
        tags
            Further tags, in the writer's byte order; those that say how pixels are stored are the writer's own.
        photometric, planar, compress
            How values are to be seen, whether each channel is a plane of its own, and whether to use Deflate.

        Returns
        -------
        dict
            Where in the file the value of each tag stands.
        """
        channels, height, width = values.shape
        planes = values[:, None] if planar else values[None]
        rows = max(1, min(height, _STRIP_BYTES // (width * planes.shape[1] * values.dtype.itemsize)))
        offsets, lengths = self._strips(planes, rows, compress=compress)
        bits = 8 * values.dtype.itemsize
        own = [
            self._tag(WIDTH, _LONG, [width]),
            self._tag(HEIGHT, _LONG, [height]),
            self._tag(BITS, _SHORT, [bits] * channels),
            self._tag(COMPRESSION, _SHORT, [DEFLATE if compress else NONE]),
            self._tag(PHOTOMETRIC, _SHORT, [photometric]),
            self._tag(STRIPS, _LONG8 if self._big else _LONG, offsets),
            self._tag(SAMPLES, _SHORT, [channels]),
            self._tag(ROWS, _LONG, [rows]),
            self._tag(STRIP_BYTES, _LONG8 if self._big else _LONG, lengths),
            self._tag(PLANAR, _SHORT, [2 if planar else 1]),
        ]
        codes = {tag.code for tag in own}
        start, found = self._directory([*own, *(tag for tag in tags if tag.code not in codes)])
        end = self._stream.tell()
        self._stream.seek(self._link)
        self._stream.write(self._pack(self._offset, start))
        self._link = end - struct.calcsize(f"<{self._offset}")
        self._stream.seek(end)
        return found

    def _strips(self, planes: Pixels, rows: int, *, compress: bool) -> tuple[list[int], list[int]]:
        offsets, lengths = [], []
        for plane in planes:
            for first in range(0, plane.shape[1], rows):
                strip = plane[:, first : first + rows].transpose(1, 2, 0)
                data = strip.astype(strip.dtype.newbyteorder(self._order), order="C", copy=False).tobytes()
                data = zlib.compress(data) if compress else data
                self._align()
                offsets.append(self._stream.tell())
                lengths.append(len(data))
                self._stream.write(data)
        return offsets, lengths

    def _directory(self, tags: list[Tag]) -> tuple[int, dict[int, int]]:
        """Write long values, then the directory; returns its offset and where each value stands."""
        inline = 8 if self._big else 4
        found: dict[int, int] = {}
        entries: list[tuple[Tag, bytes]] = []
        for tag in sorted(tags, key=lambda each: each.code):
            data = self._pointer(tag) if tag.code in POINTERS and tag.inner else tag.data
            if len(data) > inline:
                self._align()
                found[tag.code] = self._stream.tell()
                self._stream.write(data)
                data = self._pack(self._offset, found[tag.code])
            entries.append((tag, data.ljust(inline, b"\0")))
        self._align()
        start = self._stream.tell()
        self._stream.write(self._pack("Q" if self._big else "H", len(entries)))
        for tag, data in entries:
            self._stream.write(self._pack("HH", tag.code, tag.kind) + self._pack(self._offset, tag.count) + data)
        self._stream.write(self._pack(self._offset, 0))
        return start, found

    def _pointer(self, tag: Tag) -> bytes:
        start, _ = self._directory(list(tag.inner))
        size = TYPE_BYTES[tag.kind]
        return self._pack({4: "I", 8: "Q"}[size], start)

    def _tag(self, code: int, kind: int, values: list[int]) -> Tag:
        data = self._pack(f"{len(values)}{({_SHORT: 'H', _LONG: 'I', _LONG8: 'Q'})[kind]}", *values)
        return Tag(code, kind, len(values), data)

    def _align(self) -> None:
        # TIFF wants values at even offsets.
        if self._stream.tell() % 2:
            self._stream.write(b"\0")

    def _pack(self, format_: str, *values: int) -> bytes:
        return struct.pack(self._order + format_, *values)
