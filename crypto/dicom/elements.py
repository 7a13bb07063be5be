"""A data set as encoded elements: Explicit VR Little Endian bytes, one piece for each top-level tag.

Hiding and showing put data sets together from such pieces, so that what is restored is restored to the byte.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.filewriter import write_dataset

from crypto.dicom.walk import datasets, tags

Elements = dict[int, bytes]
"""Top-level tag to the whole encoded element, header included."""

PIXEL_DATA = 0x7FE00010
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


def decode(pieces: Elements) -> Dataset:
    """Read elements as a data set."""
    return read_dataset(io.BytesIO(join(pieces)), is_implicit_VR=False, is_little_endian=True)
