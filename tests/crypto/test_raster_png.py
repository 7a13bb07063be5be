from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crypto.files import png_write
from crypto.files.png_write import write_png
from crypto.reading import png
from crypto.reading.png import Chunk, read_png, samples_of
from medveil.errors import DataError

Pixels = NDArray[Any]

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
KINDS = [(png.GREY, depth) for depth in (1, 2, 4, 8, 16)] + [
    (colour, depth) for colour in (png.RGB, png.GREY_ALPHA, png.RGB_ALPHA) for depth in (8, 16)
]


def drawn(colour: int, depth: int, height: int, width: int, seed: int = 0) -> Pixels:
    """Samples (C, H, W) of any value."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**depth, (png.CHANNELS[colour], height, width))
    return values.astype(np.uint16 if depth == 16 else np.uint8)


# --- PNG as its standard describes it, slowly ----------------------------------------------------


def paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]


def predicted(kind: int, a: int, b: int, c: int) -> int:
    return (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]


def rows_of(samples: Pixels, depth: int) -> list[bytes]:
    """Scanlines: pixels interleaved, big-endian, packed from the left."""
    rows = []
    for y in range(samples.shape[1]):
        bits = "".join(f"{int(value):0{depth}b}" for value in samples[:, y].T.reshape(-1))
        bits += "0" * (-len(bits) % 8)
        rows.append(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))
    return rows


def filtered(rows: list[bytes], distance: int, first: int) -> bytes:
    out, above = b"", bytes(len(rows[0]))
    for y, row in enumerate(rows):
        kind = (y + first) % 5
        made = [kind]
        for x, value in enumerate(row):
            a, c = (row[x - distance], above[x - distance]) if x >= distance else (0, 0)
            made.append((value - predicted(kind, a, above[x], c)) % 256)
        out, above = out + bytes(made), row
    return out


def passes(samples: Pixels, *, interlaced: bool) -> Iterator[Pixels]:
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = samples[:, top::down, left::across]
        if part.size:
            yield part


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def slow_png(samples: Pixels, *, depth: int, colour: int, interlaced: bool = False, more: bytes = b"") -> bytes:
    """A PNG file with every filter in turn, in chunks of 50 bytes."""
    channels, height, width = samples.shape
    distance = max(1, channels * depth // 8)
    raw = b"".join(
        filtered(rows_of(part, depth), distance, i) for i, part in enumerate(passes(samples, interlaced=interlaced))
    )
    packed = zlib.compress(raw)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, interlaced])
    body = b"".join(chunk(b"IDAT", packed[i : i + 50]) for i in range(0, len(packed), 50))
    return png.SIGNATURE + chunk(b"IHDR", head) + more + body + chunk(b"IEND", b"")


def slow_samples(data: bytes) -> Pixels:
    """Samples of a PNG that is not interlaced."""
    at, packed = 8, b""
    while at < len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if name == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
            depth, channels = body[8], png.CHANNELS[body[9]]
        packed += body if name == b"IDAT" else b""
        at += length + 12
    raw = zlib.decompress(packed)
    stride = -(-width * channels * depth // 8)
    distance = max(1, channels * depth // 8)
    above, bits = bytes(stride), []
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            a, c = (row[x - distance], above[x - distance]) if x >= distance else (0, 0)
            row[x] = (row[x] + predicted(kind, a, above[x], c)) % 256
        above = bytes(row)
        text = "".join(f"{byte:08b}" for byte in row)[: width * channels * depth]
        bits.append([int(text[i : i + depth], 2) for i in range(0, len(text), depth)])
    return np.array(bits).reshape(height, width, channels).transpose(2, 0, 1)


# --- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_every_sort_is_read_as_the_standard_says(tmp_path: Path, colour: int, depth: int, interlaced: bool) -> None:
    path = tmp_path / "a.png"
    for height, width in ((11, 13), (1, 1), (3, 9)):
        samples = drawn(colour, depth, height, width)
        path.write_bytes(slow_png(samples, depth=depth, colour=colour, interlaced=interlaced))
        found = samples_of(read_png(path))
        assert found.dtype == samples.dtype
        assert np.array_equal(found, samples)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_what_pillow_writes_is_read_as_pillow_reads_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    colours = drawn(png.RGB, 8, 21, 17).transpose(1, 2, 0)
    deep = drawn(png.GREY, 16, 21, 17)[0]
    image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(colours).convert(mode)
    image.save(path)
    with Image.open(path) as opened:
        assert opened.mode == mode
        wanted = np.asarray(opened).reshape(21, 17, -1).transpose(2, 0, 1)
    assert np.array_equal(samples_of(read_png(path)), wanted)


# --- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ciphertext", [False, True])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_what_is_written_is_what_the_standard_reads(colour: int, depth: int, ciphertext: bool) -> None:
    samples = np.sort(drawn(colour, depth, 12, 15), axis=2)
    stream = io.BytesIO()
    write_png(stream, samples, depth=depth, colour=colour, ciphertext=ciphertext)
    assert np.array_equal(slow_samples(stream.getvalue()), samples)


def test_bands_join_where_filters_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.cumsum(drawn(png.RGB, 8, 40, 10), axis=1, dtype=np.uint8)
    banded = io.BytesIO()
    monkeypatch.setattr(png_write, "_BAND_BYTES", 90)
    write_png(banded, samples, depth=8, colour=png.RGB)
    assert np.array_equal(slow_samples(banded.getvalue()), samples)


def test_smooth_images_are_filtered_and_take_less_room() -> None:
    ramp = np.add.outer(np.arange(32), 3 * np.arange(32)).astype(np.uint16)[None] * 97
    filtered_, plain = io.BytesIO(), io.BytesIO()
    write_png(filtered_, ramp, depth=16, colour=png.GREY)
    write_png(plain, ramp, depth=16, colour=png.GREY, ciphertext=True)
    assert np.array_equal(slow_samples(filtered_.getvalue()), ramp)
    assert len(filtered_.getvalue()) < len(plain.getvalue()) / 3


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_writing_and_reading_are_inverse(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    colour, depth = data.draw(st.sampled_from(KINDS))
    height, width, seed = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1)))
    samples = drawn(colour, depth, height, width, seed)
    path = tmp_path_factory.getbasetemp() / "inverse.png"
    with path.open("wb") as stream:
        write_png(stream, samples, depth=depth, colour=colour, ciphertext=data.draw(st.booleans()))
    assert np.array_equal(samples_of(read_png(path)), samples)


# --- chunks and refusals ---------------------------------------------------------------------------


def test_chunks_keep_their_place(tmp_path: Path) -> None:
    chunks = [Chunk("gAMA", b"\0\0\0\1"), Chunk("tEXt", b"Title\0x"), Chunk("tIME", bytes(7), late=True)]
    path = tmp_path / "a.png"
    with path.open("wb") as stream:
        write_png(stream, drawn(png.GREY, 8, 4, 4), depth=8, colour=png.GREY, chunks=chunks)
    assert list(read_png(path).chunks) == chunks
    assert list(read_png(path, pixels=False).chunks) == chunks


@pytest.mark.parametrize("packed", [False, True])
def test_text_is_found_packed_or_not(packed: bool) -> None:
    text = json.dumps({"a": "b"})
    made = png.text_chunk("medveil", text)
    if packed:
        made = Chunk("iTXt", b"medveil\0\1\0en\0translated\0" + zlib.compress(text.encode()))
    assert png.text_of(made, "medveil") == text.encode()
    assert png.text_of(made, "med") is None
    with pytest.raises(DataError, match="not whole"):
        png.text_of(Chunk("iTXt", b"medveil\0\0"), "medveil")


def test_text_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "LARGEST_CHUNKS", 1000)
    with pytest.raises(DataError, match="too long"):
        png.text_of(Chunk("iTXt", b"medveil\0\1\0\0\0" + zlib.compress(bytes(1001))), "medveil")


GOOD = slow_png(drawn(png.RGB, 8, 8, 8), depth=8, colour=png.RGB)
HEAD = 8 + 25


def with_header(width: int, height: int, depth: int = 8, colour: int = 2, last: bytes = bytes(3)) -> bytes:
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour]) + last
    return GOOD[:8] + chunk(b"IHDR", head) + GOOD[HEAD:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a PNG file"),
        (GOOD[:8], "is cut short"),
        (GOOD[:20], "is cut short"),
        (GOOD[:-1], "is cut short"),
        (GOOD[:-12], "is cut short"),
        (GOOD[:8] + GOOD[HEAD:], "does not start with a PNG header"),
        (GOOD[:HEAD] + chunk(b"IEND", b""), "has no pixels"),
        (GOOD[:60] + bytes([GOOD[60] ^ 1]) + GOOD[61:], "the checksum of its chunk IDAT does not fit"),
        (GOOD[:HEAD] + b"\0\0\0\0\0\1\2\3" + GOOD[HEAD:], "a chunk has no name"),
        (GOOD[:HEAD] + chunk(b"acTL", bytes(8)) + GOOD[HEAD:], "is an animated PNG"),
        (GOOD[:HEAD] + chunk(b"ABCD", b"") + GOOD[HEAD:], "has a chunk ABCD that no reader may pass over"),
        (GOOD[:HEAD] + GOOD[8:HEAD] + GOOD[HEAD:], "has a chunk IHDR that no PNG has"),
        (with_header(0, 8), "is an image of 0 x 8 pixels"),
        (with_header(2**31 - 1, 2**31 - 1), "values are opened"),
        (with_header(2**20 + 1, 1), "values are opened"),
        (with_header(8, 8, depth=3), "that no standard knows"),
        (with_header(8, 8, depth=4), "that no standard knows"),
        (with_header(8, 8, colour=5), "that no standard knows"),
        (with_header(8, 8, last=b"\0\0\2"), "that no standard knows"),
    ],
)
def test_what_is_no_whole_png_is_refused_by_name(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for pixels in (True, False) if "checksum" not in says else (True,):
        with pytest.raises(DataError, match=says) as caught:
            read_png(path, pixels=pixels)
        assert caught.value.where == str(path)


def test_pixels_that_are_too_few_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(with_header(9, 9))
    with pytest.raises(ValueError, match=r"not enough image data|cannot decode"):
        samples_of(read_png(path))


def test_pixel_data_beyond_what_the_size_explains_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(GOOD[:HEAD] + chunk(b"IDAT", bytes(2**21)) * 2 + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="more pixel data than its size explains"):
        read_png(path)


@pytest.mark.parametrize("colours", [b"", b"\1\2", bytes(3 * 5)])
def test_a_palette_that_cannot_be(tmp_path: Path, colours: bytes) -> None:
    path = tmp_path / "bad.png"
    more = chunk(b"PLTE", colours) if colours else b""
    path.write_bytes(slow_png(drawn(png.PALETTE, 2, 8, 8), depth=2, colour=png.PALETTE, more=more))
    with pytest.raises(DataError, match="has a palette of"):
        read_png(path).palette()


@pytest.mark.parametrize("behind", [b"", b"\0\0\0\0\1\2\3\4", b"\0\0\0\4acTL"])
def test_of_two_faults_the_same_is_named_with_and_without_pixels(tmp_path: Path, behind: bytes) -> None:
    """A door that looks at the header first names what another, that reads all at once, names too."""
    data = bytearray(GOOD)
    data[60] ^= 1
    path = tmp_path / "two.png"
    path.write_bytes(bytes(data[: data.rindex(b"IEND") - 4]) + behind)
    with pytest.raises(DataError) as first:
        read_png(path, pixels=False)
    with pytest.raises(DataError) as second:
        read_png(path)
    assert str(first.value) == str(second.value)
