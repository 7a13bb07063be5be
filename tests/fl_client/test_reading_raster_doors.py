"""One reader of raster files at both doors: the pixels are those of a second reader, or the refusals are one."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from raster_doors import SIDE, both, source_of

from crypto.reading import raster
from crypto.reading.base import LARGEST_VALUES
from crypto.reading.look import open_image
from fl_client.data.source import read_many

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
RAMP = (np.arange(SIDE * SIDE, dtype=np.int64) * 64 % 65521).reshape(SIDE, SIDE)
COLOUR = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def case(name: str) -> Path:
    if not (CASES / name).is_dir():
        pytest.skip(f"{CASES} is not there")
    return CASES / name


def spread(values: np.ndarray) -> np.ndarray:
    """Percentiles 0.5 to 99.5 to 0..255, by another way than the code's."""
    low, high = np.percentile(values.astype(float), (0.5, 99.5))
    return np.floor(np.interp(values.astype(float), (low, high), (0, 255)) + 0.5).astype(np.uint8)


def one_of(seen: Any) -> np.ndarray:
    assert not isinstance(seen, str), seen
    assert len(seen) == 1
    return seen[0].transpose(1, 2, 0) if len(seen[0]) == 3 else seen[0][0]


# -- what is seen ----------------------------------------------------------------------------------------------------

SIGNED = (RAMP - 30000).astype(np.int16)
PALETTE_8 = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
INDICES = (RAMP // 64 % 256).astype(np.uint8)

Made = tuple[np.ndarray, dict[str, Any], np.ndarray]
TIFFS: dict[str, Made] = {
    "grey 8": (INDICES, {}, INDICES),
    "grey 16": (RAMP.astype(np.uint16), {}, spread(RAMP)),
    "white is zero 8": (INDICES, {"photometric": "miniswhite"}, 255 - INDICES),
    "white is zero 16": (RAMP.astype(np.uint16), {"photometric": "miniswhite"}, 255 - spread(RAMP)),
    "white is zero, signed": (SIGNED, {"photometric": "miniswhite"}, 255 - spread(SIGNED)),
    "signed 16": (SIGNED, {}, spread(SIGNED)),
    "signed 8": ((INDICES.astype(int) - 128).astype(np.int8), {}, spread(INDICES.astype(int) - 128)),
    "colour 8": (COLOUR, {"photometric": "rgb"}, COLOUR),
    "colour 16": (COLOUR.astype(np.uint16) * 257, {"photometric": "rgb"}, COLOUR),
    "colour, signed 8": ((COLOUR.astype(int) - 128).astype(np.int8), {"photometric": "rgb"}, COLOUR),
    "colour, planes apart": (
        COLOUR.transpose(2, 0, 1),
        {"photometric": "rgb", "planarconfig": "separate"},
        COLOUR,
    ),
    "palette of bytes in words": (INDICES, {"colormap": PALETTE_8}, PALETTE_8.T[INDICES].astype(np.uint8)),
    "palette of words": (INDICES, {"colormap": PALETTE_8 * 257}, PALETTE_8.T[INDICES].astype(np.uint8)),
    "palette of words, as 256 times": (INDICES, {"colormap": PALETTE_8 * 256}, PALETTE_8.T[INDICES].astype(np.uint8)),
    "tiles": (RAMP.astype(np.uint16), {"tile": (16, 16)}, spread(RAMP)),
}


@pytest.mark.parametrize("name", TIFFS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_is_seen_alike_at_both_doors(tmp_path: Path, name: str, order: str) -> None:
    stored, settings, right = TIFFS[name]
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, stored, byteorder=order, **settings)
    np.testing.assert_array_equal(one_of(both(path, tmp_path)), right)
    # And as it is stored, sign and all.
    kept = open_image(path).stored()
    np.testing.assert_array_equal(
        np.moveaxis(kept, 0, -1).squeeze(), np.moveaxis(stored, 0, -1) if stored.shape[0] == 3 else stored
    )


def test_all_pages_are_images_and_stay_together(tmp_path: Path) -> None:
    pages = [np.roll(INDICES, page, axis=0) for page in range(5)]
    tifffile.imwrite(tmp_path / "x.tif", np.stack(pages), photometric="minisblack")
    seen = both(tmp_path / "x.tif", tmp_path)
    assert [image[0].tolist() for image in seen] == [page.tolist() for page in pages]  # type: ignore[union-attr]
    source = source_of(tmp_path / "x.tif", tmp_path)
    assert [item.id for item in source.items] == [f"a/x.tif#{page}" for page in range(5)]
    assert {item.group for item in source.items} == {"file:a/x.tif"}


def test_pages_in_a_row_are_found_by_one_walk_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((300, 8, 8), np.uint8), photometric="minisblack", metadata=None)
    walks: list[Path] = []
    walk = raster.survey
    monkeypatch.setattr(raster, "survey", lambda reader, **how: walks.append(reader.path) or walk(reader, **how))
    source = source_of(tmp_path / "x.tif", tmp_path, image_size=8)
    assert len(read_many(source, range(300))) == 300
    assert len(walks) == 1


@pytest.mark.parametrize("window", [None, (300.0, 200.0), (100.0, 50.0)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_a_png_is_seen_alike_and_a_window_leaves_colour_alone(
    tmp_path: Path, mode: str, window: tuple[float, float] | None
) -> None:
    deep = RAMP.astype(np.uint16)
    image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(COLOUR).convert(mode)
    image.save(tmp_path / "x.png")
    seen = one_of(both(tmp_path / "x.png", tmp_path, window=window))
    if mode in {"RGB", "RGBA", "P"}:
        # A palette may have been chosen by Pillow: its colours are what is seen.
        right = np.asarray(image.convert("RGB"))
    else:
        values = {"I;16": deep, "1": np.asarray(image).astype(np.uint8)}.get(mode, np.asarray(image.convert("L")))
        right = spread(values) if mode == "I;16" else np.asarray(image.convert("L"))
        if window is not None:
            right = windowed(values, *window)
    assert np.abs(seen.astype(int) - right).max() <= (window is not None)


def windowed(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A window, by another way than the code's; a half may be rounded either way."""
    return np.interp(values, (centre - width / 2, centre + width / 2), (0, 255)).round().astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("turned", [1, 6])
def test_jpeg_and_bmp_are_seen_as_pillow_sees_them(tmp_path: Path, kind: str, mode: str, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / f"x.{kind.lower()}"
    Image.fromarray(COLOUR).convert(mode).save(path, kind, **({"exif": exif} if kind == "JPEG" else {}))
    with Image.open(path) as opened:
        right = np.asarray(opened)
    right = np.rot90(right, 3) if turned == 6 and kind == "JPEG" else right
    np.testing.assert_array_equal(one_of(both(path, tmp_path)), right)


# -- what is refused -------------------------------------------------------------------------------------------------


def cmyk(path: Path) -> None:
    Image.fromarray(np.zeros((SIDE, SIDE, 4), np.uint8), "CMYK").save(path, "JPEG")


def animated(path: Path) -> None:
    frames = [Image.fromarray(np.full((SIDE, SIDE), shade, np.uint8)) for shade in (0, 200)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])


def tiff_of(**settings: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, settings.pop("data", INDICES), **settings)


def two_sizes(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((SIDE, SIDE), np.uint8))
        writer.write(np.zeros((16, 16), np.uint8))


REFUSED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "float": ("x.tif", tiff_of(data=RAMP.astype(np.float32)), "floating-point samples"),
    "uint32": ("x.tif", tiff_of(data=RAMP.astype(np.uint32)), "32-bit samples"),
    "int32": ("x.tif", tiff_of(data=RAMP.astype(np.int32)), "32-bit samples"),
    "1 bit": ("x.tif", lambda path: Image.fromarray(INDICES).convert("1").save(path), "1-bit samples"),
    "cmyk tiff": ("x.tif", tiff_of(data=np.zeros((SIDE, SIDE, 4), np.uint8), photometric="separated"), "of CMYK"),
    "jpeg in tiff": ("x.tif", lambda path: Image.fromarray(INDICES).save(path, compression="jpeg"), "with JPEG"),
    "two sizes": ("x.tif", two_sizes, "pages differ in shape or sort"),
    "cmyk": ("x.jpg", cmyk, "a JPEG file of mode CMYK"),
    "animated": ("x.png", animated, "an animated PNG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_both_doors_refuse_by_the_same_words(tmp_path: Path, name: str) -> None:
    file, make, words = REFUSED[name]
    make(tmp_path / file)
    said = both(tmp_path / file, tmp_path)
    assert isinstance(said, str)
    assert words in said


# -- what claims more than is opened ---------------------------------------------------------------------------------


def png_claim(path: Path, side: int) -> None:
    head = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(2**16))), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def jpeg_claim(path: Path, side: int) -> None:
    Image.fromarray(COLOUR).save(path, "JPEG")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = side.to_bytes(2, "big") * 2
    path.write_bytes(data)


def bmp_claim(path: Path, side: int) -> None:
    Image.fromarray(COLOUR).save(path, "BMP")
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", side, side)
    path.write_bytes(data)


def tiff_claim(path: Path, side: int) -> None:
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8))
    data = bytearray(path.read_bytes())
    for code in (256, 257, 278):
        at = data.index(struct.pack("<H", code), 8)
        kind = struct.unpack_from("<H", data, at + 2)[0]
        struct.pack_into("<H" if kind == 3 else "<I", data, at + 8, side)
    path.write_bytes(data)


@pytest.mark.parametrize("side", [24000, 60000])
@pytest.mark.parametrize("claim", [png_claim, jpeg_claim, bmp_claim, tiff_claim])
def test_a_file_that_claims_a_large_image_is_refused_at_once(
    tmp_path: Path, claim: Callable[[Path, int], None], side: int
) -> None:
    path = tmp_path / f"x.{claim.__name__.split('_')[0]}"
    claim(path, side)
    start = time.process_time()
    said = both(path, tmp_path)
    assert isinstance(said, str)
    assert "more pixels than are opened" in said or f"{side} x {side} pixels" in said
    # Zeros for that many pixels alone would take longer.
    assert time.process_time() - start < 1


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_no_more_is_inflated_than_was_claimed(tmp_path: Path, kind: str) -> None:
    """A bomb: pixels that inflate to a gigabyte, of an image that says it is small."""
    bomb = zlib.compress(bytes(2**26), 9)
    path = tmp_path / f"x.{kind}"
    if kind == "png":
        head = (SIDE).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
        parts = [(b"IHDR", head), (b"IDAT", bomb), (b"IEND", b"")]
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
        )
    else:
        tags = {256: SIDE, 257: SIDE, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: SIDE, 279: len(bomb)}
        body = bomb + bytes(len(bomb) % 2)
        entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
        path.write_bytes(
            b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
        )
    start = time.process_time()
    both(path, tmp_path)
    assert time.process_time() - start < 1


def test_a_jpeg_of_more_scans_than_an_encoder_makes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(COLOUR).save(path, "JPEG", progressive=True, quality=90)
    assert not isinstance(both(path, tmp_path), str)
    data = path.read_bytes()
    # The last scan again and again: each refines what the one before refined.
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    path.write_bytes(data[:end] + data[last:end] * 200 + data[end:])
    said = both(path, tmp_path)
    assert isinstance(said, str)
    assert "more than 100 scans" in said


def test_the_limit_is_in_the_words(tmp_path: Path) -> None:
    png_claim(tmp_path / "x.png", 24000)
    assert str(LARGEST_VALUES) in str(both(tmp_path / "x.png", tmp_path))


# -- the cases of the list -------------------------------------------------------------------------------------------


def test_case_tiff16_white_is_zero(tmp_path: Path) -> None:
    path = case("tiff16_white_is_zero") / "a" / "x.tif"
    copy = tmp_path / "x.tif"
    copy.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(one_of(both(copy, tmp_path)), 255 - spread(tifffile.imread(path)))


def test_case_tiff32u_large(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes((case("tiff32u_large") / "a" / "x.tif").read_bytes())
    said = both(tmp_path / "x.tif", tmp_path)
    assert isinstance(said, str)
    assert "32-bit samples" in said


def test_case_tiff_pages(tmp_path: Path) -> None:
    for path in sorted(case("tiff_pages").rglob("*.tif")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        seen = both(tmp_path / path.name, tmp_path)
        assert np.array_equal(np.concatenate(seen), tifffile.imread(path))  # type: ignore[arg-type]


def test_case_tiff_palette_8bit_values(tmp_path: Path) -> None:
    path = case("tiff_palette_8bit_values") / "a" / "x.tif"
    (tmp_path / "x.tif").write_bytes(path.read_bytes())
    with tifffile.TiffFile(path) as found:
        page = found.pages[0]
        right = page.colormap.T[page.asarray()].astype(np.uint8)  # type: ignore[union-attr]
    assert right.max() > 200
    np.testing.assert_array_equal(one_of(both(tmp_path / "x.tif", tmp_path)), right)


def test_case_rgb_png_window(tmp_path: Path) -> None:
    path = case("rgb_png_window") / "a" / "x.png"
    (tmp_path / "x.png").write_bytes(path.read_bytes())
    seen = one_of(both(tmp_path / "x.png", tmp_path, window=(100.0, 60.0)))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(seen, np.asarray(opened.convert("RGB")))


def test_each_folder_of_rasters_is_seen_alike(tmp_path: Path) -> None:
    for folder in case(".").iterdir():
        # Junk is told by its name, and has a test of its own.
        found = [
            path for path in sorted(folder.rglob("*.*")) if path.suffix in {".png", ".tif"} and path.name[0] != "."
        ]
        for path in (*found[:1], *found[-1:]):
            (tmp_path / path.name).write_bytes(path.read_bytes())
            both(tmp_path / path.name, tmp_path)
