"""One picture out of a PNG, JPEG or BMP file: its samples, what shows them right, and what says who was seen."""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crypto.reading import png
from crypto.reading.base import SMALLER, check_size
from crypto.reading.png import Chunk, Png
from crypto.reading.samples import Samples
from crypto.reading.scans import lengthened
from medveil.errors import DataError

TECHNICAL = frozenset(
    {"PLTE", "tRNS", "gAMA", "cHRM", "sRGB", "cICP", "mDCV", "cLLI", "sBIT", "bKGD", "hIST", "pHYs"},
)
"""Chunks that only say how samples are to be seen."""

_ORIENTATION = 0x0112
_EXIF_START = b"Exif\0\0"
_INCHES_IN_METRE = 39.3701
_READABLE = {"L": png.GREY, "RGB": png.RGB, "RGBA": png.RGB_ALPHA}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a file held.

    Parameters
    ----------
    samples
        Without pixels (one zero for each sample) where only the header was read.
    width, height
        In pixels, as stored.
    colour
        PNG's colour type.
    chunks
        Everything beside the pixels, as PNG's chunks.
    metadata
        What may say who was seen, in the file's own terms, and what else of the file is left behind.
    """

    samples: Samples
    width: int
    height: int
    colour: int
    chunks: tuple[Chunk, ...] = ()
    metadata: tuple[str, ...] = ()

    @property
    def technical(self) -> tuple[Chunk, ...]:
        """Chunks that only show samples right."""
        return tuple(chunk for chunk in self.chunks if chunk.name in TECHNICAL)

    @property
    def private(self) -> tuple[Chunk, ...]:
        """Chunks that may say who was seen."""
        return tuple(chunk for chunk in self.chunks if chunk.name not in TECHNICAL)


def read_png_picture(path: Path, *, pixels: bool) -> Picture:
    """Read a PNG file; errors as `crypto.reading.png.read_png`."""
    found = png.read_png(path, pixels=pixels)
    private = {chunk.name for chunk in found.chunks if chunk.name not in TECHNICAL}
    behind = ("data behind the image",) if found.trailing else ()
    exif = found.find("eXIf")
    samples = Samples(
        values=png.samples_of(found) if pixels else _no_pixels(found),
        bits=found.depth,
        palette=found.palette(),
        orientation=orientation_of(exif) if exif else 1,
    )
    return Picture(
        samples=samples,
        width=found.width,
        height=found.height,
        colour=found.colour,
        chunks=found.chunks,
        metadata=(*sorted(private), *behind),
    )


def read_jpeg(path: Path, *, pixels: bool) -> Picture:
    """Read a JPEG file.

    Raises
    ------
    DataError
        It is CMYK or too large. Pillow's own errors pass.
    """
    with _open(path, "JPEG") as image:
        if image.mode not in {"L", "RGB"}:
            raise DataError(f"is a JPEG file of mode {image.mode}", cure="convert it to RGB or grey")
        exif = image.info.get("exif", b"").removeprefix(_EXIF_START)
        segments = [*_jpeg_chunks(image, exif)]
        made = _whole_jpeg(path, image) if pixels else _picture(image, pixels=False)
        names = {_segment_name(name, data) for name, data in getattr(image, "applist", ())}
    return Picture(
        samples=Samples(values=made, bits=8, orientation=orientation_of(exif) if exif else 1),
        width=image.size[0],
        height=image.size[1],
        colour=_READABLE[image.mode],
        chunks=(*_resolution(image), *segments),
        metadata=tuple(sorted(names - {""})),
    )


def read_bmp(path: Path, *, pixels: bool) -> Picture:
    """Read a BMP file: grey stays grey, all else becomes RGB or RGBA. Pillow's own errors pass."""
    with _open(path, "BMP") as image:
        mode = "L" if image.mode == "1" else image.mode if image.mode in _READABLE else "RGB"
        made = _picture(image, pixels=pixels, mode=mode)
        width, height = image.size
    samples = Samples(values=made, bits=8)
    return Picture(samples=samples, width=width, height=height, colour=_READABLE[mode])


def orientation_of(exif: bytes) -> int:
    """The orientation an EXIF block gives, 1 where it gives none that exists."""
    try:
        found = _parsed(exif).get(_ORIENTATION, 1)
    # A damaged block is metadata that nobody can read; the image is whole without it.
    except Exception:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright_exif(exif: bytes) -> bytes:
    """An EXIF block that says the image is upright, for one whose pixels were turned."""
    parsed = _parsed(exif)
    parsed[_ORIENTATION] = 1
    return parsed.tobytes().removeprefix(_EXIF_START)


def orientation_chunk(orientation: int) -> Chunk:
    """An EXIF chunk that says the orientation and nothing else."""
    made = Image.Exif()
    made[_ORIENTATION] = orientation
    return Chunk("eXIf", made.tobytes().removeprefix(_EXIF_START))


def _parsed(exif: bytes) -> Image.Exif:
    made = Image.Exif()
    made.load(exif)
    return made


def _no_pixels(found: Png) -> np.ndarray:
    return np.zeros((found.channels, 1, 1), np.uint16 if found.depth == 16 else np.uint8)


def _open(path: Path, kind: str) -> Image.Image:
    with warnings.catch_warnings():
        # The size is checked by us, before a pixel is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=[kind])
        except Image.DecompressionBombError:
            raise DataError("is an image of more pixels than are opened", cure=SMALLER) from None
    check_size(width=image.size[0], height=image.size[1], channels=len(image.getbands()), where=path)
    return image


def _whole_jpeg(path: Path, image: Image.Image) -> np.ndarray:
    """The pixels of a JPEG file (DataError where its last scan ends before they do)."""
    longer = lengthened(path.read_bytes())
    image.load()
    made = np.asarray(image)
    try:
        with Image.open(io.BytesIO(longer), formats=["JPEG"]) as other:
            other.load()
            whole = np.array_equal(np.asarray(other), made)
    # Its last byte was half of a marker.
    except OSError:
        whole = False
    if not whole:
        raise DataError("is cut short: its pixels end too early", cure="restore it from a copy")
    return _planes(made)


def _picture(image: Image.Image, *, pixels: bool, mode: str | None = None) -> np.ndarray:
    wanted = mode or image.mode
    if not pixels:
        return np.zeros((Image.getmodebands(wanted), 1, 1), np.uint8)
    image.load()
    return _planes(np.asarray(image if image.mode == wanted else image.convert(wanted)))


def _planes(values: np.ndarray) -> np.ndarray:
    """Pixels (H, W) or (H, W, C) as planes (C, H, W)."""
    return np.ascontiguousarray(values.reshape(*values.shape[:2], -1).transpose(2, 0, 1))


def _jpeg_chunks(image: Image.Image, exif: bytes) -> list[Chunk]:
    """A JPEG's metadata as the chunks PNG has for it."""
    chunks = []
    if exif:
        chunks.append(Chunk("eXIf", exif))
    profile = image.info.get("icc_profile")
    if profile:
        chunks.append(Chunk("iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    xmp = image.info.get("xmp")
    if xmp:
        chunks.append(png.text_chunk("XML:com.adobe.xmp", xmp.decode("utf-8", "replace")))
    comment = image.info.get("comment")
    if comment:
        chunks.append(png.text_chunk("Comment", comment.decode("utf-8", "replace")))
    return chunks


def _segment_name(name: str, data: bytes) -> str:
    """What a JPEG segment holds; empty for what only says how to decode."""
    starts = {
        "APP0": ((b"JFIF", ""),),
        "APP1": ((_EXIF_START, "EXIF"), (b"http://ns.adobe.com/", "XMP")),
        "APP2": ((b"ICC_PROFILE", "ICC"), (b"MPF", "further pictures")),
        "APP13": ((b"Photoshop", "Photoshop"),),
        "APP14": ((b"Adobe", ""),),
        "COM": ((b"", "comment"),),
    }
    return next((said for start, said in starts.get(name, ()) if data.startswith(start)), name)


def _resolution(image: Image.Image) -> tuple[Chunk, ...]:
    dpi = image.info.get("dpi")
    if not dpi or not all(0 < each < 2**20 for each in dpi):
        return ()
    metre = b"".join(round(float(each) * _INCHES_IN_METRE).to_bytes(4, "big") for each in dpi)
    return (Chunk("pHYs", metre + b"\1"),)
