"""What PS3.15 Annex E says of each attribute, and what MedVeil adds where that table is silent.

The codes are those of Table E.1-1: X remove, Z empty, D a dummy value, U another UID; a slash leaves the choice to what
the IOD needs. The table itself is read from the package ``dicom-anonymizer`` (edition 2026c); of that package nothing
else is used. A test compares it with what is known of the standard, so that another edition cannot slip in unseen.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as annex_e  # type: ignore[import-untyped]

EDITION: Final = "2026c"

_LISTS: Final = (
    ("X", annex_e.X_TAGS),
    ("Z", annex_e.Z_TAGS),
    ("D", annex_e.D_TAGS),
    ("U", annex_e.U_TAGS),
    ("Z/D", annex_e.Z_D_TAGS),
    ("X/Z", annex_e.X_Z_TAGS),
    ("X/D", annex_e.X_D_TAGS),
    ("X/Z/D", annex_e.X_Z_D_TAGS),
    ("X/Z/U*", annex_e.X_Z_U_STAR_TAGS),
)


def _tag(group: int, element: int) -> int:
    return group << 16 | element


ANNEX_E: Final = MappingProxyType(
    {_tag(*entry): code for code, entries in _LISTS for entry in entries if len(entry) == 2}
)
"""Tag -> code of Table E.1-1, without its repeating groups."""

REPEATING: Final = tuple(
    (_tag(group, element), _tag(group_mask, element_mask), code)
    for code, entries in _LISTS
    for group, element, group_mask, element_mask in (entry for entry in entries if len(entry) == 4)
)
"""(tag, mask, code) of the repeating groups: curves, overlay data and overlay comments."""

UNSHIFTED: Final = frozenset({0x00100030, 0x00100032, 0x00160077})
"""Dates and times of Table E.1-1 to which the modified-dates option does not apply: birth, and the GPS time stamp."""

BEYOND: Final = MappingProxyType(
    {
        # Newer than the table's edition (2026d): Dose Calculation Model Name.
        0x3004007F: "X",
        # Birth and death dates as text, in another calendar, and which calendar.
        0x00100033: "X",
        0x00100034: "X",
        0x00100035: "X",
        # Who issued an identifier: as the Issuer... attributes that the table removes.
        0x00080051: "X",
        0x00100024: "X",
        0x00400026: "X",
        0x00400027: "X",
        0x00400031: "X",
        0x00400032: "X",
        0x00400033: "X",
        0x00400036: "X",
        0x00400039: "X",
        0x0040003A: "X",
        # Identifiers of an animal's owner, of devices and of hosts.
        0x00102294: "X",
        0x00102295: "X",
        0x00181003: "X",
        0x00181801: "X",
        0x00181803: "X",
        0x00440012: "X",
        0x00880130: "X",
        0x21000160: "X",
        0x30020020: "Z",
        # Names of persons, groups and places outside PN.
        0x00720008: "X",
        0x00720010: "X",
        0x0074100C: "X",
        # That a patient is confidential, or why something was done to them, in a person's own words.
        0x0018003A: "X",
        0x00189916: "X",
        0x00189917: "X",
        0x0018991A: "X",
        0x00240044: "X",
        0x00286022: "X",
        0x00400255: "X",
        0x00400400: "X",
        0x00401008: "X",
        0x00420010: "Z",
        0x00440003: "X",
        0x00440011: "X",
        0x00440106: "X",
        0x00741238: "X",
        0x01000424: "X",
        0x30020003: "X",
        0x30020004: "X",
        0x30040006: "X",
        0x300600C8: "X",
        0x30080066: "X",
        0x30080202: "X",
        0x300A0402: "X",
        0x300A0730: "X",
        0x0040A160: "D",
        0x00620020: "D",
        # Paths and identifiers of media: file-set ID, its descriptor, referenced files.
        0x00041130: "Z",
        0x00041141: "X",
        0x00041500: "D",
        # What describes private attributes, signatures and encrypted originals that are gone.
        0x00080300: "X",
        0x04000500: "X",
        0x4FFE0001: "X",
    }
)
"""Tag -> code for attributes that Table E.1-1 does not name and that can identify all the same."""

_OVERLAYS = 0x60000000, 0xFF000000


def annex_e_code(tag: int) -> str | None:
    """The code of Table E.1-1 for a tag, or None where the table does not name it."""
    code = ANNEX_E.get(tag)
    if code is None:
        code = next((code for base, mask, code in REPEATING if tag & mask == base), None)
    return code


def code_of(tag: int) -> str | None:
    """The code that MedVeil follows for a standard attribute, or None where neither table names it.

    An overlay whose data Annex E removes is no longer valid, so the whole overlay goes.
    """
    code = annex_e_code(tag) or BEYOND.get(tag)
    base, mask = _OVERLAYS
    return "X" if code is None and tag & mask == base else code


def chosen(code: str) -> str:
    """The one action of a code: where the table leaves a choice, the one that keeps every IOD valid.

    A dummy value (D) satisfies types 1, 2 and 3, an empty one (Z) types 2 and 3. ``"K"`` stands for a sequence that
    stays with its UIDs replaced.
    """
    if code.endswith("U*"):
        return "K"
    return next(action for action in "DZUX" if action in code.split("/"))
