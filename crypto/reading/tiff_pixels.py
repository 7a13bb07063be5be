"""The pixels of a TIFF page: strips and tiles of 8- or 16-bit samples, exactly as stored or refused by name."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, _imaging

from crypto.reading.base import Pixels, check_size
from crypto.reading.tiff import Directory, TiffReader
from medveil.errors import DataError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANAR = 273, 274, 277, 278, 279, 284
FILL_ORDER, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 266, 317, 320, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, SUB_DIRECTORIES, DEPTH = 338, 339, 330, 32997

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
UNSIGNED, SIGNED = 1, 2

_PHOTOMETRICS = {4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab", 32803: "a colour filter array"}
_COMPRESSIONS = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 34925: "LZMA"}
_FORMATS = {3: "floating-point", 5: "complex", 6: "complex"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the pixels of a page are stored.

    Parameters
    ----------
    width, height, samples, bits
        Of the page; `samples` for each pixel.
    signed
        Whether samples are two's complement.
    photometric, compression, predictor, orientation
        As TIFF counts them.
    planar
        Whether each sample has a plane of its own.
    cell
        Width and height of a strip or tile.
    tiled
        Whether cells at the edges are whole, as tiles are.
    """

    width: int
    height: int
    samples: int
    bits: int
    signed: bool
    photometric: int
    compression: int
    predictor: int
    orientation: int
    planar: bool
    cell: tuple[int, int]
    tiled: bool

    @property
    def alike(self) -> tuple[int, ...]:
        """What pages of one hidden file have in common."""
        return self.width, self.height, self.samples, self.bits, self.signed, self.photometric, self.planar


class _Segment(NamedTuple):
    """Where a strip or tile lies in the page, and its shape in the file."""

    plane: int
    top: int
    left: int
    rows: int
    columns: int


def layout_of(reader: TiffReader, page: Directory) -> Layout:
    """Read how a page is stored.

    Raises
    ------
    DataError
        It is damaged, or of a sort that is refused, which is named.
    """

    def one(code: int, default: int) -> int:
        return reader.whole(page[code])[0] if code in page else default

    samples, photometric = one(SAMPLES, 1), one(PHOTOMETRIC, -1)
    width, height = one(WIDTH, 0), one(HEIGHT, 0)
    bits = _same(reader, page, BITS, 1)
    sample_format = _same(reader, page, SAMPLE_FORMAT, UNSIGNED)
    compression, predictor = one(COMPRESSION, NONE), one(PREDICTOR, 1)
    _check_sort(photometric, samples, bits, sample_format)
    _check_storage(compression, predictor)
    if SUB_DIRECTORIES in page or one(DEPTH, 1) != 1 or one(FILL_ORDER, 1) != 1:
        odd = "sub-images" if SUB_DIRECTORIES in page else "volumes or reversed bits"
        raise DataError(f"is a TIFF file with {odd}", cure="save its images as plain pages")
    check_size(width=width, height=height, channels=samples, where=reader.path)
    tiled = TILES in page
    cell = (one(TILE_WIDTH, 0), one(TILE_HEIGHT, 0)) if tiled else (width, min(one(ROWS, height), height))
    if min(cell) < 1:
        raise DataError(f"is damaged: strips or tiles of {cell[0]} x {cell[1]} pixels")
    if tiled:
        check_size(width=cell[0], height=cell[1], channels=samples, where=reader.path)
    return Layout(
        width=width,
        height=height,
        samples=samples,
        bits=bits,
        signed=sample_format == SIGNED,
        photometric=photometric,
        compression=compression,
        predictor=predictor,
        orientation=_orientation(one(ORIENTATION, 1)),
        planar=one(PLANAR, 1) == 2 and samples > 1,
        cell=cell,
        tiled=tiled,
    )


def _orientation(found: int) -> int:
    return found if 1 <= found <= 8 else 1


def _same(reader: TiffReader, page: Directory, code: int, default: int) -> int:
    """The value that a tag gives to all samples alike."""
    values = set(reader.whole(page[code])) if code in page else {default}
    if len(values) != 1:
        raise DataError(f"is a TIFF file whose samples differ ({', '.join(map(str, sorted(values)[:4]))})")
    return values.pop()


def _check_sort(photometric: int, samples: int, bits: int, sample_format: int) -> None:
    if sample_format not in {UNSIGNED, SIGNED}:
        raise DataError(f"is a TIFF file of {_FORMATS.get(sample_format, 'undefined')} samples", cure=_CURE)
    if bits not in {8, 16}:
        raise DataError(f"is a TIFF file of {bits}-bit samples", cure=_CURE)
    if photometric not in {WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE}:
        named = _PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
        raise DataError(f"is a TIFF file of {named}", cure=_CURE)
    fits = {WHITE_IS_ZERO: {1, 2}, BLACK_IS_ZERO: {1, 2}, RGB: {3, 4}, PALETTE: {1}}[photometric]
    if samples not in fits:
        raise DataError(f"is a TIFF file of {samples} samples a pixel", cure=_CURE)


_CURE = "save it as grey, RGB or a palette of 8 or 16 bit"


def _check_storage(compression: int, predictor: int) -> None:
    if compression not in {NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS}:
        named = _COMPRESSIONS.get(compression, f"scheme {compression}")
        raise DataError(f"is a TIFF file compressed with {named}", cure="save it with LZW, Deflate or uncompressed")
    # libtiff passes over a predictor where the compression has none, tifffile applies it.
    if predictor not in ({1} if compression in {NONE, PACKBITS} else {1, 2}):
        raise DataError(f"is a TIFF file with predictor {predictor}", cure="save it without")


def pixels_of(reader: TiffReader, page: Directory, layout: Layout, *, exact: bool = False) -> Pixels:
    """Decode a page: uint8 or uint16 (C, H, W), signed samples as the same bits unsigned.

    `exact` refuses bytes of a strip that no sample needs.

    Raises
    ------
    DataError
        It is cut short or damaged.
    """
    out = np.empty((layout.samples, layout.height, layout.width), np.uint8 if layout.bits == 8 else np.uint16)
    offsets, lengths = (reader.whole(page[code]) if code in page else () for code in _codes(layout))
    segments = list(_segments(layout))
    if not len(offsets) == len(lengths) == len(segments):
        raise DataError(f"is damaged: {len(segments)} strips or tiles, {len(offsets)} offsets, {len(lengths)} lengths")
    for where, offset, length in zip(segments, offsets, lengths, strict=True):
        if exact:
            _check_exact(reader, layout, where, offset, length)
        values = _decoded(reader, layout, where, offset, length)
        kept = values[: layout.height - where.top, : layout.width - where.left].transpose(2, 0, 1)
        planes = slice(where.plane, where.plane + len(kept))
        out[planes, where.top : where.top + kept.shape[1], where.left : where.left + kept.shape[2]] = kept
    return out


def _codes(layout: Layout) -> tuple[int, int]:
    return (TILES, TILE_BYTES) if layout.tiled else (STRIPS, STRIP_BYTES)


def _segments(layout: Layout) -> Iterator[_Segment]:
    columns, rows = layout.cell
    for plane in range(layout.samples if layout.planar else 1):
        for top in range(0, layout.height, rows):
            for left in range(0, layout.width, columns):
                # The last strip ends with the page; a tile is always whole.
                yield _Segment(plane, top, left, rows if layout.tiled else min(rows, layout.height - top), columns)


def _decoded(reader: TiffReader, layout: Layout, where: _Segment, offset: int, length: int) -> Pixels:
    """One strip or tile, native byte order (rows, columns, samples)."""
    samples = 1 if layout.planar else layout.samples
    row = where.columns * samples * layout.bits // 8
    size = row * where.rows
    if length > 2 * size + 2**16:
        raise DataError("has more pixel data than its size explains", where=reader.path)
    data = _unpacked(reader.segment(offset, length), layout.compression, row=row, rows=where.rows)
    if len(data) < size:
        raise DataError("is cut short: a strip or tile is not whole", where=reader.path)
    stored = np.frombuffer(data, dtype=f"{reader.order}u{layout.bits // 8}", count=size * 8 // layout.bits)
    values = stored.reshape(where.rows, where.columns, samples).astype(stored.dtype.newbyteorder("="), copy=False)
    return np.add.accumulate(values, axis=1, dtype=values.dtype) if layout.predictor == 2 else values


def _check_exact(reader: TiffReader, layout: Layout, where: _Segment, offset: int, length: int) -> None:
    samples = 1 if layout.planar else layout.samples
    size = where.columns * samples * layout.bits // 8 * where.rows
    if layout.compression in {DEFLATE, OLD_DEFLATE}:
        engine = zlib.decompressobj()
        found = len(engine.decompress(reader.segment(offset, length), size))
        # One byte more is asked for: what gives it is not at its end.
        left = engine.decompress(engine.unconsumed_tail, 1) if not engine.eof else b""
        if found == size and not left and engine.eof and not engine.unused_data:
            return
    elif length == size:
        return
    raise DataError("has more bytes of pixels than it shows", where=reader.path)


def _unpacked(data: bytes, compression: int, *, row: int, rows: int) -> bytes:
    """Decompress a segment, at most to its size."""
    if compression == NONE:
        return data
    if compression in {DEFLATE, OLD_DEFLATE}:
        return zlib.decompressobj().decompress(data, row * rows)
    if compression == PACKBITS:
        return Image.frombytes("L", (row, rows), data, "packbits", "L").tobytes()
    return _unpacked_lzw(data, row=row, rows=rows)


def _unpacked_lzw(data: bytes, *, row: int, rows: int) -> bytes:
    """Decompress LZW with libtiff, by handing it to Pillow as a grey TIFF of one strip of bytes."""
    tags = {
        WIDTH: row,
        HEIGHT: rows,
        BITS: 8,
        COMPRESSION: LZW,
        PHOTOMETRIC: BLACK_IS_ZERO,
        STRIPS: 8,
        SAMPLES: 1,
        ROWS: rows,
        STRIP_BYTES: len(data),
    }
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
    body = data + bytes(len(data) % 2)
    _silence_libtiff()
    file = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
    with warnings.catch_warnings():
        # The size was checked before; this strip is no larger.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
            return image.tobytes()


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff's own words on broken data from standard error, where it can be reached: Pillow tells of them."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def palette_of(reader: TiffReader, page: Directory, layout: Layout) -> Pixels | None:
    """The colours that samples stand for, uint8 (n, 3); None where they stand for themselves.

    Raises
    ------
    DataError
        The colour map is missing or of the wrong length.
    """
    if layout.photometric != PALETTE:
        return None
    values = reader.whole(page[COLOUR_MAP]) if COLOUR_MAP in page else ()
    if len(values) != 3 * 2**layout.bits:
        raise DataError(f"has a colour map of {len(values)} values")
    colours = np.array(values, np.uint16).reshape(3, -1).T
    # 16 bits a colour, of which 8-bit ones are stored times 256 or 257; but some writers store them as they are. As
    # libtiff does (checkcmap of tif_getimage.c): where no value is above a byte, they are bytes.
    return (colours if colours.max() < 2**8 else colours >> 8).astype(np.uint8)
