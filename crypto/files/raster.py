"""PNG, JPEG and BMP files, hidden as PNG.

What is kept of a file, and how:

- the samples: bit for bit in an archive, at the depth stored (1 to 16 bits), alpha included; indices of a palette
  stay indices. JPEG and BMP are decoded once and go on as PNG, because a cipher does not survive JPEG: the hidden
  file of ``x.jpg`` is ``x.jpg.png``, and that is also what showing it gives;
- what only says how samples are to be seen (palette, transparency, gamma, resolution, orientation): sealed in the
  header of an archive, back when shown. An archive stores samples unturned; training images are turned upright;
- what may say who was seen (EXIF, XMP, ICC, text, times, chunks nobody knows): dropped, or sealed with
  ``identity="sealed"``. ``identity="kept"`` takes files without any of it and refuses others.

A hidden PNG says what it is in a text chunk, and its MAC covers decoded samples, so a lossless re-save that keeps the
chunk still verifies. Any PNG reader shows the hidden image of a training file.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crypto.files.bare import check_bare_png
from crypto.files.ciphers import SHELF
from crypto.files.header import HiddenHeader, check_ciphertext, check_mac, make_mac, parse_header, place_of
from crypto.files.hiding import (
    check_kept,
    extras_of,
    find_key,
    make_header,
    nonces_of,
    shaped,
    timed,
    with_extras,
)
from crypto.files.kinds import FileReport
from crypto.files.pixels import check_block, mac_parts, to_training
from crypto.files.png_write import write_png
from crypto.files.recipe import SEALED, TRAINING, Recipe
from crypto.files.streams import Opener, Output, decoding, open_file, reading_hidden
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading import png
from crypto.reading.base import ImageKind, Pixels
from crypto.reading.marks import KEYWORD
from crypto.reading.picture import (
    Picture,
    orientation_chunk,
    read_bmp,
    read_jpeg,
    read_png_picture,
    upright_exif,
)
from crypto.reading.png import Chunk, Png
from crypto.reading.raster import BMP, JPEG, PNG, is_hidden
from crypto.reading.samples import look_up
from medveil.errors import DataError, FormatError
from medveil.files import new_file


class PictureFile:
    """A file of one picture, hidden as PNG. A kind says which one it is, and how to read it with what else it holds."""

    name: str
    image: ImageKind

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""
        return self.image.recognises(head)

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """What the hidden form of a file of this name is called: the name, and ``.png`` behind it."""
        return f"{name}.png"

    def hide(
        self,
        source: Path,
        target: Path,
        recipe: Recipe,
        key: SiteKey,
        *,
        name: str = "",
        output: Output = new_file,
    ) -> FileReport:
        """Hide a file; see `crypto.files.kinds.FileKind`."""
        report = FileReport()
        training = recipe.purpose == TRAINING
        with timed(report, "decode"), decoding(source):
            picture = self._read(source)
            _check(picture, recipe, source)
            pixels = to_training(picture.samples, recipe) if training else picture.samples.values
        report.removed = list(picture.metadata)
        if training and len(picture.samples.values) in {2, 4}:
            report.warnings.append("its transparency was dropped: what it covered is seen")
        with timed(report, "encrypt"), decoding(source):
            bits = 8 if training else picture.samples.bits
            header, cipher = make_header(recipe, key, kind="png", shape=pixels.shape, bits=bits, name=name)
            report.channels = header.channels if training else 0
            extras = _training_extras(picture, recipe, len(pixels)) if training else _archive_extras(picture, recipe)
            header = with_extras(header, key, extras)
            hidden = cipher.encrypt(pixels, nonces_of(header))
            header = dataclasses.replace(header, mac=make_mac(key, header, mac_parts(hidden)))
        with timed(report, "write"), output(target) as stream:
            said = png.text_chunk(KEYWORD, header.to_json())
            depth, colour = 8 * hidden.dtype.itemsize, png.COLOURS[len(hidden)]
            write_png(stream, hidden, depth=depth, colour=colour, chunks=[said], ciphertext=True)
        return report

    def examine(self, source: Path, recipe: Recipe) -> None:
        """Refuse what `hide` would refuse, as far as the headers of a file show it.

        Raises
        ------
        DataError
            `hide` would refuse it.
        """
        with decoding(source):
            _check(self._read(source, pixels=False), recipe, source)

    def show(
        self,
        source: Path,
        target: Path,
        keys: Keyring,
        *,
        names: Sequence[str] = (),
        opened: Opener = open_file,
    ) -> FileReport:
        """Show a hidden file; see `crypto.files.kinds.FileKind`."""
        raise self._never(source)

    def header(self, source: Path) -> HiddenHeader:
        """What a hidden file says of itself; see `crypto.files.kinds.FileKind`."""
        raise self._never(source)

    def verify(self, source: Path, keys: Keyring, *, names: Sequence[str] = ()) -> str:
        """Check a hidden file's MAC; see `crypto.files.kinds.FileKind`."""
        raise self._never(source)

    def ciphertext(self, source: Path, frame: int = 0) -> Pixels:
        """A hidden file's samples as they are; see `crypto.files.kinds.FileKind`."""
        raise self._never(source)

    def _never(self, source: Path) -> FormatError:
        return FormatError(f"is not a hidden file: it is {self.name.upper()}, which none of them is", where=source)

    def _read(self, source: Path, *, pixels: bool = True) -> Picture:
        raise NotImplementedError


class JpegFile(PictureFile):
    """JPEG, grey or colour of 8 bit; CMYK is refused."""

    name = "jpeg"
    image = JPEG

    def _read(self, source: Path, *, pixels: bool = True) -> Picture:
        return read_jpeg(source, pixels=pixels)


class BmpFile(PictureFile):
    """BMP of every sort Pillow reads."""

    name = "bmp"
    image = BMP

    def _read(self, source: Path, *, pixels: bool = True) -> Picture:
        return read_bmp(source, pixels=pixels)


class PngFile(PictureFile):
    """PNG of every colour type and depth, and every hidden picture; animated PNG is refused."""

    name = "png"
    image = PNG

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """What the hidden form of a file of this name is called: the same."""
        return name

    def show(
        self,
        source: Path,
        target: Path,
        keys: Keyring,
        *,
        names: Sequence[str] = (),
        opened: Opener = open_file,
    ) -> FileReport:
        """Show a hidden file; see `crypto.files.kinds.FileKind`."""
        report = FileReport()
        with timed(report, "decode"):
            header, hidden = self._checked(source, keys, opened)
        with timed(report, "encrypt"), reading_hidden(source):
            key = keys.find(header.fingerprint)
            report.place = place_of(key, header, names)
            cipher = SHELF.of(header, key)
            samples = cipher.decrypt(shaped(hidden, header, cipher.padded, where=source), nonces_of(header))
            extras = extras_of(header, key, where=source)
            chunks = [Chunk(name, base64.b64decode(data), bool(late)) for name, late, data in extras.get("chunks", ())]
        with timed(report, "write"), new_file(target, mode=0o600) as stream:
            depth, colour = extras.get("depth", header.bits), extras.get("colour", png.COLOURS[len(samples)])
            write_png(stream, samples, depth=depth, colour=colour, chunks=chunks)
        return report

    def header(self, source: Path) -> HiddenHeader:
        """What a hidden file says of itself; see `crypto.files.kinds.FileKind`."""
        with reading_hidden(source):
            return _header(png.read_png(source, pixels=False), source)

    def verify(self, source: Path, keys: Keyring, *, names: Sequence[str] = ()) -> str:
        """Check a hidden file's MAC; see `crypto.files.kinds.FileKind`."""
        header, _ = self._checked(source, keys)
        return place_of(keys.find(header.fingerprint), header, names)

    def ciphertext(self, source: Path, frame: int = 0) -> Pixels:
        """A hidden file's samples as they are; see `crypto.files.kinds.FileKind`."""
        with reading_hidden(source):
            found = png.read_png(source)
            header = _header(found, source)
            hidden = _ciphertext(found, header)
        check_ciphertext(hidden.shape, header, frame, where=source)
        return hidden

    def _checked(self, source: Path, keys: Keyring, opened: Opener = open_file) -> tuple[HiddenHeader, Pixels]:
        with reading_hidden(source):
            found = png.read_png(source, opened=opened)
            header = _header(found, source)
            key = find_key(header, keys, where=source)
            hidden = _ciphertext(found, header)
        check_mac(key, header, mac_parts(hidden), where=source)
        return header, hidden

    def _read(self, source: Path, *, pixels: bool = True) -> Picture:
        return read_png_picture(source, pixels=pixels)


def _check(picture: Picture, recipe: Recipe, source: Path) -> None:
    if is_hidden(picture):
        raise DataError("is hidden already", where=source, cure="decrypt it first")
    check_block(width=picture.width, height=picture.height, block=recipe.cipher.block, where=source)
    check_kept(recipe, picture.metadata, where=source)


def _archive_extras(picture: Picture, recipe: Recipe) -> dict[str, Any]:
    chunks = list(picture.technical)
    if recipe.identity == SEALED:
        # As they stood, so that chunks which must precede others still do.
        chunks = list(picture.chunks)
    elif picture.samples.orientation != 1:
        chunks.append(orientation_chunk(picture.samples.orientation))
    return {"depth": picture.samples.bits, "colour": picture.colour, "chunks": chunks_as_lists(chunks)}


def _training_extras(picture: Picture, recipe: Recipe, channels: int) -> dict[str, Any]:
    """What of the metadata is still true of a training image, whose pixels were turned and perhaps made grey."""
    if recipe.identity != SEALED:
        return {}
    same_colours = (channels == 1) == (picture.colour in {png.GREY, png.GREY_ALPHA})
    chunks = []
    for chunk in picture.private:
        if chunk.name == "eXIf" and picture.samples.orientation != 1:
            chunks.append(Chunk("eXIf", upright_exif(chunk.data), chunk.late))
        elif chunk.name != "iCCP" or same_colours:
            chunks.append(chunk)
    return {"chunks": chunks_as_lists(chunks)} if chunks else {}


def chunks_as_lists(chunks: list[Chunk]) -> list[tuple[str, bool, bytes]]:
    """Chunks as `with_extras` can write them."""
    return [(chunk.name, chunk.late, chunk.data) for chunk in chunks]


def _header(found: Png, source: Path) -> HiddenHeader:
    texts = (png.text_of(chunk, KEYWORD) for chunk in found.chunks)
    text = next((each for each in texts if each is not None), None)
    if text is None:
        raise FormatError("is not a hidden file: it has no MedVeil header", where=source)
    header = parse_header(text, where=source)
    if header.version > 1:
        check_bare_png(found, KEYWORD)
    return header


def _ciphertext(found: Png, header: HiddenHeader) -> Pixels:
    """Samples of a hidden PNG; one that a lossless optimiser wrote with a palette or as grey is brought back."""
    palette = found.palette()
    samples = png.samples_of(found)
    if palette is not None:
        samples = look_up(samples[0], palette).transpose(2, 0, 1)
    if len(samples) == 1 and header.channels == 3:
        samples = np.repeat(samples, 3, axis=0)
    return samples
