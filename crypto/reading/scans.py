"""The scans of a JPEG codestream, counted before it is decoded: each costs a walk over all pixels."""

from __future__ import annotations

import re

from medveil.errors import DataError

MOST_SCANS = 100
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker of a JPEG file that starts a segment: within pixels, 0xff is followed by 0 or by a restart."""
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


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
