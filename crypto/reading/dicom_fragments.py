"""The fragments of compressed pixel data: where each frame's lie, found in one walk over the file."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom.encaps import generate_frames

from crypto.reading.dicom_codestream import starts_frame
from crypto.reading.dicom_file import OpenFile
from medveil.errors import DataError

_ITEM = 0xFFFEE000
_LOOK = 2**16
"""Bytes of a codestream in which its main header is looked for."""


class Fragment(NamedTuple):
    """Where the value of an item lies in the stream, in bytes."""

    offset: int
    length: int


def fragments(opened: OpenFile) -> list[Fragment]:
    """Every fragment; the first item, the basic offset table, is none."""
    assert opened.pixels is not None
    order = "<" if opened.transfer_syntax.is_little_endian else ">"
    found: list[Fragment] = []
    here, end = opened.pixels.offset, opened.pixels.offset + opened.pixels.length
    while here + 8 <= end:
        opened.stream.seek(here)
        group, number, length = struct.unpack(f"{order}HHL", opened.stream.read(8))
        if group << 16 | number != _ITEM:
            break
        found.append(Fragment(here + 8, length))
        here += 8 + length
    return found[1:]


def first_fragment(opened: OpenFile) -> bytes:
    """The start of the first fragment; empty where there is none."""
    if opened.pixels is None or not opened.pixels.encapsulated:
        return b""
    found = fragments(opened)
    return _read(opened, found[0], _LOOK) if found else b""


class CodedFrames:
    """The compressed frames of a file, any of them at once.

    Parameters
    ----------
    opened
        The file.
    count
        How many frames its header says.

    Raises
    ------
    DataError
        There are more or fewer.
    """

    def __init__(self, opened: OpenFile, count: int) -> None:
        self._opened, self._count = opened, count
        self._found = fragments(opened)
        self._apart: list[bytes] | None = None
        if count == 1:
            starts = sum(starts_frame(opened.transfer_syntax, _read(opened, each, 8)) for each in self._found)
            if starts > 1:
                raise _more(1)
        elif len(self._found) != count:
            # Frames in several fragments: what tables and codestreams say of them is pydicom's affair.
            self._apart = self._by_pydicom(count)

    def frame(self, index: int) -> bytes:
        """The compressed bytes of a frame."""
        if self._apart is not None:
            return self._apart[index]
        mine = self._found if self._count == 1 else self._found[index : index + 1]
        return b"".join(_read(self._opened, each) for each in mine)

    def _by_pydicom(self, count: int) -> list[bytes]:
        assert self._opened.pixels is not None
        # An extended offset table is of frames of one fragment each (PS3.3 C.7.6.3.1.8), which are found without it.
        self._opened.stream.seek(self._opened.pixels.offset)
        made = list(generate_frames(self._opened.stream, number_of_frames=count))
        if len(made) > count:
            raise _more(count)
        if len(made) < count:
            raise DataError(f"holds {len(made)} frames, not the {count} it says", cure="correct NumberOfFrames")
        return made


def _more(count: int) -> DataError:
    said = "the one frame" if count == 1 else f"the {count} frames"
    return DataError(f"holds more than {said} it says", cure="correct NumberOfFrames")


def _read(opened: OpenFile, fragment: Fragment, most: int | None = None) -> bytes:
    opened.stream.seek(fragment.offset)
    return opened.stream.read(fragment.length if most is None else min(most, fragment.length))
