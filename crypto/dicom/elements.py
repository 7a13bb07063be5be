"""A data set as encoded elements: Explicit VR Little Endian bytes, one piece for each top-level tag.

Hiding and showing put data sets together from such pieces, so that what is restored is restored to the byte.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.filewriter import write_dataset
from pydicom.valuerep import DSfloat

from crypto.deid.actions import compatible, standard_vr
from crypto.dicom.authentic import vr_of
from crypto.dicom.walk import datasets, tags
from crypto.reading.dicom_values import numbers, tag_of, texts
from medveil.errors import DataError

Elements = dict[int, bytes]
"""Top-level tag to the whole encoded element, header included."""

PIXEL_DATA = 0x7FE00010
_OF_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
)
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def encode(dataset: Dataset) -> Elements:
    """Encode a data set, whatever encoding it was read from. pydicom's own errors pass."""
    stream = DicomBytesIO()
    stream.is_implicit_VR = False
    stream.is_little_endian = True
    write_dataset(stream, dataset)
    return split(stream.getvalue())


def split(data: bytes) -> Elements:
    """Cut an encoded data set into its elements; group lengths go."""
    stream = io.BytesIO(data)
    pieces: Elements = {}
    start = 0
    for element in data_element_generator(stream, is_implicit_VR=False, is_little_endian=True):
        end = stream.tell()
        if element.tag.element != 0:
            pieces[int(element.tag)] = data[start:end]
        start = end
    return pieces


def join(pieces: Elements, tags: Iterable[int] | None = None) -> bytes:
    """Put elements together in the order of their tags; all of them, or those of `tags`."""
    return b"".join(pieces[tag] for tag in sorted(pieces if tags is None else tags))


def swap_words(dataset: Dataset) -> None:
    """Bring the words of a data set read as big endian into little-endian order.

    pydicom re-encodes numbers but leaves OW and its like as they are, lookup tables and overlays among them.
    """
    for each in datasets(dataset):
        for tag in tags(each):
            width = _WORDS.get(str(each.get_item(tag).VR))
            if width is None or not isinstance(each[tag].value, bytes):
                continue
            value = each[tag].value
            body = len(value) // width * width
            each[tag].value = np.frombuffer(value[:body], f">u{width}").astype(f"<u{width}").tobytes() + value[body:]


def name_representations(dataset: Dataset) -> None:
    """Give the elements of a data set read as Implicit VR Little Endian their VRs, and leave their bytes as they are.

    pydicom would decode each value to encode it again, and fail over one that is not as DICOM asks.
    """
    implicit, little = dataset.original_encoding
    if not (implicit and little):
        return
    signed = numbers(dataset, "PixelRepresentation") == [1]
    for each in datasets(dataset):
        for tag in tags(each):
            element: Any = each.get_item(tag, keep_deferred=True)
            if isinstance(element, RawDataElement):
                vr, value = _representation(element, signed=signed), element.value or b""
                each[tag] = element._replace(VR=vr, value=value, is_implicit_VR=False)
        each.set_original_encoding(False, True, each.original_character_set)


def right_representations(dataset: Dataset) -> None:
    """Write attributes that say what pixels are, and how they are shown, anew where they came with another VR.

    The reader takes their values whatever their VR is, and de-identification removes what has a wrong one: without this
    an archive would be shown otherwise than the file was, or not at all. What has no value of its kind stays.
    """
    signed = numbers(dataset, "PixelRepresentation") == [1]
    for each in datasets(dataset):
        for keyword in _OF_PIXELS:
            tag = tag_of(keyword)
            # pydicom gives an unknown one (UN) that of its dictionary by itself.
            found = str(each.get_item(tag, keep_deferred=True).VR) if tag in each else "UN"
            expected = standard_vr(tag) or ""
            if found != "UN" and not compatible(found, expected):
                with contextlib.suppress(DataError):
                    each.add_new(tag, *_as_meant(each, keyword, expected, signed=signed))


def _as_meant(dataset: Dataset, keyword: str, vr: str, *, signed: bool) -> tuple[str, Any]:
    if vr == "CS":
        return vr, texts(dataset, keyword)
    found = numbers(dataset, keyword, signed=signed)
    if vr == "DS":
        return vr, ["" if value is None else DSfloat(value, auto_format=True) for value in found]
    whole = [int(value) for value in found if value is not None]
    return "SS" if " or " in vr and min(whole, default=0) < 0 else vr.partition(" ")[0], whole


def _representation(element: RawDataElement, *, signed: bool) -> str:
    found = vr_of(element) or "UN"
    if " or " not in found:
        return found
    return "OW" if "OW" in found else "SS" if signed else "US"


def decode(pieces: Elements) -> Dataset:
    """Read elements as a data set."""
    return read_dataset(io.BytesIO(join(pieces)), is_implicit_VR=False, is_little_endian=True)
