"""Write a DICOM file in Explicit VR Little Endian, its native pixels frame by frame."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from crypto.deid.method import IMPLEMENTATION_UID
from crypto.dicom.elements import PIXEL_DATA, Elements, decode
from crypto.reading.dicom_head import MARK, PREAMBLE
from crypto.reading.dicom_samples import Samples
from medveil.errors import DataError
from medveil.versions import medveil_version

LARGEST_VALUE = 2**32 - 2
_LONGEST_NAME = 16


class NativeFile:
    """A DICOM file that is being written.

    Parameters
    ----------
    stream
        Where to; can be sought.
    elements
        The data set without its pixels.
    samples
        What the pixels are; all frames must follow by `frame`, then `finish`.
    """

    def __init__(self, stream: BinaryIO, elements: Elements, samples: Samples) -> None:
        self._stream = stream
        self._elements = elements
        self._length = samples.frame_bytes * samples.frames
        self._places: dict[int, int] = {}
        stream.write(bytes(PREAMBLE) + MARK)
        _write_meta(stream, decode(elements))
        self._write(tag for tag in elements if tag < PIXEL_DATA)
        vr = b"OB" if samples.allocated == 8 else b"OW"
        stream.write(struct.pack("<HH2sHL", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, vr, 0, padded(self._length)))

    def frame(self, data: bytes) -> None:
        """Write the next frame."""
        self._stream.write(data)

    def finish(self) -> None:
        """Write what lies behind the pixels."""
        self._stream.write(bytes(padded(self._length) - self._length))
        self._write(tag for tag in self._elements if tag > PIXEL_DATA)

    def replace(self, tag: int, piece: bytes) -> None:
        """Write an element again, as long as it was."""
        if len(piece) != len(self._elements[tag]):
            raise ValueError("the new element is not as long as the old one")
        end = self._stream.tell()
        self._stream.seek(self._places[tag])
        self._stream.write(piece)
        self._stream.seek(end)

    def _write(self, tags: Iterable[int]) -> None:
        for tag in sorted(tags):
            self._places[tag] = self._stream.tell()
            self._stream.write(self._elements[tag])


def padded(length: int) -> int:
    """A length in bytes, rounded up to an even one."""
    return length + length % 2


def check_length(samples: Samples, path: Path) -> None:
    """Refuse pixels that native pixel data cannot hold.

    Raises
    ------
    DataError
        Their length does not fit the 32 bits it is written in.
    """
    length = padded(samples.frame_bytes * samples.frames)
    if length > LARGEST_VALUE:
        problem = f"its pixels would take {length} bytes, and native DICOM pixel data ends at {LARGEST_VALUE}"
        raise DataError(problem, where=path, cure="split it into files of fewer frames")


def _write_meta(stream: BinaryIO, dataset: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(str(dataset.SOPClassUID))
    meta.MediaStorageSOPInstanceUID = UID(str(dataset.SOPInstanceUID))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = f"MEDVEIL {medveil_version()}"[:_LONGEST_NAME]
    made = DicomBytesIO()
    write_file_meta_info(made, meta)
    stream.write(made.getvalue())
