"""PNG, JPEG and BMP files (one picture each) and TIFF files (a picture a page) as images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from crypto.files.streams import decoding
from crypto.reading import png
from crypto.reading.base import About, Bytes, Pixels, check_frame, check_shown
from crypto.reading.marks import KEYWORD
from crypto.reading.picture import Picture, read_bmp, read_jpeg, read_png_picture
from crypto.reading.samples import Samples, shown
from crypto.reading.tiff import MAGICS, TiffReader
from crypto.reading.tiff_pixels import PALETTE, RGB, WHITE_IS_ZERO, layout_of, palette_of, pixels_of
from crypto.reading.tiff_survey import Survey, survey

_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})

Read = Callable[..., Picture]


class PictureImages:
    """A kind of file that holds one picture.

    Parameters
    ----------
    name, magic
        Of the kind, and the bytes that its files start with.
    read
        Reads a file, with or without its pixels.
    """

    def __init__(self, name: str, magic: bytes, read: Read) -> None:
        self.name = name
        self._magic, self._read = magic, read

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""
        return head.startswith(self._magic)

    def open(self, path: Path) -> _OpenedPicture:
        """Open a file by its header; see `crypto.reading.base.ImageKind`."""
        with decoding(path):
            return _OpenedPicture(self.name, path, self._read)


class _OpenedPicture:
    """A picture whose header was read."""

    def __init__(self, kind: str, path: Path, read: Read) -> None:
        self._path, self._read = path, read
        found: Picture = read(path, pixels=False)
        self.about = About(
            kind=kind,
            frames=1,
            width=found.width,
            height=found.height,
            channels=found.samples.channels,
            bits=found.samples.bits,
            hidden=is_hidden(found),
        )

    def stored(self, frame: int = 0) -> Pixels:
        """Samples as the file holds them; see `crypto.reading.base.Opened`."""
        return self._samples(frame).as_stored()

    def shown(self, frame: int = 0, *, window: Sequence[float] | None = None) -> Bytes:
        """Pixels as a viewer shows them; see `crypto.reading.base.Opened`."""
        check_shown(self.about, where=self._path)
        with decoding(self._path):
            return shown(self._samples(frame), window)

    def _samples(self, frame: int) -> Samples:
        check_frame(frame, self.about, where=self._path)
        with decoding(self._path):
            picture: Picture = self._read(self._path, pixels=True)
        return picture.samples


class BmpImages(PictureImages):
    """BMP: two letters alone would be many a text."""

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""
        return super().recognises(head) and int.from_bytes(head[14:18], "little") in _BMP_HEADERS


class TiffImages:
    """TIFF and BigTIFF; float, 1-bit, 32-bit, CMYK, YCbCr, JPEG-compressed and pyramidal files are refused by name."""

    name = "tiff"

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""
        return head.startswith(MAGICS)

    def open(self, path: Path) -> _OpenedTiff:
        """Open a file by its directories; see `crypto.reading.base.ImageKind`."""
        with decoding(path), open(path, "rb") as stream:
            return _OpenedTiff(path, survey(TiffReader(stream, path), sealing=False))


class _OpenedTiff:
    """A TIFF file whose directories were read; each page is an image."""

    def __init__(self, path: Path, found: Survey) -> None:
        self._path, self._offsets = path, found.offsets
        layout = found.layout
        self.about = About(
            kind="tiff",
            frames=len(found.offsets),
            width=layout.width,
            height=layout.height,
            channels=3 if layout.photometric in {RGB, PALETTE} else 1,
            bits=layout.bits,
            signed=layout.signed,
            hidden=found.hidden,
        )

    def stored(self, frame: int = 0) -> Pixels:
        """Samples as a page holds them; see `crypto.reading.base.Opened`."""
        return self._samples(frame).as_stored()

    def shown(self, frame: int = 0, *, window: Sequence[float] | None = None) -> Bytes:
        """Pixels of a page as a viewer shows them; see `crypto.reading.base.Opened`."""
        check_shown(self.about, where=self._path)
        with decoding(self._path):
            return shown(self._samples(frame), window)

    def _samples(self, frame: int) -> Samples:
        check_frame(frame, self.about, where=self._path)
        with decoding(self._path), open(self._path, "rb") as stream:
            return page_samples(TiffReader(stream, self._path), self._offsets[frame])


def page_samples(reader: TiffReader, offset: int) -> Samples:
    """The samples of the page at an offset, and what turns them into a picture; errors as `pixels_of`."""
    page = reader.directory(offset)
    layout = layout_of(reader, page)
    return Samples(
        values=pixels_of(reader, page, layout),
        bits=layout.bits,
        signed=layout.signed,
        palette=palette_of(reader, page, layout),
        white_is_zero=layout.photometric == WHITE_IS_ZERO,
        orientation=layout.orientation,
    )


def is_hidden(picture: Picture) -> bool:
    """Whether MedVeil hid a picture: it has a text of ours (errors as `crypto.reading.png.text_of`)."""
    return any(png.text_of(chunk, KEYWORD) is not None for chunk in picture.private)


PNG = PictureImages("png", png.SIGNATURE, read_png_picture)
JPEG = PictureImages("jpeg", b"\xff\xd8\xff", read_jpeg)
BMP = BmpImages("bmp", b"BM", read_bmp)
TIFF = TiffImages()
