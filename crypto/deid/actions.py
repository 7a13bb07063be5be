"""What is done to one attribute: decided from its tag, its VR and the tables alone, never from its value."""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_is_retired, dictionary_VR, tag_for_keyword

from crypto.deid.table import UNSHIFTED, chosen, code_of


class Action(Enum):
    """What is done to an attribute. Sequences that stay are cleaned item by item."""

    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    PSEUDONYM = auto()
    UID = auto()
    SHIFT = auto()
    KEEP = auto()


_DATES: Final = frozenset({"DA", "DT", "TM"})
_TEXT: Final = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_BINARY: Final = frozenset(
    {"AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV", "US or SS", "OB or OW"}
    | {"US or OW", "US or SS or OW"}
)
_FAMILIES: Final = (_TEXT | {"CS"}, frozenset({"DS", "IS"}), _BINARY)


def _tags(*keywords: str) -> frozenset[int]:
    return frozenset(int(tag) for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


PSEUDONYMS: Final = _tags(
    "PatientName",
    "PatientID",
    "AccessionNumber",
    "StudyID",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "SpecimenIdentifier",
    "ContainerIdentifier",
    "DeviceSerialNumber",
    "DetectorID",
)
"""What stays distinguishable: patients, studies, specimens and devices. Annex E allows a dummy value for each."""

CLASS_UIDS: Final = _tags(
    "AffectedSOPClassUID",
    "RequestedSOPClassUID",
    "ReferencedSOPClassUIDInFile",
    "ReferencedTransferSyntaxUIDInFile",
    "ReferencedRelatedGeneralSOPClassUIDInFile",
    "SOPClassUID",
    "RelatedGeneralSOPClassUID",
    "OriginalSpecializedSOPClassUID",
    "SOPClassesInStudy",
    "SOPClassesSupported",
    "ReferencedSOPClassUID",
    "PertinentSOPClassesInStudy",
    "PertinentSOPClassesInSeries",
    "StoredInstanceTransferSyntaxUID",
    "AvailableTransferSyntaxUID",
    "FlowTransferSyntaxUID",
    "CodingSchemeUID",
    "ContextUID",
    "MappingResourceUID",
    "SegmentationTemplateUID",
)
"""UIDs that name a kind of thing, which may be a vendor's; all others can lead back to the archive."""

_KEPT_ADDRESSES: Final = _tags("URNCodeValue")


@lru_cache(maxsize=16384)
def standard_vr(tag: int) -> str | None:
    """The VR that the standard gives a tag, or None where pydicom's dictionary has no such tag."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else None


def compatible(stored: str, expected: str) -> bool:
    """Whether `stored` is the VR the standard gives, or one of its kind that careless writers confuse with it."""
    return stored in expected.split(" or ") or any(stored in each and expected in each for each in _FAMILIES)


@lru_cache(maxsize=16384)
def action_for(tag: int, *, strict: bool = False) -> Action:
    """What is done to a standard attribute.

    Where a table names it: the action chosen from its code; dates and times are shifted instead, as the modified-dates
    option asks. Where none does, the standard lets it stay, and it does, but for

    - tags that pydicom's dictionary does not know: nobody can say what they hold;
    - person names, application entities and addresses (PN, AE, UR), but for codes that are addresses;
    - text and bulk data of retired attributes, which no IOD holds any more;
    - UIDs, which are replaced, but for those of classes, transfer syntaxes and coding schemes;
    - dates and times, which are shifted (E.3.6 speaks of any).

    Parameters
    ----------
    tag
        Of a standard attribute: its group is even.
    strict
        Within a sequence whose code is D: text that would stay gets a dummy value.
    """
    vr = standard_vr(tag)
    code = code_of(tag)
    if code is not None:
        return _named(tag, vr, chosen(code))
    return Action.REMOVE if vr is None else _unnamed(tag, vr, strict=strict)


def _named(tag: int, vr: str | None, code: str) -> Action:
    if vr in _DATES and tag not in UNSHIFTED:
        return Action.SHIFT
    if code in "DZ" and tag in PSEUDONYMS:
        return Action.PSEUDONYM
    actions = {"X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY, "U": Action.UID, "K": Action.KEEP}
    return actions[code]


def _unnamed(tag: int, vr: str, *, strict: bool) -> Action:
    if tag in CLASS_UIDS or tag in _KEPT_ADDRESSES:
        return Action.KEEP
    if vr in {"PN", "AE", "UR", "NONE"}:
        return Action.REMOVE
    if dictionary_is_retired(tag) and (vr in _TEXT or vr.startswith("O")):
        return Action.REMOVE
    if vr in _DATES:
        return Action.SHIFT
    if vr == "UI":
        return Action.UID
    return Action.DUMMY if strict and vr in _TEXT else Action.KEEP
