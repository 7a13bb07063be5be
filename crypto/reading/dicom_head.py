"""Whether a file is DICOM by its first bytes, with or without a preamble. Loads no pydicom, which is slow to start."""

from __future__ import annotations

import struct
from typing import NamedTuple

MARK = b"DICM"
PREAMBLE = 128
HEAD_BYTES = PREAMBLE + len(MARK)

_META, _FIRST = 0x0002, 0x0008
_LONG = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_LAST_IN_FIRST = 0x0022
"""No data set starts with a later element of group 0008 than these: class, instance and dates come before."""
_LONGEST_FIRST = 1024
_NEXT_GROUPS = 0x10
"""The element behind the first may be of the next group: the bare data set behind, or the patient's."""


class Start(NamedTuple):
    """Where the elements of a file start, and how they are encoded.

    Parameters
    ----------
    offset
        Of the first element in bytes.
    meta
        Whether the first ones are file meta information.
    implicit, little
        How those at `offset` are encoded.
    """

    offset: int
    meta: bool
    implicit: bool = False
    little: bool = True


def dicom_start(head: bytes) -> Start | None:
    """Say where the elements start of a file whose first 132 bytes are `head`; None where it is no DICOM.

    Files without the preamble of PS3.10 are met in archives and on old media: with file meta information at once, or
    with the bare data set (PS3.10 7.1 asks for both, PACS exports often lack them). They are known by two elements that
    follow one another as elements must.
    """
    if head[PREAMBLE:HEAD_BYTES] == MARK:
        return Start(HEAD_BYTES, meta=True)
    if head.startswith(MARK) and _chained(head[len(MARK) :], _META, Start(0, meta=True)):
        return Start(len(MARK), meta=True)
    if _chained(head, _META, Start(0, meta=True)):
        return Start(0, meta=True)
    for implicit, little in ((False, True), (True, True), (False, False)):
        start = Start(0, meta=False, implicit=implicit, little=little)
        if _chained(head, _FIRST, start):
            return start
    return None


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are of DICOM."""
    return dicom_start(head) is not None


def _chained(head: bytes, group: int, start: Start) -> bool:
    """Whether two elements of a group follow one another, the second where the first one ends."""
    first = _element(head, 0, start)
    if first is None or first[0] >> 16 != group or first[0] & 0xFFFF > _LAST_IN_FIRST or first[1] > _LONGEST_FIRST:
        return False
    second = _element(head, first[1], start)
    if second is None:
        # Beyond what is looked at: the first is all there is to go by, and an explicit VR is much to go by.
        return first[1] > len(head) - 8 and not start.implicit
    return first[0] < second[0] and group <= second[0] >> 16 <= group + _NEXT_GROUPS


def _element(head: bytes, at: int, start: Start) -> tuple[int, int] | None:
    """Tag of the element at an offset, and where the next one starts; None where none is to be seen."""
    order = "<" if start.little else ">"
    if at + 8 > len(head):
        return None
    group, number = struct.unpack_from(f"{order}HH", head, at)
    if start.implicit:
        (length,) = struct.unpack_from(f"{order}L", head, at + 4)
        return group << 16 | number, at + 8 + length
    vr = head[at + 4 : at + 6]
    if vr in _SHORT:
        (length,) = struct.unpack_from(f"{order}H", head, at + 6)
        return group << 16 | number, at + 8 + length
    if vr in _LONG and at + 12 <= len(head):
        (length,) = struct.unpack_from(f"{order}L", head, at + 8)
        return group << 16 | number, at + 12 + length
    return None
