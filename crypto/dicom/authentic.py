"""Which bytes of a hidden DICOM file its MAC covers.

The parts, in this order (`crypto.files.header.make_mac` feeds the header first, and the length of each part):

1. the data set: every element in the order of its tag, but the pixel data, the header's own element, group lengths and
   the padding at the end of the file. An element is its tag (u32, big-endian), its VR (two letters, or two zero bytes),
   the length of its value (u32, big-endian) and its value. The value of a sequence is its items, each as its length
   (u32, big-endian) and its elements; other values are the stored bytes, text without padding at its end.
2. each frame: its stored bytes.

The VR counts only where it is not the one the standard's dictionary gives (``US`` and ``SS`` count where the dictionary
leaves the choice; an implicit encoding means what PixelRepresentation says), and never for private elements. So a file
that a correct tool copied, gave other file meta information, group lengths or sequence lengths, or re-encoded in
Implicit VR Little Endian and back is still proven; one whose data set or pixels differ is not. Private sequences are
proven only where their VR survives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

_TEXT = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_CHOICE = "US or SS"
_NO_VR = "\0\0"
_REPRESENTATION = 0x00280103
_PADDING = 0xFFFCFFFC
_IMPLICIT_HEADER = 8

Element = DataElement | RawDataElement


def canonical(dataset: Dataset, *, without: int) -> bytes:
    """The first part: a data set as just read, none of its elements looked at yet.

    Parameters
    ----------
    dataset
        Without its pixel data.
    without
        Tag of the header's element.
    """
    signed = _REPRESENTATION in dataset and _stored(dataset.get_item(_REPRESENTATION)) == b"\1\0"
    return b"".join(_elements(dataset, signed=signed, without=without))


def vr_of(element: Element) -> str:
    """The VR of an element: as stored, else the dictionary's; empty where neither says."""
    if element.VR and element.VR != "UN":
        return str(element.VR)
    return _standard_vr(element.tag)


def _elements(dataset: Dataset, *, signed: bool, without: int | None = None) -> Iterator[bytes]:
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag in {without, _PADDING}:
            continue
        element = dataset.get_item(tag)
        vr = vr_of(element)
        if vr == "SQ":
            value = b"".join(_item(item, signed=signed) for item in dataset[tag].value or ())
        else:
            value = _stored(element)
            if vr in _TEXT and not tag.is_private:
                value = value.rstrip(b" \0")
        yield struct.pack(">L2sL", tag, _counted(tag, vr, signed=signed).encode("latin-1"), len(value)) + value


def _stored(element: Element) -> bytes:
    """The bytes of a value; pydicom decodes some elements by itself."""
    if isinstance(element, RawDataElement):
        return element.value or b""
    stream = DicomBytesIO()
    stream.is_implicit_VR = True
    stream.is_little_endian = True
    write_data_element(stream, element)
    return stream.getvalue()[_IMPLICIT_HEADER:]


def _item(item: Dataset, *, signed: bool) -> bytes:
    data = b"".join(_elements(item, signed=signed))
    return struct.pack(">L", len(data)) + data


def _counted(tag: BaseTag, vr: str, *, signed: bool) -> str:
    if tag.is_private:
        return _NO_VR
    usual = _standard_vr(tag)
    if usual == _CHOICE:
        return ("SS" if signed else "US") if vr == usual else vr
    return _NO_VR if vr in usual.split(" or ") or vr == usual else vr


def _standard_vr(tag: BaseTag) -> str:
    if tag.is_private:
        return "LO" if tag.is_private_creator else ""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return ""
