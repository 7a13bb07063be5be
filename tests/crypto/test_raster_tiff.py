from __future__ import annotations

import dataclasses
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.files import raster_tiff, tiff_write
from crypto.files.hiding import LARGEST_EXTRAS
from crypto.files.raster_tiff import TiffFile
from crypto.files.recipe import Recipe
from crypto.imaging.preprocess import percentiles_to_bytes, to_square
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading import tiff_pixels
from crypto.reading.look import open_image
from crypto.reading.tiff import TiffReader
from medveil.errors import DataError, FormatError, IntegrityError, KeyMaterialError, MedVeilError

Pixels = NDArray[Any]

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
TIFF = TiffFile()
CANARY = "Jane Q. Canary 1970-01-31"


def archive(scheme: str = "block-pixel", **more: Any) -> Recipe:
    cipher = CipherConfig(scheme=scheme, block=8, negate=scheme == "block-pixel")
    return Recipe(purpose="archive", cipher=cipher, **more)


def training(size: int = 32, **more: Any) -> Recipe:
    return Recipe(purpose="training", cipher=CipherConfig(block=8, negate=True), size=size, **more)


def drawn(*shape: int, dtype: str = "uint8") -> Pixels:
    limits = np.iinfo(dtype)
    return np.random.default_rng(0).integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def there_and_back(source: Path, recipe: Recipe | None = None) -> Path:
    hidden, shown = source.with_name("hidden.tif"), source.with_name("shown.tif")
    TIFF.hide(source, hidden, recipe or archive(), KEY)
    TIFF.verify(hidden, RING)
    TIFF.show(hidden, shown, RING)
    return shown


# --- archives


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
@pytest.mark.parametrize("shape", [(21, 26), (5, 21, 26), (21, 26, 3), (4, 21, 26, 4)])
def test_an_archive_gives_every_sample_back(
    tmp_path: Path, order: str, big: bool, dtype: str, shape: tuple[int, ...]
) -> None:
    pixels = drawn(*shape, dtype=dtype)
    how = "rgb" if shape[-1] in {3, 4} else "minisblack"
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, pixels, byteorder=order, bigtiff=big, photometric=how, metadata=None)
    shown = there_and_back(source)
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(shown) as after:
        assert (before.byteorder, before.is_bigtiff, len(before.pages)) == (order, after.is_bigtiff, len(after.pages))
        for old, new in zip(before.pages, after.pages, strict=True):
            assert old.dtype == new.dtype
            assert np.array_equal(old.asarray(), new.asarray())
            assert (old.photometric, old.planarconfig) == (new.photometric, new.planarconfig)
            assert old.tags.get("ExtraSamples", None) == new.tags.get("ExtraSamples", None) or (
                old.tags["ExtraSamples"].value == new.tags["ExtraSamples"].value
            )


@pytest.mark.parametrize("scheme", ["block-pixel", "aes-ctr"])
def test_each_page_is_hidden_by_the_cipher_alone(tmp_path: Path, scheme: str) -> None:
    pixels = drawn(3, 21, 26, 3, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    TIFF.hide(tmp_path / "a.tif", tmp_path / "b.tif", archive(scheme), KEY)
    header = TIFF.header(tmp_path / "b.tif")
    assert (header.frames, header.channels, header.height, header.width, header.bits) == (3, 3, 21, 26, 16)
    config = CipherConfig(scheme, 8, scheme == "block-pixel")
    cipher = make_cipher(config, KEY, channels=3, height=21, width=26, bits=16, use="archive")
    nonces = np.frombuffer(header.nonces, np.uint8).reshape(-1, 16) if header.nonces else None
    assert nonces is None or len({nonce.tobytes() for nonce in nonces}) == 3
    wanted = cipher.encrypt(pixels.transpose(0, 3, 1, 2), nonces).transpose(0, 2, 3, 1)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), wanted)
    with Image.open(tmp_path / "b.tif") as opened:
        assert opened.n_frames == 3


PREDICTED = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")


def page_of(path: Path) -> Pixels:
    with path.open("rb") as stream:
        reader = TiffReader(stream, path)
        page = reader.directory(next(reader.offsets()))
        return tiff_pixels.pixels_of(reader, page, tiff_pixels.layout_of(reader, page))


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3])),
    tile=st.sampled_from([None, (16, 16), (32, 48)]),
    rows=st.sampled_from([None, 1, 7]),
    packed=st.booleans(),
    dtype=st.sampled_from(["uint8", "uint16", "int16"]),
    order=st.sampled_from(["<", ">"]),
    planar=st.booleans(),
    predictor=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_way_to_store_pixels_is_read_as_tifffile_reads_it(
    *,
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    tile: tuple[int, int] | None,
    rows: int | None,
    packed: bool,
    dtype: str,
    order: str,
    planar: bool,
    predictor: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "stored.tif"
    pixels = drawn(*shape, dtype=dtype)
    pixels = pixels[..., 0] if shape[2] == 1 else pixels.transpose(2, 0, 1) if planar else pixels
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb" if shape[2] == 3 else "minisblack",
        planarconfig=("separate" if planar else "contig") if shape[2] == 3 else None,
        tile=tile,
        rowsperstrip=None if tile else rows,
        compression="zlib" if packed else None,
        predictor=predictor and packed,
        byteorder=order,
        metadata=None,
    )
    wanted = tifffile.imread(path)
    wanted = wanted[None] if wanted.ndim == 2 else wanted if planar else wanted.transpose(2, 0, 1)
    assert np.array_equal(page_of(path), wanted.view(wanted.dtype.str.replace("i", "u")))


def test_broken_lzw_is_told_in_our_words_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.tif"
    Image.fromarray(drawn(9, 12, 1)[..., 0]).save(source, compression="tiff_lzw")
    with source.open("rb") as stream:
        reader = TiffReader(stream, source)
        page = reader.directory(next(reader.offsets()))
        start = reader.whole(page[tiff_pixels.STRIPS])[0]
    data = source.read_bytes()
    source.write_bytes(data[: start + 2] + b"\xff" * 20 + data[start + 22 :])
    with pytest.raises(DataError):
        open_image(source).shown()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "raw"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_what_libtiff_writes_is_read_as_libtiff_reads_it(tmp_path: Path, compression: str, mode: str) -> None:
    base = np.cumsum(drawn(75, 81, 4), axis=0, dtype=np.uint8)
    image = Image.fromarray(drawn(75, 81, dtype="uint16")) if mode == "I;16" else Image.fromarray(base).convert(mode)
    source = tmp_path / "a.tif"
    image.save(source, compression=compression, tiffinfo={317: 2} if compression in PREDICTED and mode != "P" else {})
    with Image.open(source) as opened:
        wanted = np.asarray(opened)
    with Image.open(there_and_back(source)) as shown:
        assert shown.mode == mode
        assert np.array_equal(np.asarray(shown), wanted)
        assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(image.convert("RGB")))


def test_a_file_of_others(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    source.write_bytes((Path(skimage.data.__file__).parent / "multipage.tif").read_bytes())
    shown = there_and_back(source)
    assert np.array_equal(tifffile.imread(source), tifffile.imread(shown))


def test_planes_tiles_and_white_is_zero_come_back(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, drawn(3, 40, 50), photometric="rgb", planarconfig="separate", tile=(16, 16))
    assert tifffile.imread(there_and_back(source)).shape == (3, 40, 50)
    tifffile.imwrite(source, drawn(40, 50), photometric="miniswhite", compression="zlib", metadata=None)
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(there_and_back(source)) as after:
        assert after.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
        assert after.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert np.array_equal(before.pages[0].asarray(), after.pages[0].asarray())


def test_the_palette_is_sealed(tmp_path: Path) -> None:
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 83
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, drawn(40, 50), photometric="palette", colormap=colours)
    with tifffile.TiffFile(there_and_back(source)) as after:
        assert np.array_equal(after.pages[0].colormap, colours)
    with tifffile.TiffFile(tmp_path / "hidden.tif") as hidden:
        assert hidden.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK
        assert 320 not in hidden.pages[0].tags


# --- metadata

TEXTS = {270: "ImageDescription", 271: "Make", 305: "Software", 306: "DateTime", 315: "Artist", 33432: "Copyright"}


def speaking(path: Path, order: str = "<") -> None:
    """Two pages with names, EXIF, GPS and a private tag."""
    said = TiffImagePlugin.ImageFileDirectory_v2()
    for code in (*TEXTS, 65000):
        said.tagtype[code] = 2
        said[code] = CANARY
    said[34665] = {36867: CANARY, 33434: 0.25}
    said[34853] = {29: CANARY}
    said[282], said[283], said[296] = 300.0, 300.0, 2
    pages = [Image.fromarray(page) for page in drawn(2, 40, 50)]
    if order == "<":
        pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo=said)
        return
    with tifffile.TiffWriter(path, byteorder=">") as writer:
        for page in pages:
            more = [(code, "s", 0, CANARY, True) for code in TEXTS if code not in {270, 305, 306}]
            how = {"description": CANARY, "software": CANARY, "resolution": (300, 300), "metadata": None}
            writer.write(np.asarray(page), extratags=more, **how)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("recipe", [archive(), training(), archive(identity="sealed"), training(identity="sealed")])
def test_nothing_that_says_who_was_seen_is_in_the_clear(tmp_path: Path, recipe: Recipe, order: str) -> None:
    speaking(tmp_path / "a.tif", order)
    assert CANARY.encode() in (tmp_path / "a.tif").read_bytes()
    report = TIFF.hide(tmp_path / "a.tif", tmp_path / "b.tif", recipe, KEY)
    assert CANARY.encode() not in (tmp_path / "b.tif").read_bytes()
    assert {"ImageDescription", "Make", "Software", "Artist", "Copyright"} <= set(report.removed)
    if order == "<":
        assert {"EXIF", "GPS", "DateTime", "tag 65000"} <= set(report.removed)


def tags_of(path: Path) -> list[dict[int, Any]]:
    storage = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284}
    with tifffile.TiffFile(path) as opened:
        return [{tag.code: tag.value for tag in page.tags if tag.code not in storage} for page in opened.pages]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sealed_metadata_comes_back_whole(tmp_path: Path, order: str) -> None:
    speaking(tmp_path / "a.tif", order)
    shown = there_and_back(tmp_path / "a.tif", archive(identity="sealed"))
    before, after = tags_of(tmp_path / "a.tif"), tags_of(shown)
    assert before[0][270] == CANARY
    assert before == after
    if order == "<":
        assert after[0][34665]["DateTimeOriginal"] == CANARY
        assert after[0][34853] == before[0][34853] != {}


def test_what_says_nothing_comes_back_either_way(tmp_path: Path) -> None:
    speaking(tmp_path / "a.tif")
    before, after = tags_of(tmp_path / "a.tif"), tags_of(there_and_back(tmp_path / "a.tif"))
    assert [set(page) for page in after] == [set(page) & {282, 283, 296, 339, 254, 297} for page in before]
    assert after[0][282] == (300, 1)


def test_sealed_metadata_of_a_training_file_comes_back(tmp_path: Path) -> None:
    speaking(tmp_path / "a.tif")
    after = tags_of(there_and_back(tmp_path / "a.tif", training(identity="sealed")))
    assert after[0][270] == CANARY
    assert after[0][34665]["DateTimeOriginal"] == CANARY
    assert 282 not in after[0]


def test_metadata_is_not_left_in_the_clear(tmp_path: Path) -> None:
    speaking(tmp_path / "a.tif")
    with pytest.raises(DataError, match="that may hold a preview"):
        TIFF.hide(tmp_path / "a.tif", tmp_path / "b.tif", archive(identity="kept"), KEY)
    tifffile.imwrite(tmp_path / "c.tif", drawn(40, 50), metadata=None, software=False)
    TIFF.hide(tmp_path / "c.tif", tmp_path / "b.tif", archive(identity="kept"), KEY)


# --- training


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("sort", ["grey8", "white", "grey16", "signed", "rgb8", "rgb16", "palette", "alpha"])
def test_training_pages_are_what_preprocessing_says(tmp_path: Path, sort: str, channels: int | None) -> None:
    source, colours = tmp_path / "a.tif", np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 85
    dtype = {"grey16": "uint16", "signed": "int16", "rgb16": "uint16"}.get(sort, "uint8")
    last = {"rgb8": (3,), "rgb16": (3,), "alpha": (4,)}.get(sort, ())
    pixels = drawn(2, 40, 50, *last, dtype=dtype)
    how = {"white": "miniswhite", "palette": "palette"}.get(sort, "rgb" if last else "minisblack")
    with tifffile.TiffWriter(source) as writer:
        for page in pixels:
            writer.write(page, photometric=how, colormap=colours if sort == "palette" else None, contiguous=False)
    shown = {
        "grey8": lambda page: page,
        "white": lambda page: 255 - page,
        "grey16": percentiles_to_bytes,
        "signed": percentiles_to_bytes,
        "rgb8": lambda page: page,
        "rgb16": lambda page: np.rint(page / 257).astype(np.uint8),
        "palette": lambda page: (colours.T >> 8).astype(np.uint8)[page],
        "alpha": lambda page: page[..., :3],
    }[sort]
    TIFF.hide(source, tmp_path / "b.tif", training(channels=channels), KEY)
    header = TIFF.header(tmp_path / "b.tif")
    wanted = [shown(page) for page in pixels]
    made = channels or (1 if wanted[0].ndim == 2 else 3)
    assert (header.frames, header.channels, header.height, header.bits) == (2, made, 32, 8)
    squares = np.stack([to_square(np.ascontiguousarray(page), size=32, channels=made) for page in wanted])
    hidden = tifffile.imread(tmp_path / "b.tif")
    hidden = hidden[:, None] if made == 1 else hidden.transpose(0, 3, 1, 2)
    assert np.array_equal(header.cipher(KEY).decrypt(hidden), squares)
    TIFF.show(tmp_path / "b.tif", tmp_path / "c.tif", RING)
    back = tifffile.imread(tmp_path / "c.tif")
    assert np.array_equal(back[:, None] if made == 1 else back.transpose(0, 3, 1, 2), squares)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_training_pages_and_comes_back_with_archives(tmp_path: Path, orientation: int) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, drawn(40, 56), extratags=[(274, 3, 1, orientation, False)], metadata=None)
    TIFF.hide(source, tmp_path / "b.tif", training(), KEY)
    image = Image.fromarray(drawn(40, 56))
    image.getexif()[274] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    wanted = to_square(upright, size=32, channels=1)
    hidden = tifffile.imread(tmp_path / "b.tif")[None]
    assert np.array_equal(TIFF.header(tmp_path / "b.tif").cipher(KEY).decrypt(hidden), wanted)
    assert tags_of(there_and_back(source))[0][274] == orientation


# --- refusals


def refused(path: Path, says: str, recipe: Recipe | None = None) -> None:
    for asked in (
        lambda: TIFF.hide(path, path.with_name("b.tif"), recipe or archive(), KEY),
        lambda: TIFF.examine(path, recipe or archive()),
    ):
        with pytest.raises(DataError, match=says) as caught:
            asked()
        assert not path.with_name("b.tif").exists()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("float32", "32-bit|floating-point samples"),
        ("float16", "floating-point samples"),
        ("uint32", "32-bit samples"),
        ("int32", "32-bit samples"),
        ("complex64", "complex samples"),
        ("bool", "1-bit samples"),
    ],
)
def test_samples_of_other_sorts_are_refused_by_name(tmp_path: Path, dtype: str, says: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((40, 50), dtype))
    refused(tmp_path / "a.tif", says)


def test_storage_of_other_sorts_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image = Image.fromarray(drawn(40, 50, 3))
    image.save(path, compression="jpeg")
    refused(path, r"compressed with JPEG|YCbCr")
    image.convert("1").save(path, compression="group4")
    refused(path, "1-bit samples")
    image.convert("CMYK").save(path)
    refused(path, "of CMYK")
    image.convert("LAB").save(path)
    refused(path, "of CIE Lab")
    tifffile.imwrite(path, drawn(40, 50, 7), photometric="minisblack", planarconfig="contig")
    refused(path, "7 samples a pixel")
    with tifffile.TiffWriter(path) as writer:
        writer.write(drawn(40, 50), subifds=1)
        writer.write(drawn(20, 25), subfiletype=1)
    refused(path, "with sub-images")


def test_pages_that_differ_are_refused(tmp_path: Path) -> None:
    for other in (drawn(20, 25), drawn(40, 50, dtype="uint16"), drawn(40, 50, 3)):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(drawn(40, 50))
            writer.write(other)
        refused(tmp_path / "a.tif", "pages differ in shape or sort")


def test_an_imagej_stack_without_directories_is_refused(tmp_path: Path) -> None:
    described = "ImageJ=1.53k\nimages=5\nslices=5\n"
    tifffile.imwrite(tmp_path / "a.tif", drawn(40, 50), description=described, metadata=None)
    refused(tmp_path / "a.tif", "is an ImageJ stack of 5 images in 1 pages")


def test_small_images_are_refused_and_hidden_ones_are_not_hidden_again(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", drawn(40, 7))
    refused(tmp_path / "a.tif", "smaller than a block of 8")
    refused(tmp_path / "a.tif", "smaller than a block of 8", training())
    tifffile.imwrite(tmp_path / "a.tif", drawn(40, 50))
    TIFF.hide(tmp_path / "a.tif", tmp_path / "h.tif", archive(), KEY)
    refused(tmp_path / "h.tif", "is hidden already")


def directory(tags: dict[int, tuple[int, int, int]], *, following: int = 0) -> bytes:
    """A little-endian TIFF of one directory and 16 bytes of pixels behind it."""
    entries = b"".join(struct.pack("<HHII", code, *rest) for code, rest in sorted(tags.items()))
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", following)
        + bytes(64)
    )


def grey(**change: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    tags = {
        256: (4, 1, 8),
        257: (4, 1, 8),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 122),
        277: (3, 1, 1),
        278: (4, 1, 8),
        279: (4, 1, 64),
    }
    return tags | {int(code.removeprefix("t")): value for code, value in change.items()}


def test_the_hand_made_file_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(directory(grey()))
    assert np.array_equal(page_of(tmp_path / "a.tif"), np.zeros((1, 8, 8)))
    assert tifffile.imread(tmp_path / "a.tif").shape == (8, 8)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a TIFF file"),
        (b"II*\0", "is cut short"),
        (b"II*\0" + bytes(4), "has no pages"),
        (b"II*\0\xff\xff\xff\xff", "is cut short"),
        (b"II+\0\4\0\0\0" + bytes(8), "offsets of another size"),
        (directory({}), "a page with 0 tags"),
        (directory(grey(), following=8), "its pages have no end"),
        (directory(grey(), following=4000), "is cut short"),
        (directory(grey())[:-1], "pixel data lies outside the file"),
        (directory(grey(t256=(4, 1, 0))), "is an image of 0 x 8"),
        (directory(grey(t257=(4, 1, 2**31), t256=(4, 1, 2**31))), "values are opened"),
        (directory(grey(t273=(4, 1, 2**32 - 1))), "pixel data lies outside the file"),
        (directory(grey(t273=(4, 1, 0))), "pixel data lies outside the file"),
        (directory(grey(t279=(4, 1, 0))), "pixel data lies outside the file"),
        (directory(grey(t279=(4, 1, 63))), "a strip or tile is not whole"),
        (directory(grey(t279=(4, 1, 2**30))), "more pixel data than its size explains"),
        (directory(grey(t278=(4, 1, 4))), "2 strips or tiles, 1 offsets"),
        (directory(grey(t278=(4, 1, 0))), "strips or tiles of 8 x 0"),
        (directory(grey(t258=(3, 2, 8 | 16 << 16))), "samples differ"),
        (directory(grey(t273=(4, 2**31, 0))), "more metadata than is read"),
        (directory(grey(t273=(11, 1, 0))), "is no whole number"),
        (directory(grey(t273=(99, 1, 0))), "0 offsets"),
        (directory(grey(t262=(3, 1, 4))), "of a mask"),
        (directory(grey(t262=(3, 1, 77))), "photometric interpretation 77"),
        (directory(grey(t266=(3, 1, 2))), "reversed bits"),
        (directory(grey(t32997=(3, 1, 2))), "with volumes"),
        (directory(grey(t317=(3, 1, 2))), "with predictor 2"),
        (directory(grey(t259=(3, 1, 5), t317=(3, 1, 3))), "with predictor 3"),
        (directory(grey(t259=(3, 1, 99))), "compressed with scheme 99"),
        (directory(grey(t259=(3, 1, 8))), "cannot be decoded"),
        (directory(grey(t259=(3, 1, 5))), "cannot be decoded"),
        (directory(grey(t324=(4, 1, 122), t322=(4, 1, 2**31), t323=(4, 1, 2**31))), "values are opened"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match=says):
        TIFF.hide(tmp_path / "a.tif", tmp_path / "b.tif", archive(), KEY)
    assert not (tmp_path / "b.tif").exists()


def test_a_strip_that_inflates_without_end_is_not_inflated(tmp_path: Path) -> None:
    import zlib  # noqa: PLC0415

    bomb = zlib.compress(bytes(2**28), 9)
    data = directory(grey(t259=(3, 1, 8), t279=(4, 1, len(bomb))))[:122] + bomb
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match="more pixel data than its size explains"):
        page_of(tmp_path / "a.tif")
    small = zlib.compress(bytes(2**20), 9)
    (tmp_path / "a.tif").write_bytes(directory(grey(t259=(3, 1, 8), t279=(4, 1, len(small))))[:122] + small)
    assert page_of(tmp_path / "a.tif").shape == (1, 8, 8)


# --- hidden files that were changed


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", drawn(3, 21, 26, dtype="uint16"), photometric="minisblack")
    TIFF.hide(tmp_path / "a.tif", tmp_path / "hidden.tif", archive(), KEY)
    return tmp_path / "hidden.tif"


def changed(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_changed_sample_of_any_page_is_found(hidden: Path, tmp_path: Path) -> None:
    with tifffile.TiffFile(hidden) as opened:
        places = [page.dataoffsets[0] + 5 for page in opened.pages]
    for place in places:
        changed(hidden, place)
        with pytest.raises(IntegrityError, match="was changed after it was hidden"):
            TIFF.verify(hidden, RING)
        with pytest.raises(IntegrityError, match="was changed after it was hidden"):
            TIFF.show(hidden, tmp_path / "c.tif", RING)
        assert not (tmp_path / "c.tif").exists()
        changed(hidden, place)
    TIFF.verify(hidden, RING)


def test_pages_that_were_swapped_or_taken_away_are_found(hidden: Path) -> None:
    with tifffile.TiffFile(hidden) as opened:
        header = opened.pages[0].tags[65333].value
        pages = [page.asarray() for page in opened.pages]
    for order, says in (((0, 2, 1), "was changed"), ((0, 1), "holds 2 of 3 images"), ((0, 1, 2, 2), "holds 4 of 3")):
        with tifffile.TiffWriter(hidden) as writer:
            for place, index in enumerate(order):
                more = [(65333, "s", 0, header, True)] if place == 0 else []
                writer.write(pages[index], extratags=more, metadata=None, software=False)
        with pytest.raises(IntegrityError, match=says):
            TIFF.verify(hidden, RING)


def test_a_lossless_save_still_verifies(hidden: Path, tmp_path: Path) -> None:
    with (
        tifffile.TiffFile(hidden) as opened,
        tifffile.TiffWriter(tmp_path / "b.tif", bigtiff=True, byteorder=">") as to,
    ):
        for index, page in enumerate(opened.pages):
            more = [(65333, "s", 0, page.tags[65333].value, True)] if index == 0 else []
            to.write(page.asarray(), compression="zlib", rowsperstrip=5, extratags=more, metadata=None, software=False)
    TIFF.verify(tmp_path / "b.tif", RING)


def test_the_wrong_key_and_no_header_are_named(hidden: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError, match=f"was hidden under the key {KEY.fingerprint}"):
        TIFF.show(hidden, tmp_path / "c.tif", Keyring(SiteKey.generate("other")))
    with pytest.raises(FormatError, match="has no MedVeil header"):
        TIFF.verify(tmp_path / "a.tif", RING)


def test_a_header_of_another_file_does_not_fit(hidden: Path, tmp_path: Path) -> None:
    header = TIFF.header(hidden)
    data = hidden.read_bytes()
    other = dataclasses.replace(header, height=header.height + 1)
    assert len(other.to_json()) == len(header.to_json())
    hidden.write_bytes(data.replace(header.to_json().encode(), other.to_json().encode()))
    with pytest.raises(IntegrityError, match="was changed"):
        TIFF.verify(hidden, RING)


@pytest.mark.parametrize("part", range(40))
def test_a_damaged_byte_is_one_of_our_errors_or_changes_nothing(hidden: Path, tmp_path: Path, part: int) -> None:
    before = tifffile.imread(tmp_path / "a.tif")
    changed(hidden, (part * 1009) % hidden.stat().st_size)
    try:
        TIFF.show(hidden, tmp_path / "c.tif", RING)
    except MedVeilError:
        assert not (tmp_path / "c.tif").exists()
    else:
        assert np.array_equal(tifffile.imread(tmp_path / "c.tif"), before)


# --- size


def test_large_files_become_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", drawn(3, 40, 50), photometric="minisblack")
    monkeypatch.setattr(raster_tiff, "LARGEST_CLASSIC", 10000)
    with (
        tifffile.TiffFile(there_and_back(tmp_path / "a.tif")) as shown,
        tifffile.TiffFile(tmp_path / "hidden.tif") as made,
    ):
        assert shown.is_bigtiff
        assert made.is_bigtiff
        assert np.array_equal(shown.asarray(), tifffile.imread(tmp_path / "a.tif"))


def test_strips_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_write, "_STRIP_BYTES", 200)
    tifffile.imwrite(tmp_path / "a.tif", drawn(40, 50, 3), planarconfig="contig", compression="zlib")
    assert np.array_equal(tifffile.imread(there_and_back(tmp_path / "a.tif")), drawn(40, 50, 3))
    with tifffile.TiffFile(tmp_path / "hidden.tif") as made:
        assert len(made.pages[0].dataoffsets) > 10


PEAK = """
import sys
from pathlib import Path
from crypto.config import CipherConfig
from crypto.files.hiding import LARGEST_EXTRAS
from crypto.files.raster_tiff import TiffFile
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey

def peak():
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

folder, key = Path(sys.argv[1]), SiteKey.generate("a")
recipe = Recipe(purpose="archive", cipher=CipherConfig(block=16))
peaks = []
for name in ("few", "few", "many"):
    TiffFile().hide(folder / name, folder / "hidden", recipe, key)
    TiffFile().verify(folder / "hidden", Keyring(key))
    TiffFile().show(folder / "hidden", folder / "shown", Keyring(key))
    peaks.append(peak())
print(peaks[2] - peaks[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc: ru_maxrss would count what started the process")
def test_memory_is_flat_in_the_number_of_pages(tmp_path: Path) -> None:
    for name, pages in (("few", 4), ("many", 100)):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for _ in range(pages):
                writer.write(drawn(512, 512, dtype="uint16"), photometric="minisblack", contiguous=False)
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 * 1024


@pytest.mark.slow
def test_metadata_as_large_as_is_kept_comes_back_and_more_is_refused(tmp_path: Path) -> None:
    for n, fits in ((LARGEST_EXTRAS * 98 // 100, True), (LARGEST_EXTRAS + 1, False)):
        data = np.random.default_rng(0).bytes(n)
        tifffile.imwrite(tmp_path / "a.tif", drawn(40, 50), extratags=[(65001, "B", n, data, True)], metadata=None)
        if fits:
            shown = there_and_back(tmp_path / "a.tif", archive(identity="sealed"))
            assert tags_of(shown)[0][65001] == data
        else:
            with pytest.raises(DataError, match="bytes of metadata"):
                TIFF.hide(tmp_path / "a.tif", tmp_path / "b.tif", archive(identity="sealed"), KEY)
