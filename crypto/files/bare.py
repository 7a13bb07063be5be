"""What a hidden file may hold beside what its MAC covers: nothing that anyone could choose.

A MAC over samples lets a lossless save pass, and would leave everything around the samples to whoever saves: texts,
thumbnails, further pictures, bytes behind the end. Files of version 2 are refused with any of it. Files of version 1
are read as they were, and what is around their samples is dropped: nothing of it reaches a file that is shown.
"""

from __future__ import annotations

import zlib

from crypto.reading.png import CHANNELS, PALETTE, Chunk, Png
from crypto.reading.tiff import TiffReader
from crypto.reading.tiff_pixels import DEFLATE, EXTRA_SAMPLES, NONE, PHOTOMETRIC, PREDICTOR, Layout
from medveil.errors import DataError

CURE = "restore it from a copy: its MAC does not cover that"
_STEP = 2**20
_WRITTEN = frozenset({256, 257, 258, 259, PHOTOMETRIC, 273, 277, 278, 279, 284, EXTRA_SAMPLES})
_MEANINGLESS = {254: 4, 282: 8, 283: 8, 296: 2, 339: 8, PREDICTOR: 2}
"""What other writers add to say the usual, and the most bytes it takes; no reader of ours uses it but the predictor."""


def check_bare_png(found: Png, keyword: str) -> None:
    """Refuse a hidden PNG with anything but its header, its pixels, and the palette they are looked up in.

    Raises
    ------
    DataError
        It has; the chunk is named.
    """
    for chunk in found.chunks:
        is_ours = chunk.name == "iTXt" and chunk.data.startswith(keyword.encode("latin-1") + b"\0")
        if chunk.late or not (is_ours or (chunk.name == "PLTE" and found.colour == PALETTE)):
            raise DataError(f"has a chunk {chunk.name} beside the hidden image", cure=CURE)
        if is_ours:
            _check_text(chunk, keyword)
    if len({chunk.name for chunk in found.chunks}) != len(found.chunks):
        raise DataError("has a header or a palette twice", cure=CURE)
    if found.trailing:
        raise DataError("has data behind the image", cure=CURE)
    if found.interlaced:
        raise DataError("is interlaced, which no hidden image is", cure=CURE)
    if found.compressed:
        _check_packed(found)


def _check_text(chunk: Chunk, keyword: str) -> None:
    """A text without language and translation, and nothing behind it where it is compressed."""
    rest = chunk.data[len(keyword) + 1 :]
    inflater = zlib.decompressobj()
    try:
        bare = rest[:1] in {b"\0", b"\1"} and rest[1:4] == bytes(3)
        if bare and rest[:1] == b"\1":
            inflater.decompress(rest[4:], _STEP * 64)
    except zlib.error:
        bare = False
    if not bare or inflater.unused_data:
        raise DataError("has a header with more in it than its text", cure=CURE)


def _check_packed(found: Png) -> None:
    row = -(-found.width * CHANNELS[found.colour] * found.depth // 8)
    inflater, size, data = zlib.decompressobj(), 0, found.compressed
    while data and not inflater.eof:
        size += len(inflater.decompress(data, _STEP))
        data = inflater.unconsumed_tail
    if not inflater.eof or inflater.unused_data or size != found.height * (row + 1):
        raise DataError("has more or fewer bytes of pixels than it shows", cure=CURE)


def check_bare_page(
    reader: TiffReader, offset: int, layout: Layout, *, header_tag: int, first: bool, seen: int
) -> None:
    """Refuse a page of a hidden TIFF with tags beside those that say how its samples are stored.

    Parameters
    ----------
    header_tag, first
        The tag of the header, and whether this is the page that has it.
    seen
        How its samples are to be seen (photometric interpretation).

    Raises
    ------
    DataError
        It has; the tag is named.
    """
    tags = reader.tags(offset)
    codes = [tag.code for tag in tags]
    allowed = _WRITTEN | _MEANINGLESS.keys() | ({header_tag} if first else set())
    for tag in tags:
        if tag.code not in allowed or len(tag.data) > _MEANINGLESS.get(tag.code, len(tag.data)):
            raise DataError(f"has a tag {tag.code} beside the hidden image", cure=CURE)
    if len(set(codes)) != len(codes) or reader.passed_over:
        raise DataError("has a tag twice, or of an unknown type", cure=CURE)
    if layout.tiled or layout.compression not in {NONE, DEFLATE} or layout.photometric != seen:
        raise DataError("is stored as no hidden image is", cure="save its pages in strips, plain or with Deflate")


def check_covered(reader: TiffReader) -> None:
    """Refuse a TIFF with bytes that belong to none of the pages that were read.

    Raises
    ------
    DataError
        It has. Zeros between the parts, which align them, count as nothing.
    """
    for start, end in reader.unread():
        for here in range(start, end, _STEP):
            reader.stream.seek(here)
            if any(reader.stream.read(min(_STEP, end - here))):
                raise DataError("has bytes that belong to no image", cure=CURE)
