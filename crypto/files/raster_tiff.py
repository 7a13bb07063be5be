"""TIFF files, hidden as TIFF: grey, RGB (with alpha) and palettes of 8 or 16 bit, of one page or of many thousands.

All pages of a file have one shape; a file with pages of several (a pyramid, a thumbnail beside its image) is refused.
What is kept of it, and how, is as for PNG (`crypto.files.raster`): samples bit for bit in an archive, and, sealed, what
only says how they are to be seen. A hidden file is uncompressed, its palette is left to what is sealed, and its header
stands in a private tag of the first page. Pages are read, hidden and written one at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from crypto.base import ImageCipher
from crypto.files.bare import check_bare_page, check_covered
from crypto.files.ciphers import SHELF
from crypto.files.header import (
    MAC_BYTES,
    HiddenHeader,
    check_ciphertext,
    check_mac,
    make_mac,
    parse_header,
    place_of,
)
from crypto.files.hiding import check_kept, extras_of, find_key, make_header, nonces_of, shaped, timed, with_extras
from crypto.files.kinds import FileReport
from crypto.files.pixels import check_block, mac_parts, to_training
from crypto.files.recipe import SEALED, TRAINING, Recipe
from crypto.files.streams import Opener, Output, decoding, open_file, reading_hidden
from crypto.files.tiff_extras import archive_extras, tag_of, training_extras
from crypto.files.tiff_write import LARGEST_CLASSIC, TiffWriter
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.base import Pixels
from crypto.reading.marks import HEADER_TAG
from crypto.reading.raster import TIFF, page_samples
from crypto.reading.tiff import Directory, Tag, TiffReader
from crypto.reading.tiff_pixels import (
    BLACK_IS_ZERO,
    EXTRA_SAMPLES,
    RGB,
    WHITE_IS_ZERO,
    layout_of,
    pixels_of,
)
from crypto.reading.tiff_survey import Survey, survey
from medveil.errors import DataError, FormatError, IntegrityError
from medveil.files import new_file


class TiffFile:
    """TIFF and BigTIFF; float, 1-bit, 32-bit, CMYK, YCbCr, JPEG-compressed and pyramidal files are refused by name."""

    name = "tiff"

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""
        return TIFF.recognises(head)

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """What the hidden form of a file of this name is called: the same."""
        return name

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
        sealing = recipe.identity == SEALED
        with decoding(source), open(source, "rb") as stream:
            reader = TiffReader(stream, source, follow=sealing)
            with timed(report, "decode"):
                found = survey(reader, sealing=sealing)
                _check(found, recipe, source)
            header, cipher = _make_header(found, recipe, key, name)
            report.frames = header.frames
            report.channels = header.channels if recipe.purpose == TRAINING else 0
            report.removed = list(found.metadata)
            if recipe.purpose == TRAINING and found.layout.samples in {2, 4}:
                report.warnings.append("its transparency was dropped: what it covered is seen")
            hiding = _Hiding(header=header, key=key, cipher=cipher, report=report)
            with output(target) as hidden:
                hiding.write(hidden, _pages(reader, found, recipe, report))
        return report

    def examine(self, source: Path, recipe: Recipe) -> None:
        """Refuse what `hide` would refuse, as far as the headers of a file show it.

        Raises
        ------
        DataError
            `hide` would refuse it.
        """
        with decoding(source), open(source, "rb") as stream:
            _check(survey(TiffReader(stream, source), sealing=False), recipe, source)

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
        with reading_hidden(source), opened(source) as stream:
            reader = TiffReader(stream, source)
            with timed(report, "decode"):
                header, offsets = _checked(reader, keys)
            key = keys.find(header.fingerprint)
            report.place = place_of(key, header, names)
            cipher = SHELF.of(header, key)
            report.frames = header.frames
            shown = _shown(reader, offsets, header, cipher, report)
            _write_shown(target, header, extras_of(header, key, where=source), shown, report)
        return report

    def header(self, source: Path) -> HiddenHeader:
        """What a hidden file says of itself; see `crypto.files.kinds.FileKind`."""
        with reading_hidden(source), open(source, "rb") as stream:
            reader = TiffReader(stream, source)
            return _header(reader.directory(next(reader.offsets())), source)

    def verify(self, source: Path, keys: Keyring, *, names: Sequence[str] = ()) -> str:
        """Check a hidden file's MAC; see `crypto.files.kinds.FileKind`."""
        with reading_hidden(source), open(source, "rb") as stream:
            header, _ = _checked(TiffReader(stream, source), keys)
        return place_of(keys.find(header.fingerprint), header, names)

    def ciphertext(self, source: Path, frame: int = 0) -> Pixels:
        """One page of a hidden file as it is; see `crypto.files.kinds.FileKind`."""
        with reading_hidden(source), open(source, "rb") as stream:
            reader = TiffReader(stream, source)
            offsets = tuple(reader.offsets())
            header = _header(reader.directory(offsets[0]), source)
            page = min(frame, len(offsets) - 1)
            hidden = _hidden_page(reader, offsets[page], header, first=page == 0)
        check_ciphertext(hidden.shape, header, frame, where=source)
        return hidden


def _check(found: Survey, recipe: Recipe, source: Path) -> None:
    if found.hidden:
        raise DataError("is hidden already", where=source, cure="decrypt it first")
    layout = found.layout
    check_block(width=layout.width, height=layout.height, block=recipe.cipher.block, where=source)
    check_kept(recipe, found.metadata, where=source)


def _make_header(found: Survey, recipe: Recipe, key: SiteKey, name: str) -> tuple[HiddenHeader, ImageCipher]:
    layout, frames = found.layout, len(found.offsets)
    if recipe.purpose == TRAINING:
        assert recipe.size is not None
        grey = layout.photometric in {WHITE_IS_ZERO, BLACK_IS_ZERO}
        shape = (recipe.channels or (1 if grey else 3), recipe.size, recipe.size)
        header, cipher = make_header(recipe, key, kind="tiff", shape=shape, bits=8, frames=frames, name=name)
        extras = training_extras(found) if recipe.identity == SEALED else {}
    else:
        shape = (layout.samples, layout.height, layout.width)
        header, cipher = make_header(
            recipe,
            key,
            kind="tiff",
            shape=shape,
            bits=layout.bits,
            signed=layout.signed,
            frames=frames,
            name=name,
        )
        extras = archive_extras(found)
    return with_extras(header, key, extras), cipher


def _pages(reader: TiffReader, found: Survey, recipe: Recipe, report: FileReport) -> Iterator[Pixels]:
    """What is to be hidden of each page: uint8 or uint16 (C, H, W)."""
    for offset in found.offsets:
        with timed(report, "decode"), decoding(reader.path):
            samples = page_samples(reader, offset)
            values = to_training(samples, recipe) if recipe.purpose == TRAINING else samples.values
        yield values


@dataclass(frozen=True, kw_only=True)
class _Hiding:
    """Writes pages as they are hidden; the MAC over them goes into the place that the header kept for it."""

    header: HiddenHeader
    key: SiteKey
    cipher: ImageCipher
    report: FileReport

    def write(self, stream: BinaryIO, pages: Iterator[Pixels]) -> None:
        """Write all pages."""
        writer = TiffWriter(stream, big=_needs_big(self.header, self.cipher))
        places: dict[int, int] = {}
        mac = make_mac(self.key, self.header, self._written(writer, pages, places))
        stream.seek(places[HEADER_TAG])
        stream.write(dataclasses.replace(self.header, mac=mac).to_json().encode("ascii"))

    def _written(
        self, writer: TiffWriter, pages: Iterator[Pixels], places: dict[int, int]
    ) -> Iterator[bytes | memoryview]:
        for index, values in enumerate(pages):
            with timed(self.report, "encrypt"):
                hidden = self.cipher.encrypt(values, nonces_of(self.header, index))
            with timed(self.report, "write"):
                found = writer.add(hidden, self._tags(hidden, first=index == 0), photometric=_seen(hidden))
            if index == 0:
                places.update(found)
            yield from mac_parts(hidden)

    def _tags(self, hidden: Pixels, *, first: bool) -> list[Tag]:
        # The extra sample is of no kind, and not alpha: a viewer that multiplies by noise shows nothing.
        tags = [Tag(EXTRA_SAMPLES, 3, 1, bytes(2))] if len(hidden) in {2, 4} else []
        if first:
            text = dataclasses.replace(self.header, mac=bytes(MAC_BYTES)).to_json().encode("ascii") + b"\0"
            tags.append(Tag(HEADER_TAG, 2, len(text), text))
        return tags


def _seen(values: Pixels) -> int:
    return RGB if len(values) >= 3 else BLACK_IS_ZERO


def _needs_big(header: HiddenHeader, cipher: ImageCipher) -> bool:
    # Ciphertext may be twice as wide as plaintext; 4096 bytes are for the directory of a page.
    page = 2 * 2 * header.channels * cipher.padded[0] * cipher.padded[1] + 4096
    return header.frames * page + len(header.to_json()) > LARGEST_CLASSIC


def _header(page: Directory, source: Path) -> HiddenHeader:
    if HEADER_TAG not in page:
        raise FormatError("is not a hidden file: it has no MedVeil header", where=source)
    return parse_header(page[HEADER_TAG].data.rstrip(b"\0"), where=source)


def _checked(reader: TiffReader, keys: Keyring) -> tuple[HiddenHeader, tuple[int, ...]]:
    offsets = tuple(reader.offsets())
    header = _header(reader.directory(offsets[0]), reader.path)
    key = find_key(header, keys, where=reader.path)
    if len(offsets) != header.frames:
        problem = f"holds {len(offsets)} of {header.frames} images"
        raise IntegrityError(problem, where=reader.path, cure="restore it from a copy")
    pages = (_hidden_page(reader, offset, header, first=offset == offsets[0]) for offset in offsets)
    check_mac(key, header, (part for page in pages for part in mac_parts(page)), where=reader.path)
    if header.version > 1:
        check_covered(reader)
    return header, offsets


def _hidden_page(reader: TiffReader, offset: int, header: HiddenHeader, *, first: bool) -> Pixels:
    page = reader.directory(offset)
    layout, bare = layout_of(reader, page), header.version > 1
    if bare:
        seen = RGB if header.channels >= 3 else BLACK_IS_ZERO
        check_bare_page(reader, offset, layout, header_tag=HEADER_TAG, first=first, seen=seen)
    return pixels_of(reader, page, layout, exact=bare)


def _shown(
    reader: TiffReader, offsets: tuple[int, ...], header: HiddenHeader, cipher: ImageCipher, report: FileReport
) -> Iterator[Pixels]:
    for index, offset in enumerate(offsets):
        with timed(report, "decode"), reading_hidden(reader.path):
            page = _hidden_page(reader, offset, header, first=index == 0)
            hidden = shaped(page, header, cipher.padded, where=reader.path)
        with timed(report, "encrypt"), reading_hidden(reader.path):
            yield cipher.decrypt(hidden, nonces_of(header, index))


def _write_shown(
    target: Path, header: HiddenHeader, extras: dict[str, Any], pages: Iterator[Pixels], report: FileReport
) -> None:
    sets = [[tag_of(each) for each in tags] for tags in extras.get("sets", [[]])]
    set_of_page = extras.get("pages", [0] * header.frames)
    order = extras.get("order", "<")
    big = extras.get("big", False) or _shown_size(header, sets, set_of_page) > LARGEST_CLASSIC
    with new_file(target, mode=0o600) as stream:
        writer = TiffWriter(stream, order=order, big=big)
        for values, index in zip(pages, set_of_page, strict=True):
            seen = extras.get("photometric", _seen(values))
            how = {"planar": extras.get("planar", False), "compress": extras.get("compress", False)}
            with timed(report, "write"):
                writer.add(values, sets[index], photometric=seen, **how)


def _shown_size(header: HiddenHeader, sets: list[list[Tag]], set_of_page: list[int]) -> int:
    pixels = header.frames * (2 * header.channels * header.height * header.width + 4096)
    lengths = [sum(_length(tag) for tag in tags) for tags in sets]
    return pixels + sum(lengths[index] for index in set_of_page)


def _length(tag: Tag) -> int:
    return len(tag.data) + 32 + sum(_length(each) for each in tag.inner)
