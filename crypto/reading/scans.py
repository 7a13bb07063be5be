"""The scans of a JPEG codestream: counted before they are decoded, each costs a walk over all pixels; and lengthened.

libjpeg fills up a scan that ends too early, and says so to nobody. What it makes of the same scan with other bits
behind it is the same where the scan is whole.
"""

from __future__ import annotations

import re

from medveil.errors import DataError

MOST_SCANS = 100
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker of a JPEG file that starts a segment: within pixels, 0xff is followed by 0 or by a restart."""
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_OTHER_BITS = bytes([0x55, 0x2A, 0x6D, 0x91]) * 64
"""No marker, and no two symbols of one length alike."""


def end_of_scans(data: bytes) -> int:
    """Where the marker stands that ends a codestream; the length of the data where none does.

    Raises
    ------
    DataError
        It has more scans than an encoder makes.
    """
    at, scans = 2, 0
    while scans <= MOST_SCANS and (found := _MARKER.search(data, at)) is not None:
        if found[0] == _END_OF_IMAGE:
            return found.start()
        scans += found[0] == _START_OF_SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    if scans > MOST_SCANS:
        raise DataError(f"is a JPEG file of more than {MOST_SCANS} scans", cure="save it as PNG or as a baseline JPEG")
    return len(data)


def lengthened(data: bytes) -> bytes:
    """A codestream with other bits behind its last scan; errors as `end_of_scans`."""
    return data[: end_of_scans(data)] + _OTHER_BITS + _END_OF_IMAGE
