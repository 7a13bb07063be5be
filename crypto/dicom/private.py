"""MedVeil's private elements: one block of group 0099, reserved by the creator ``MEDVEIL 1``.

=============  ==  ==========================================================================================
(0099,00xx)    LO  the private creator, ``MEDVEIL 1``
(0099,xx01)    UT  the header of `crypto.files.header` as one line of JSON; in the clear but for its ``sealed``
=============  ==  ==========================================================================================

What ``sealed`` holds, once opened: a line of JSON, ``{"drop": [tags], "whole": bool}`` with tags as eight hexadecimal
digits, and behind its line feed elements in Explicit VR Little Endian. The shown data set is that of the hidden file
(nothing of it where ``whole``) without the tags dropped, and with these elements put in.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from pydicom import Dataset

from crypto.dicom.elements import Elements, encode, join, split
from crypto.files.header import HiddenHeader, parse_header
from medveil.errors import FormatError, IntegrityError

GROUP = 0x0099
CREATOR = "MEDVEIL 1"
_HEADER = 0x01
_FIRST_BLOCK, _LAST_BLOCK = 0x10, 0xFF


def is_hidden(dataset: Dataset) -> bool:
    """Whether a data set carries MedVeil's block."""
    return _block(dataset) is not None


def reserve(pieces: Elements) -> int:
    """Put the private creator into an encoded data set; returns the tag for the header's element."""
    taken = {tag & 0xFFFF for tag in pieces if tag >> 16 == GROUP}
    free = next(block for block in range(_FIRST_BLOCK, _LAST_BLOCK) if block not in taken)
    pieces.update(_encoded((GROUP, free), "LO", CREATOR))
    return GROUP << 16 | free << 8 | _HEADER


def header_element(tag: int, header: HiddenHeader) -> bytes:
    """Encode the header's element; as long for a header with any MAC."""
    return _encoded((tag >> 16, tag & 0xFFFF), "UT", header.to_json())[tag]


def find_header(dataset: Dataset, path: Path) -> tuple[int, HiddenHeader]:
    """Return the tag of the header's element and the header.

    Raises
    ------
    FormatError
        The file is not hidden, or by a newer MedVeil.
    IntegrityError
        The header is damaged.
    """
    block = _block(dataset)
    if block is None:
        raise FormatError("is not a hidden DICOM file", where=path)
    tag = GROUP << 16 | block << 8 | _HEADER
    element = dataset.get_item(tag) if tag in dataset else None
    value = element.value if element is not None else None
    if not isinstance(value, str | bytes):
        raise IntegrityError("its MedVeil header is missing", where=path)
    # Tools that do not know the element keep it as bytes, padded to even length.
    text = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    header = parse_header(text.rstrip(b" \0"), where=path)
    if header.kind != "dicom":
        raise IntegrityError("its MedVeil header is that of another kind of file", where=path)
    return tag, header


def creator_of(tag: int) -> int:
    """The tag of the creator that reserves the block of `tag`."""
    return GROUP << 16 | tag >> 8 & 0xFF


def associated(header: HiddenHeader, instance: str) -> bytes:
    """What sealed elements are bound to: everything the header says but MAC and seal, and the hidden instance."""
    bare = dataclasses.replace(header, sealed=b"", mac=b"").to_json()
    return f"{bare}\0{instance}".encode("ascii", "backslashreplace")


def pack(shown: Elements, hidden: Elements | None) -> bytes:
    """Say how to come from the hidden data set to the shown one; from nothing, where `hidden` is None."""
    before = hidden or {}
    back = [tag for tag, piece in shown.items() if before.get(tag) != piece]
    drop = [f"{tag:08x}" for tag in sorted(before.keys() - shown.keys())]
    head = json.dumps({"drop": drop, "whole": hidden is None}, separators=(",", ":"))
    return head.encode("ascii") + b"\n" + join(shown, back)


def unpack(packed: bytes, hidden: Elements) -> Elements:
    """Return the shown data set that `pack` was given."""
    head, _, data = packed.partition(b"\n")
    plan = json.loads(head)
    gone = {int(tag, 16) for tag in plan["drop"]}
    kept = {} if plan["whole"] else {tag: piece for tag, piece in hidden.items() if tag not in gone}
    return kept | split(data)


def _encoded(tag: tuple[int, int], vr: str, text: str) -> Elements:
    made = Dataset()
    made.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    made.add_new(tag, vr, text)
    return encode(made)


def _block(dataset: Dataset) -> int | None:
    # Asking for each of the 240 there may be took a quarter of the time in which a file is opened.
    tags = dataset.keys()
    found = (tag & 0xFFFF for tag in tags if tag >> 16 == GROUP)
    for block in sorted(each for each in found if _FIRST_BLOCK <= each <= _LAST_BLOCK):
        value = dataset.get_item((GROUP, block)).value
        text = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
        if text.strip(b" \0") == CREATOR.encode("ascii"):
            return block
    return None
