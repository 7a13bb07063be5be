from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from crypto.base import ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.files import ciphers
from crypto.files.ciphers import MOST_CIPHERS, CipherShelf
from crypto.files.png_write import write_png
from crypto.files.raster import BmpFile, JpegFile, PictureFile, PngFile
from crypto.files.recipe import Recipe
from crypto.imaging.preprocess import percentiles_to_bytes, to_square, window_to_bytes
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading import png
from crypto.reading.png import Chunk, read_png, samples_of
from medveil.errors import DataError, FormatError, IntegrityError, KeyMaterialError, MedVeilError

Pixels = NDArray[Any]

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
CANARY = b"Jane Q. Canary 1970-01-31"
SORTS = [(png.GREY, depth) for depth in (1, 2, 4, 8, 16)] + [
    (png.PALETTE, 2),
    (png.PALETTE, 8),
    (png.RGB, 8),
    (png.RGB, 16),
    (png.GREY_ALPHA, 8),
    (png.GREY_ALPHA, 16),
    (png.RGB_ALPHA, 8),
    (png.RGB_ALPHA, 16),
]


def archive(scheme: str = "block-pixel", **more: Any) -> Recipe:
    cipher = CipherConfig(scheme=scheme, block=8, negate=scheme == "block-pixel")
    return Recipe(purpose="archive", cipher=cipher, **more)


def training(size: int = 32, **more: Any) -> Recipe:
    return Recipe(purpose="training", cipher=CipherConfig(block=8, negate=True), size=size, **more)


def drawn(colour: int, depth: int, height: int = 21, width: int = 26) -> Pixels:
    values = np.random.default_rng(depth).integers(0, 2**depth, (png.CHANNELS[colour], height, width))
    return values.astype(np.uint16 if depth == 16 else np.uint8)


def save_png(path: Path, samples: Pixels, *, colour: int, depth: int, chunks: tuple[Chunk, ...] = ()) -> Path:
    palette = (Chunk("PLTE", bytes(range(256)) * 3),) if colour == png.PALETTE else ()
    palette = tuple(Chunk("PLTE", each.data[: 3 * 2**depth]) for each in palette)
    with path.open("wb") as stream:
        write_png(stream, samples, depth=depth, colour=colour, chunks=(*palette, *chunks))
    return path


def hidden_samples(path: Path) -> Pixels:
    return samples_of(read_png(path))


# --- archives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["block-pixel", "aes-ctr"])
@pytest.mark.parametrize(("colour", "depth"), SORTS)
def test_an_archive_gives_every_sample_back(tmp_path: Path, colour: int, depth: int, scheme: str) -> None:
    samples = drawn(colour, depth)
    chunks = (Chunk("pHYs", bytes(9)), Chunk("gAMA", b"\0\0\xb1\x8f"))
    source = save_png(tmp_path / "a.png", samples, colour=colour, depth=depth, chunks=chunks)
    PngFile().hide(source, tmp_path / "b.png", archive(scheme), KEY)
    PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
    before, after = read_png(source), read_png(tmp_path / "c.png")
    assert np.array_equal(samples_of(after), samples)
    assert (after.colour, after.depth, after.chunks) == (before.colour, before.depth, before.chunks)
    header = PngFile().header(tmp_path / "b.png")
    assert (header.channels, header.height, header.width, header.bits) == (*samples.shape, depth)
    cipher = make_cipher(
        CipherConfig(scheme, 8, scheme == "block-pixel"),
        KEY,
        channels=len(samples),
        height=21,
        width=26,
        bits=depth,
        use="archive",
    )
    nonces = np.frombuffer(header.nonces, np.uint8).reshape(-1, 16) if header.nonces else None
    assert np.array_equal(hidden_samples(tmp_path / "b.png"), cipher.encrypt(samples, nonces))


@pytest.mark.parametrize(("colour", "depth"), [sort for sort in SORTS if sort != (png.RGB, 16)])
def test_what_pillow_reads_of_a_picture_is_what_it_read_before(tmp_path: Path, colour: int, depth: int) -> None:
    source = save_png(tmp_path / "a.png", drawn(colour, depth), colour=colour, depth=depth)
    PngFile().hide(source, tmp_path / "b.png", archive(), KEY)
    PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
    with Image.open(source) as before, Image.open(tmp_path / "c.png") as after:
        assert before.mode == after.mode
        assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))


def test_every_file_has_nonces_of_its_own(tmp_path: Path) -> None:
    source = save_png(tmp_path / "a.png", drawn(png.GREY, 8), colour=png.GREY, depth=8)
    nonces = set()
    for name in ("b.png", "c.png"):
        PngFile().hide(source, tmp_path / name, archive("aes-ctr"), KEY)
        nonces.add(PngFile().header(tmp_path / name).nonces)
    assert len(nonces) == 2
    assert not np.array_equal(hidden_samples(tmp_path / "b.png"), hidden_samples(tmp_path / "c.png"))


def test_the_palette_is_not_in_the_hidden_file(tmp_path: Path) -> None:
    source = save_png(tmp_path / "a.png", drawn(png.PALETTE, 8), colour=png.PALETTE, depth=8)
    PngFile().hide(source, tmp_path / "b.png", archive(), KEY)
    hidden = read_png(tmp_path / "b.png")
    assert hidden.colour == png.GREY
    assert [chunk.name for chunk in hidden.chunks] == ["iTXt"]


# --- metadata -------------------------------------------------------------------------------------------


def exif(orientation: int = 1) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x010E] = CANARY.decode()
    return made.tobytes().removeprefix(b"Exif\0\0")


PRIVATE = (
    Chunk("tEXt", b"Patient\0" + CANARY),
    Chunk("eXIf", exif()),
    Chunk("prVt", CANARY),
    Chunk("tIME", b"\x07\xb2\x01\x1f\0\0\0", late=True),
)


def everything_of(path: Path) -> bytes:
    """The bytes of a file, and of whatever in it inflates."""
    found = read_png(path)
    return path.read_bytes() + b"".join(chunk.data for chunk in found.chunks) + samples_of(found).tobytes()


@pytest.mark.parametrize("recipe", [archive(), training(), archive(identity="sealed"), training(identity="sealed")])
def test_nothing_that_says_who_was_seen_is_in_the_clear(tmp_path: Path, recipe: Recipe) -> None:
    source = save_png(tmp_path / "a.png", drawn(png.RGB, 8), colour=png.RGB, depth=8, chunks=PRIVATE)
    source.write_bytes(source.read_bytes() + CANARY)
    assert CANARY in everything_of(source)
    report = PngFile().hide(source, tmp_path / "b.png", recipe, KEY)
    assert CANARY not in everything_of(tmp_path / "b.png")
    assert report.removed == ["eXIf", "prVt", "tEXt", "tIME", "data behind the image"]


def test_sealed_metadata_comes_back_where_it_stood(tmp_path: Path) -> None:
    chunks = (PRIVATE[0], Chunk("gAMA", b"\0\0\xb1\x8f"), *PRIVATE[1:])
    source = save_png(tmp_path / "a.png", drawn(png.RGB, 8), colour=png.RGB, depth=8, chunks=chunks)
    PngFile().hide(source, tmp_path / "b.png", archive(identity="sealed"), KEY)
    PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
    assert read_png(tmp_path / "c.png").chunks == read_png(source).chunks


def test_sealed_metadata_of_a_training_image_comes_back_true(tmp_path: Path) -> None:
    chunks = (Chunk("eXIf", exif(6)), Chunk("iCCP", b"x\0\0" + bytes(8)), Chunk("gAMA", b"\0\0\xb1\x8f"))
    source = save_png(tmp_path / "a.png", drawn(png.RGB, 8), colour=png.RGB, depth=8, chunks=chunks)
    for channels, names in ((3, ["eXIf", "iCCP"]), (1, ["eXIf"])):
        PngFile().hide(source, tmp_path / "b.png", training(identity="sealed", channels=channels), KEY)
        PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
        assert [chunk.name for chunk in read_png(tmp_path / "c.png").chunks] == names
        with Image.open(tmp_path / "c.png") as shown:
            assert shown.getexif()[0x0112] == 1
            assert shown.getexif()[0x010E] == CANARY.decode()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_archive_is_not_turned_and_is_seen_as_before(tmp_path: Path, orientation: int) -> None:
    chunks = (Chunk("eXIf", exif(orientation)),)
    source = save_png(tmp_path / "a.png", drawn(png.RGB, 8), colour=png.RGB, depth=8, chunks=chunks)
    PngFile().hide(source, tmp_path / "b.png", archive(), KEY)
    PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
    with Image.open(tmp_path / "c.png") as shown:
        assert dict(shown.getexif()) == {0x0112: orientation}


def test_metadata_is_not_left_in_the_clear(tmp_path: Path) -> None:
    bare = save_png(tmp_path / "a.png", drawn(png.RGB, 8), colour=png.RGB, depth=8, chunks=(Chunk("pHYs", bytes(9)),))
    PngFile().hide(bare, tmp_path / "b.png", archive(identity="kept"), KEY)
    PngFile().verify(tmp_path / "b.png", RING)
    speaking = save_png(tmp_path / "c.png", drawn(png.RGB, 8), colour=png.RGB, depth=8, chunks=PRIVATE)
    with pytest.raises(DataError, match=r"carries metadata \(eXIf, prVt, tEXt, tIME\) that may hold a preview"):
        PngFile().hide(speaking, tmp_path / "d.png", archive(identity="kept"), KEY)
    assert not (tmp_path / "d.png").exists()


# --- training -------------------------------------------------------------------------------------------


def plain_training(path: Path) -> Pixels:
    """What hiding hid, by the cipher alone."""
    header = PngFile().header(path)
    return header.cipher(KEY).decrypt(hidden_samples(path))


def test_a_training_image_is_what_a_reader_of_png_shows_and_trains_on(tmp_path: Path) -> None:
    samples = drawn(png.RGB, 8, 40, 50)
    source = save_png(tmp_path / "a.png", samples, colour=png.RGB, depth=8)
    PngFile().hide(source, tmp_path / "b.png", training(), KEY)
    square = to_square(samples.transpose(1, 2, 0).copy(), size=32, channels=3)
    config = CipherConfig("block-pixel", 8, True)
    cipher = make_cipher(config, KEY, channels=3, height=32, width=32, use="training")
    with Image.open(tmp_path / "b.png") as hidden:
        assert (hidden.mode, hidden.size) == ("RGB", (32, 32))
        assert np.array_equal(np.asarray(hidden).transpose(2, 0, 1), cipher.encrypt(square))
    header = PngFile().header(tmp_path / "b.png")
    assert (header.purpose, header.channels, header.height, header.width, header.bits) == ("training", 3, 32, 32, 8)
    PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
    assert np.array_equal(hidden_samples(tmp_path / "c.png"), square)


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize(("colour", "depth"), SORTS)
def test_every_sort_becomes_8_bit_as_preprocessing_says(
    tmp_path: Path, colour: int, depth: int, channels: int | None
) -> None:
    samples = drawn(colour, depth)
    source = save_png(tmp_path / "a.png", samples, colour=colour, depth=depth)
    report = PngFile().hide(source, tmp_path / "b.png", training(channels=channels), KEY)
    if colour == png.PALETTE:
        shown = np.array(list(bytes(range(256)) * 3)[: 3 * 2**depth], np.uint8).reshape(-1, 3)[samples[0]]
    elif colour in {png.GREY, png.GREY_ALPHA}:
        whole = np.rint(samples[0] * (255 / (2**depth - 1))).astype(np.uint8)
        shown = percentiles_to_bytes(samples[0]) if depth == 16 else whole
    else:
        shown = np.rint(samples[:3].transpose(1, 2, 0) / (257 if depth == 16 else 1)).astype(np.uint8)
    wanted = to_square(np.ascontiguousarray(shown), size=32, channels=channels or (1 if shown.ndim == 2 else 3))
    assert np.array_equal(plain_training(tmp_path / "b.png"), wanted)
    alpha = colour in {png.GREY_ALPHA, png.RGB_ALPHA}
    assert report.warnings == (["its transparency was dropped: what it covered is seen"] if alpha else [])


def test_the_window_is_for_grey(tmp_path: Path) -> None:
    deep, colour = drawn(png.GREY, 16), drawn(png.RGB, 8)
    recipe = training(size=16, window=(30000.0, 20000.0))
    PngFile().hide(save_png(tmp_path / "a.png", deep, colour=png.GREY, depth=16), tmp_path / "b.png", recipe, KEY)
    wanted = to_square(window_to_bytes(deep[0], (30000, 20000)), size=16, channels=1)
    assert np.array_equal(plain_training(tmp_path / "b.png"), wanted)
    PngFile().hide(save_png(tmp_path / "a.png", colour, colour=png.RGB, depth=8), tmp_path / "b.png", recipe, KEY)
    wanted = to_square(colour.transpose(1, 2, 0).copy(), size=16, channels=3)
    assert np.array_equal(plain_training(tmp_path / "b.png"), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_training_image_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int, kind: str) -> None:
    from fl_client.data.config import DataConfig  # noqa: PLC0415 - what a client of MedVeil would train on
    from fl_client.data.images import ImageSource  # noqa: PLC0415

    pixels = np.sort(drawn(png.RGB, 8, 40, 56), axis=1).transpose(1, 2, 0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.fromarray(pixels).save(tmp_path / label / "z.png")
    source = tmp_path / "a" / ("a.png" if kind == "PNG" else "a.jpg")
    marked = Image.Exif()
    marked[0x0112] = orientation
    Image.fromarray(pixels).save(source, kind, exif=marked)
    made: PictureFile = PngFile() if kind == "PNG" else JpegFile()
    made.hide(source, tmp_path / "b.png", training(), KEY)
    trained = ImageSource(DataConfig(source="images", path=str(tmp_path), image_size=32, channels=3))
    assert trained.items[0].id == f"a/{source.name}"
    assert np.array_equal(plain_training(tmp_path / "b.png"), trained.read(0))


# --- JPEG and BMP ---------------------------------------------------------------------------------------


def jpeg(path: Path, mode: str = "RGB", **how: Any) -> Path:
    pixels = np.sort(drawn(png.RGB, 8, 40, 56), axis=1).transpose(1, 2, 0)
    Image.fromarray(pixels).convert(mode).save(path, "JPEG", **how)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_goes_on_as_png(tmp_path: Path, mode: str) -> None:
    source = jpeg(tmp_path / "a.jpg", mode, dpi=(300, 300))
    assert JpegFile().hidden_name("a.jpg", archive()) == "a.jpg.png"
    report = JpegFile().hide(source, tmp_path / "a.jpg.png", archive(), KEY)
    assert report.removed == []
    PngFile().show(tmp_path / "a.jpg.png", tmp_path / "c.png", RING)
    with Image.open(source) as before, Image.open(tmp_path / "c.png") as after:
        assert before.mode == after.mode
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert after.info["dpi"] == pytest.approx((300, 300), abs=0.02)


def test_what_a_jpeg_says_is_dropped_or_sealed(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more = {"exif": b"Exif\0\0" + exif(3), "icc_profile": profile, "comment": CANARY, "xmp": b"<x>" + CANARY + b"</x>"}
    source = jpeg(tmp_path / "a.jpg", **more)
    for identity in ("removed", "sealed"):
        report = JpegFile().hide(source, tmp_path / "b.png", archive(identity=identity), KEY)
        assert report.removed == ["EXIF", "ICC", "XMP", "comment"]
        assert CANARY not in everything_of(tmp_path / "b.png")
        PngFile().show(tmp_path / "b.png", tmp_path / "c.png", RING)
        with Image.open(tmp_path / "c.png") as shown:
            assert shown.getexif()[0x0112] == 3
            if identity == "removed":
                assert set(shown.info) == {"exif", "dpi"}
            else:
                assert shown.info["icc_profile"] == profile
                assert shown.info["Comment"] == CANARY.decode()
                assert CANARY.decode() in shown.info["XML:com.adobe.xmp"]
                assert shown.getexif()[0x010E] == CANARY.decode()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_a_bmp_goes_on_as_png(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(drawn(png.RGB_ALPHA, 8).transpose(1, 2, 0)).convert(mode)
    image.save(tmp_path / "a.bmp")
    BmpFile().hide(tmp_path / "a.bmp", tmp_path / "a.bmp.png", archive(), KEY)
    PngFile().show(tmp_path / "a.bmp.png", tmp_path / "c.png", RING)
    with Image.open(tmp_path / "a.bmp") as before, Image.open(tmp_path / "c.png") as after:
        assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))


def test_cmyk_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a JPEG file of mode CMYK"):
        JpegFile().hide(jpeg(tmp_path / "a.jpg", "CMYK"), tmp_path / "b.png", archive(), KEY)


def test_no_hidden_file_is_a_jpeg(tmp_path: Path) -> None:
    source = jpeg(tmp_path / "a.jpg")
    for asked in (
        lambda: JpegFile().header(source),
        lambda: JpegFile().verify(source, RING),
        lambda: JpegFile().show(source, tmp_path / "b.png", RING),
    ):
        with pytest.raises(FormatError, match="is not a hidden file: it is JPEG"):
            asked()


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 26), (26, 7)])
def test_an_image_smaller_than_a_block_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    source = save_png(tmp_path / "a.png", drawn(png.GREY, 8, *shape), colour=png.GREY, depth=8)
    for recipe in (archive(), training()):
        for asked in (
            lambda recipe=recipe: PngFile().hide(source, tmp_path / "b.png", recipe, KEY),
            lambda recipe=recipe: PngFile().examine(source, recipe),
        ):
            with pytest.raises(DataError, match="smaller than a block of 8"):
                asked()
    assert not (tmp_path / "b.png").exists()


def test_an_image_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    sides = (12000).to_bytes(2, "big") * 2
    small = jpeg(tmp_path / "a.jpg", "L").read_bytes()
    assert small.count(b"\xff\xc0\0\x0b\x08\0\x28\0\x38") == 1
    (tmp_path / "a.jpg").write_bytes(small.replace(b"\x08\0\x28\0\x38", b"\x08" + sides))
    Image.new("L", (40, 56)).save(tmp_path / "a.bmp")
    header = bytearray((tmp_path / "a.bmp").read_bytes())
    header[18:26] = (12000).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(header)
    for kind, name in ((JpegFile(), "a.jpg"), (BmpFile(), "a.bmp")):
        for asked in (
            lambda kind=kind, name=name: kind.hide(tmp_path / name, tmp_path / "b.png", archive(), KEY),
            lambda kind=kind, name=name: kind.examine(tmp_path / name, archive()),
        ):
            with pytest.raises(DataError, match="is an image of 12000 x 12000 pixels and 1 channels; up to"):
                asked()


def test_what_is_hidden_is_not_hidden_again(tmp_path: Path) -> None:
    source = save_png(tmp_path / "a.png", drawn(png.GREY, 8), colour=png.GREY, depth=8)
    PngFile().hide(source, tmp_path / "b.png", archive(), KEY)
    with pytest.raises(DataError, match="is hidden already"):
        PngFile().hide(tmp_path / "b.png", tmp_path / "c.png", archive(), KEY)


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.9, -9])
@pytest.mark.parametrize(("kind", "suffix"), [(PngFile(), "png"), (JpegFile(), "jpg"), (BmpFile(), "bmp")])
def test_a_file_cut_short_is_one_of_our_errors(tmp_path: Path, kind: PictureFile, suffix: str, keep: float) -> None:
    source = tmp_path / f"a.{suffix}"
    Image.fromarray(drawn(png.RGB, 8).transpose(1, 2, 0)).save(source)
    whole = source.read_bytes()
    source.write_bytes(whole[: int(keep if abs(keep) >= 1 else keep * len(whole))])
    with pytest.raises(DataError) as caught:
        kind.hide(source, tmp_path / "b.png", archive(), KEY)
    assert caught.value.where == str(source)
    assert not (tmp_path / "b.png").exists()


# --- hidden files that were changed ---------------------------------------------------------------------


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    source = save_png(tmp_path / "a.png", drawn(png.RGB, 8), colour=png.RGB, depth=8)
    PngFile().hide(source, tmp_path / "hidden.png", archive(), KEY)
    return tmp_path / "hidden.png"


def rewritten(path: Path, samples: Pixels, text: str) -> None:
    with path.open("wb") as stream:
        write_png(
            stream,
            samples,
            depth=8 * samples.dtype.itemsize,
            colour=png.COLOURS[len(samples)],
            chunks=[png.text_chunk("medveil", text)],
        )


def text_of(path: Path) -> str:
    return PngFile().header(path).to_json()


def test_the_wrong_key_is_named(hidden: Path, tmp_path: Path) -> None:
    other = Keyring(SiteKey.generate("other"))
    for asked in (
        lambda: PngFile().verify(hidden, other),
        lambda: PngFile().show(hidden, tmp_path / "c.png", other),
    ):
        with pytest.raises(KeyMaterialError, match=f"was hidden under the key {KEY.fingerprint}") as caught:
            asked()
        assert caught.value.where == str(hidden)
    assert not (tmp_path / "c.png").exists()


def test_a_retired_key_still_opens(hidden: Path) -> None:
    PngFile().verify(hidden, Keyring(SiteKey.generate("mercy"), (KEY,)))


@pytest.mark.parametrize("place", [(0, 0, 0), (2, 23, 31), (1, 10, 10)])
def test_a_changed_sample_is_found(hidden: Path, place: tuple[int, int, int]) -> None:
    samples = hidden_samples(hidden)
    text = text_of(hidden)
    PngFile().verify(hidden, RING)
    samples[place] ^= 1
    rewritten(hidden, samples, text)
    with pytest.raises(IntegrityError, match="was changed after it was hidden"):
        PngFile().verify(hidden, RING)


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "training"},
        {"block": 4},
        {"negate": False},
        {"height": 22},
        {"bits": 7},
        {"signed": True},
        {"sealed": b""},
        {"mac": bytes(32)},
        {"scheme": "none"},
    ],
)
def test_a_changed_header_is_found(hidden: Path, change: dict[str, Any]) -> None:
    samples, header = hidden_samples(hidden), PngFile().header(hidden)
    rewritten(hidden, samples, dataclasses.replace(header, **change).to_json())
    with pytest.raises(IntegrityError, match="was changed after it was hidden"):
        PngFile().verify(hidden, RING)


def test_a_changed_shape_is_found(hidden: Path) -> None:
    samples, text = hidden_samples(hidden), text_of(hidden)
    rewritten(hidden, samples.reshape(3, 12, -1), text)
    with pytest.raises(IntegrityError, match="was changed after it was hidden"):
        PngFile().verify(hidden, RING)


def test_a_lossless_save_that_keeps_the_text_still_verifies(hidden: Path, tmp_path: Path) -> None:
    text = text_of(hidden)
    kept = PngImagePlugin.PngInfo()
    kept.add_itxt("medveil", text, zip=True)
    with Image.open(hidden) as image:
        image.save(tmp_path / "saved.png", pnginfo=kept, optimize=True)
    PngFile().verify(tmp_path / "saved.png", RING)
    assert (tmp_path / "saved.png").read_bytes() != hidden.read_bytes()


@pytest.mark.parametrize("colours", [1, 200])
def test_an_optimiser_may_use_a_palette_or_grey(tmp_path: Path, colours: int) -> None:
    few = np.zeros((3, 16, 16), np.uint8)
    few[:, 8:] = 9
    source = save_png(tmp_path / "a.png", few, colour=png.RGB, depth=8)
    PngFile().hide(source, tmp_path / "b.png", archive(), KEY)
    kept = PngImagePlugin.PngInfo()
    kept.add_itxt("medveil", text_of(tmp_path / "b.png"))
    with Image.open(tmp_path / "b.png") as image:
        exact = image.convert("L") if colours == 1 else image.quantize(colours)
        assert np.array_equal(np.asarray(exact.convert("RGB")), np.asarray(image)) == (colours > 1)
        exact.save(tmp_path / "c.png", pnginfo=kept)
    if colours > 1:
        PngFile().show(tmp_path / "c.png", tmp_path / "d.png", RING)
        assert np.array_equal(hidden_samples(tmp_path / "d.png"), few)
    else:
        with pytest.raises(IntegrityError, match="was changed"):
            PngFile().verify(tmp_path / "c.png", RING)


def test_a_jpeg_save_is_no_hidden_file_any_more(hidden: Path, tmp_path: Path) -> None:
    with Image.open(hidden) as image:
        image.save(tmp_path / "a.jpg")
        image.save(tmp_path / "a.png")
    with pytest.raises(FormatError, match="has no MedVeil header"):
        PngFile().verify(tmp_path / "a.png", RING)


@pytest.mark.parametrize("at", range(0, 4000, 97))
def test_a_damaged_byte_is_one_of_our_errors_or_harmless(hidden: Path, tmp_path: Path, at: int) -> None:
    before = io.BytesIO(hidden.read_bytes()).getvalue()
    at %= len(before)
    hidden.write_bytes(before[:at] + bytes([before[at] ^ 0x40]) + before[at + 1 :])
    with pytest.raises(MedVeilError):
        PngFile().verify(hidden, RING)
    with pytest.raises(MedVeilError):
        PngFile().show(hidden, tmp_path / "c.png", RING)
    assert not (tmp_path / "c.png").exists()


# --- ciphers that are kept


def test_ciphers_are_kept_by_use_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, config = CipherShelf(), CipherConfig(block=4)
    shape = {"channels": 1, "height": 8, "bits": 8, "use": "archive"}

    def kept(width: int, key: SiteKey = KEY) -> ImageCipher:
        return shelf.cipher(config, key, width=width, **shape)

    first = kept(8)
    assert kept(8) is first
    assert kept(8, SiteKey(bytes(range(32)), "mercy")) is not first
    assert kept(8) is first
    for width in range(9, 9 + MOST_CIPHERS - 2):
        kept(width)
    assert kept(8) is first
    for width in range(100, 100 + MOST_CIPHERS):
        kept(width)
    assert kept(8) is not first
    monkeypatch.setattr(ciphers, "MOST_VALUES", 63)
    assert kept(8) is not kept(8)
