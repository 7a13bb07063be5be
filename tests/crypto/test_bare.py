"""Nothing may ride along in a hidden file: what its MAC does not cover is refused, or never reaches who decrypts."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from crypto.config import CipherConfig
from crypto.files.png_write import write_png
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading import png
from crypto.reading.png import Chunk, read_png, samples_of
from medveil.errors import IntegrityError

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
RECIPES = {
    "training": Recipe(purpose="training", cipher=CipherConfig(block=8), size=16),
    "archive": Recipe(purpose="archive", cipher=CipherConfig(block=8)),
}
PLAIN = Path(__file__).with_name("fixtures") / "hidden-version-1" / "plain"
VERSION_1 = PLAIN.with_name("training")
MARK = b"brought along"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def hidden(tmp_path: Path, name: str, purpose: str = "archive") -> Path:
    kind = kind_of(PLAIN / name)
    assert kind is not None
    target = tmp_path / Path(name).name
    kind.hide(PLAIN / name, target, RECIPES[purpose], KEY)
    return target


def refused(path: Path, says: str = "") -> None:
    kind = kind_of(path)
    assert kind is not None
    for asked in (lambda: kind.verify(path, RING), lambda: kind.show(path, path.with_name("shown"), RING)):
        with pytest.raises(IntegrityError, match=says):
            asked()
    assert not path.with_name("shown").exists()


# -- PNG ---------------------------------------------------------------------------------------------------------------

HEAD = 33
ADDED = {
    "tEXt": b"Comment\0" + MARK,
    "zTXt": b"Comment\0\0" + zlib.compress(MARK),
    "iTXt": b"Comment" + bytes(5) + MARK,
    "eXIf": b"MM\0*" + MARK,
    "iCCP": b"x\0\0" + zlib.compress(MARK),
    "gAMA": b"\0\0\0\1",
    "tRNS": bytes(6),
    "pHYs": bytes(9),
    "tIME": bytes(7),
    "sRGB": b"\0",
    "PLTE": MARK[:12],
    "mvLD": MARK,
}


def with_chunk(data: bytes, name: str, *, late: bool) -> bytes:
    at = len(data) - 12 if late else HEAD
    return data[:at] + chunk(name.encode(), ADDED[name]) + data[at:]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("purpose", RECIPES)
def test_a_png_with_another_chunk_is_refused(tmp_path: Path, purpose: str, name: str, late: bool) -> None:
    path = hidden(tmp_path, "sick/a.png", purpose)
    path.write_bytes(with_chunk(path.read_bytes(), name, late=late))
    refused(path, f"has a chunk {name} beside")
    kind = kind_of(path)
    assert kind is not None
    with pytest.raises(IntegrityError, match=f"has a chunk {name}"):
        kind.header(path)


def rebuilt(path: Path, pack: Callable[[bytes], bytes]) -> None:
    """The file again, its pixel data packed otherwise."""
    found = read_png(path)
    data = path.read_bytes()
    start = data.index(b"IDAT") - 4
    path.write_bytes(data[:start] + chunk(b"IDAT", pack(found.compressed)) + chunk(b"IEND", b""))


PNG_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "behind the end": lambda data: data + MARK,
    "in the end": lambda data: data[:-12] + chunk(b"IEND", MARK),
    "a second header": lambda data: data[:HEAD] + data[HEAD : data.index(b"IDAT") - 4] + data[HEAD:],
    "an animation": lambda data: data[:HEAD] + chunk(b"acTL", bytes(8)) + data[HEAD:],
    "a second IHDR": lambda data: data[:HEAD] + data[8:HEAD] + data[HEAD:],
}


@pytest.mark.parametrize("change", PNG_CHANGES)
def test_a_png_changed_outside_its_samples_is_refused(tmp_path: Path, change: str) -> None:
    path = hidden(tmp_path, "sick/a.png")
    path.write_bytes(PNG_CHANGES[change](path.read_bytes()))
    refused(path)


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data + MARK,
        lambda data: zlib.compress(zlib.decompress(data) + MARK),
        lambda data: data + zlib.compress(MARK),
    ],
)
def test_pixel_data_with_more_in_it_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = hidden(tmp_path, "sick/a.png")
    rebuilt(path, pack)
    refused(path, "has more or fewer bytes of pixels")


@pytest.mark.parametrize(
    "change", [lambda text: text + b" ", lambda text: b" " + text, lambda text: text[:-1] + b',"block":8}']
)
def test_a_header_written_otherwise_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = hidden(tmp_path, "sick/a.png")
    text = png.text_of(read_png(path).chunks[0], "medveil")
    assert text is not None
    data, found = path.read_bytes(), read_png(path)
    body = data[data.index(b"IDAT") - 4 :]
    path.write_bytes(data[:HEAD] + chunk(b"iTXt", b"medveil" + bytes(5) + change(text)) + body)
    refused(path, "not as it was written|has an unknown field|cut short or damaged")
    assert found.trailing is False


@pytest.mark.parametrize("extra", [b"\0\0en\0\0", b"\0\0\0" + MARK + b"\0"])
def test_a_header_with_a_language_is_refused(tmp_path: Path, extra: bytes) -> None:
    path = hidden(tmp_path, "sick/a.png")
    text = png.text_of(read_png(path).chunks[0], "medveil")
    assert text is not None
    data = path.read_bytes()
    body = data[data.index(b"IDAT") - 4 :]
    path.write_bytes(data[:HEAD] + chunk(b"iTXt", b"medveil\0" + extra + text) + body)
    refused(path, "more in it than its text")


# -- TIFF --------------------------------------------------------------------------------------------------------------


def saved(path: Path, *, tags: tuple[tuple[object, ...], ...] = (), software: object = False, **how: object) -> None:
    """A hidden TIFF saved by another writer, its header kept."""
    with tifffile.TiffFile(path) as opened:
        header = opened.pages[0].tags[65333].value
        pages = [page.asarray() for page in opened.pages]
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pages):
            own = [(65333, "s", 0, header, True)] if number == 0 else []
            writer.write(page, extratags=[*own, *tags], metadata=None, software=software, **how)


def test_a_tiff_saved_plainly_is_proven(tmp_path: Path) -> None:
    path = hidden(tmp_path, "sick/b.tif")
    saved(path)
    kind = kind_of(path)
    assert kind is not None
    kind.verify(path, RING)


@pytest.mark.parametrize(
    "more",
    [
        {"tags": ((270, "s", 0, MARK.decode(), True),)},
        {"tags": ((700, "B", len(MARK), MARK, True),)},
        {"tags": ((34675, "B", len(MARK), MARK, True),)},
        {"tags": ((65001, "B", len(MARK), MARK, True),)},
        {"software": MARK.decode()},
        {"tile": (16, 16)},
        {"photometric": "miniswhite"},
    ],
    ids=str,
)
def test_a_tiff_with_another_tag_is_refused(tmp_path: Path, more: dict[str, object]) -> None:
    path = hidden(tmp_path, "sick/b.tif")
    saved(path, **more)  # type: ignore[arg-type]
    refused(path)


def test_a_tiff_with_bytes_of_no_page_is_refused(tmp_path: Path) -> None:
    path = hidden(tmp_path, "sick/b.tif")
    data = path.read_bytes()
    path.write_bytes(data + MARK)
    refused(path, "has bytes that belong to no image")
    path.write_bytes(data + bytes(16))
    kind = kind_of(path)
    assert kind is not None
    kind.verify(path, RING)


def test_a_strip_with_more_in_it_is_refused(tmp_path: Path) -> None:
    path = hidden(tmp_path, "sick/b.tif")
    saved(path, compression="zlib")
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        at, length = page.dataoffsets[0], page.databytecounts[0]
        tag = page.tags[279]
    data = bytearray(path.read_bytes())
    strip = bytes(data[at : at + length]) + MARK
    where = tag.valueoffset
    data[where : where + 4] = struct.pack("<I", len(strip))
    start = len(data) + len(data) % 2
    data += bytes(start - len(data)) + strip
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        place = opened.pages[0].tags[273].valueoffset
    data[place : place + 4] = struct.pack("<I", start)
    path.write_bytes(data)
    refused(path, "has more bytes of pixels|belong to no image")


# -- DICOM -------------------------------------------------------------------------------------------------------------


def meta(path: Path, keyword: str, value: object) -> None:
    dataset = pydicom.dcmread(path)
    setattr(dataset.file_meta, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def private_meta(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = MARK + b" "
    dataset.save_as(path, enforce_file_format=True)


def longer_pixels(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData + MARK[:12]
    dataset.save_as(path, enforce_file_format=True)


DICOM_CHANGES: dict[str, Callable[[Path], object]] = {
    "the preamble": lambda path: path.write_bytes(MARK.ljust(128, b"\0") + path.read_bytes()[128:]),
    "private meta": private_meta,
    "padding": lambda path: path.write_bytes(
        path.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", 14) + MARK + b"\0"
    ),
    "a few bytes": lambda path: path.write_bytes(path.read_bytes() + MARK[:6]),
    "pixels": longer_pixels,
}


@pytest.mark.parametrize("change", DICOM_CHANGES)
def test_a_dicom_file_with_more_in_it_is_refused(tmp_path: Path, change: str) -> None:
    path = hidden(tmp_path, "well/c.dcm")
    before = path.read_bytes()
    DICOM_CHANGES[change](path)
    assert path.read_bytes() != before
    refused(path)


def test_who_wrote_the_file_meta_reaches_no_shown_file(tmp_path: Path) -> None:
    path = hidden(tmp_path, "well/c.dcm")
    meta(path, "SourceApplicationEntityTitle", MARK.decode())
    kind = kind_of(path)
    assert kind is not None
    kind.show(path, tmp_path / "shown", RING)
    assert MARK not in (tmp_path / "shown").read_bytes()


# -- version 1: read as it was, and nothing of it goes on --------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ADDED if name != "PLTE"])
def test_what_rides_on_version_1_is_dropped(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_chunk((VERSION_1 / "sick" / "a.png").read_bytes(), name, late=False) + MARK)
    kind = kind_of(path)
    assert kind is not None
    kind.show(path, tmp_path / "shown.png", RING)
    shown = read_png(tmp_path / "shown.png")
    assert (shown.chunks, shown.trailing) == ((), False)
    with Image.open(tmp_path / "shown.png") as after:
        assert after.size == (16, 16)


def test_version_2_cannot_be_passed_off_as_version_1(tmp_path: Path) -> None:
    path = hidden(tmp_path, "sick/a.png")
    found = read_png(path)
    text = png.text_of(found.chunks[0], "medveil")
    assert text is not None
    older = (
        text.replace(b'"version":3', b'"version":1')
        .replace(b'"preparation":0,', b"")
        .replace(b'"derivation":2,', b"")
        .replace(b'"place":"",', b"")
    )
    with open(tmp_path / "older.png", "wb") as stream:
        said = [png.text_chunk("medveil", older.decode()), Chunk("tEXt", ADDED["tEXt"])]
        write_png(stream, samples_of(found), depth=8, colour=png.RGB, chunks=said)
    refused(tmp_path / "older.png", "was changed after it was hidden")
    shutil.copy(VERSION_1 / "sick" / "a.png", tmp_path / "is1.png")
    kind = kind_of(tmp_path / "is1.png")
    assert kind is not None
    kind.verify(tmp_path / "is1.png", RING)
    assert np.array_equal(samples_of(read_png(tmp_path / "is1.png")).shape, (3, 16, 16))
