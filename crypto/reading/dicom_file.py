"""Open a DICOM file: its data set in memory, its pixels where they lie on disk."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from crypto.dicom.walk import tags
from crypto.files.streams import Opener, open_file
from crypto.reading.dicom_head import HEAD_BYTES, PREAMBLE, Start, dicom_start
from crypto.reading.dicom_quiet import as_data_error, quiet
from medveil.errors import DataError
from medveil.files import storage_error

LARGEST_INFLATED = 2**30

_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_PADDING = 0xFFFCFFFC
_UNDEFINED = 0xFFFFFFFF
_ALIEN = frozenset({0x0000, 0x0002, 0x0006, 0xFFFE, 0xFFFF})
"""Groups of commands, file meta information and items: written into a data set, they would change their meaning."""
_USUAL_META = frozenset(range(0x00020000, 0x00020004)) | {0x00020010, 0x00020012, 0x00020013, 0x00020016}
"""File meta information that every tool writes anew: what the data set says too, and who wrote it."""
_ITEM = 0xFFFEE000
_END = 0xFFFEE0DD
_CHARSET = 0x00080005
_CHARSETS = re.compile(rb"[A-Za-z0-9 _.:\\-]*")
_LONGEST_CHARSET = 1024


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels of an open file lie.

    Parameters
    ----------
    keyword
        ``"PixelData"``, ``"FloatPixelData"`` or ``"DoubleFloatPixelData"``.
    vr
        Its value representation; empty in implicit encodings.
    offset, length
        Of the value in bytes; of encapsulated pixels, all items together.
    encapsulated
        Whether the value is a sequence of fragments.
    """

    keyword: str
    vr: str
    offset: int
    length: int
    encapsulated: bool


@dataclass
class OpenFile:
    """An open DICOM file.

    Parameters
    ----------
    path
        The file.
    stream
        Its bytes; of a deflated file, those of its inflated data set.
    transfer_syntax
        How pixels and elements are encoded.
    dataset
        Every element but the pixels and the padding at the end, with its `file_meta`.
    pixels
        Where the pixels are; None for a file without.
    """

    path: Path
    stream: BinaryIO
    transfer_syntax: UID
    dataset: Dataset
    pixels: PixelElement | None
    bare: bool = False
    """Whether nothing stands in the file but the data set and usual file meta information."""
    inflated: bool = False
    """Whether the stream is memory, and no file."""


@contextlib.contextmanager
def open_dicom(path: Path, opener: Opener = open_file) -> Iterator[OpenFile]:
    """Open a file and read its data set, but not its pixels.

    Raises
    ------
    DataError
        It is no DICOM file, is cut short, cannot be parsed, or changed while it was open.
    StorageError
        The disk refused.
    """
    with contextlib.ExitStack() as stack:
        try:
            before = os.stat(path)
            stream = stack.enter_context(opener(path))
        except OSError as error:
            raise storage_error(error, path, "read the file") from error
        with quiet(), as_data_error(path, "its header"):
            opened = parse_dicom(path, stream)
        yield opened
        after = os.stat(path)
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
            raise DataError("changed while it was read", where=path, cure="run again when nothing writes to it")


def parse_dicom(path: Path, stream: BinaryIO) -> OpenFile:
    """Read a file from the start of its stream; errors of pydicom pass."""
    head = stream.read(HEAD_BYTES)
    if not head:
        raise DataError("is empty", where=path)
    start = dicom_start(head)
    if start is None:
        raise DataError("is no DICOM file: it lacks the mark DICM at byte 128", where=path)
    stream.seek(start.offset)
    meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=_behind_meta) if start.meta else {})
    syntax = _transfer_syntax(meta, path) if start.meta else _bare_syntax(start)
    if syntax == DeflatedExplicitVRLittleEndian:
        stream = io.BytesIO(_inflate(stream, path))
    _check_charset(stream, syntax, path)
    dataset = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=_at_pixels)
    alien = [tag for tag in tags(dataset) if tag.group in _ALIEN]
    if alien:
        raise DataError(f"holds the element {alien[0]}, which no data set may hold", where=path)
    dataset.file_meta = meta
    implicit, little = dataset.original_encoding
    assert implicit is not None
    assert little is not None
    pixels = _find_pixels(path, stream, implicit=implicit, little=little)
    padding, end = b"", stream.tell()
    if pixels is not None:
        for element in read_dataset(stream, implicit, little).elements():
            end = _end_of(element, stream)
            if element.tag == _PADDING:
                padding = element.value or b""
            elif element.tag > PIXELS_END:
                dataset[element.tag] = element
    bare = (
        start.offset == HEAD_BYTES
        and not any(head[:PREAMBLE])
        and not any(padding)
        and set(meta.keys()) <= _USUAL_META
        and end == _size(stream)
    )
    inflated = syntax == DeflatedExplicitVRLittleEndian
    return OpenFile(path, stream, syntax, dataset, pixels, bare and _has_usual_lengths(dataset), inflated)


PIXELS_END = max(_PIXELS)


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, os.SEEK_END)


def _end_of(element: DataElement | RawDataElement, stream: BinaryIO) -> int:
    """Where an element ends that was just read; pydicom passes over fewer bytes than one has, at the end of a file."""
    if isinstance(element, RawDataElement) and element.length != _UNDEFINED:
        return element.value_tell + element.length
    return _size(stream)


def _has_usual_lengths(dataset: Dataset) -> bool:
    """Whether group lengths are four bytes each; they mean nothing, and pass unproven."""
    lengths = (dataset.get_item(tag).value for tag in tags(dataset) if tag.element == 0)
    return all(isinstance(value, int) or len(value or b"") == 4 for value in lengths)


def _behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXELS


def _transfer_syntax(meta: FileMetaDataset, path: Path) -> UID:
    given = meta.get("TransferSyntaxUID")
    if not given:
        raise DataError("names no transfer syntax, so nobody can say how it is encoded", where=path)
    syntax = UID(str(given))
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise DataError(f"has the unknown transfer syntax {str(syntax)[:64]!a}", where=path)
    return syntax


def _bare_syntax(start: Start) -> UID:
    """What a data set without file meta information is encoded as; compressed pixels it cannot have, by its length."""
    if not start.little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if start.implicit else ExplicitVRLittleEndian


def _check_charset(stream: BinaryIO, syntax: UID, path: Path) -> None:
    """Refuse a SpecificCharacterSet that is no name; pydicom would fail over it with an error of Python's codecs."""
    here = stream.tell()
    order = "<" if syntax.is_little_endian else ">"
    while len(head := stream.read(8)) == 8:
        group, number = struct.unpack(f"{order}HH", head[:4])
        tag = group << 16 | number
        (length,) = struct.unpack(f"{order}L" if syntax.is_implicit_VR else f"{order}2xH", head[4:])
        if tag >= _CHARSET or length > _LONGEST_CHARSET:
            value = stream.read(min(length, _LONGEST_CHARSET)).rstrip(b" \0")
            if tag == _CHARSET and not _CHARSETS.fullmatch(value):
                problem = "its SpecificCharacterSet (0008,0005) is not the name of a character set"
                raise DataError(problem, where=path, cure="correct or remove that element")
            break
        stream.seek(length, os.SEEK_CUR)
    stream.seek(here)


def _inflate(stream: BinaryIO, path: Path) -> bytes:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    data = engine.decompress(stream.read(), LARGEST_INFLATED)
    if engine.unconsumed_tail:
        cure = "inflate it with another tool first"
        raise DataError(f"is deflated and larger than {LARGEST_INFLATED} bytes", where=path, cure=cure)
    return data


def _find_pixels(path: Path, stream: BinaryIO, *, implicit: bool, little: bool) -> PixelElement | None:
    """Read the header of the pixel element the stream stands at, and go behind its value."""
    order = "<" if little else ">"
    start = stream.read(8)
    if not start:
        return None
    group, number = struct.unpack(f"{order}HH", start[:4])
    tag = group << 16 | number
    vr = "" if implicit else start[4:6].decode("latin-1")
    if tag not in _PIXELS or (vr and vr not in EXPLICIT_VR_LENGTH_32):
        raise DataError("its pixel data is not where the header ends", where=path)
    (length,) = struct.unpack(f"{order}L", start[4:] if implicit else stream.read(4))
    offset = stream.tell()
    if length == _UNDEFINED:
        length = _skip_items(path, stream, order)
        return PixelElement(_PIXELS[tag], vr, offset, length, encapsulated=True)
    size = stream.seek(0, os.SEEK_END)
    if offset + length > size:
        problem = f"its pixel data is cut short: {size - offset} of {length} bytes are there"
        raise DataError(problem, where=path, cure="restore it from a copy")
    stream.seek(offset + length)
    return PixelElement(_PIXELS[tag], vr, offset, length, encapsulated=False)


def _skip_items(path: Path, stream: BinaryIO, order: str) -> int:
    """Go behind the fragments of encapsulated pixels; returns their length with their headers."""
    first = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    here = first
    while True:
        stream.seek(here)
        head = stream.read(8)
        if len(head) < 8:
            raise DataError("its compressed pixel data is cut short", where=path, cure="restore it from a copy")
        group, number, length = struct.unpack(f"{order}HHL", head)
        here += 8
        if group << 16 | number == _END:
            return here - first
        if group << 16 | number != _ITEM or here + length > size:
            raise DataError("its compressed pixel data is cut short or damaged", where=path)
        here += length
