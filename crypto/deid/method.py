"""What a de-identified data set says of its de-identification (PS3.15 E.1.1, PS3.16 CID 7050), and its file meta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydicom import Dataset, Sequence
from pydicom.tag import BaseTag

from crypto.deid.pseudonyms import Pseudonyms
from crypto.deid.table import EDITION
from crypto.deid.values import name_of, texts_of, write
from medveil.versions import medveil_version

BASIC: Final = "113100"
MODIFIED_DATES: Final = "113107"
SAFE_PRIVATE: Final = "113111"

_MEANINGS: Final = {
    BASIC: "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    MODIFIED_DATES: "Retain Longitudinal Temporal Information Modified Dates Option",
    SAFE_PRIVATE: "Retain Safe Private Option",
}
_CLEANED_BEFORE: Final = ("113101", "113102", "113103", "113104", "113105")

IMPLEMENTATION_UID: Final = "2.25.14484879614633355698698128002874523302"
"""Names MedVeil as the writer of a file, whatever its version."""

_CODES: Final = 0x00120064
_LONGEST_LO: Final = 64
_VERSION: Final = medveil_version()
_META_KEPT: Final = frozenset({0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013})


def say_method(
    dataset: Dataset, *, kept: Iterable[str], basic: bool, shifted: bool, anonymous: bool, safe_private: bool
) -> None:
    """Write the attributes that tell a reader how a data set was de-identified.

    What an earlier de-identification says to have cleaned stays said; its other codes, and its text, go.

    Parameters
    ----------
    dataset
        Cleaned already.
    kept
        Keywords of attributes that stayed as they were because somebody asked for it.
    basic
        Whether the Basic Profile holds, that is, whether none of `kept` is in its table.
    shifted
        Whether none of `kept` is a date or time.
    anonymous
        Whether none of `kept` identifies the patient directly.
    safe_private
        Whether private attributes listed as safe were to stay.
    """
    earlier = [code for code in _CLEANED_BEFORE if code in _codes(dataset)]
    ours = [code for code, true in ((BASIC, basic), (MODIFIED_DATES, shifted), (SAFE_PRIVATE, safe_private)) if true]
    write(dataset, "PatientIdentityRemoved", "YES" if anonymous else "NO")
    write(dataset, "DeidentificationMethod", [text[:_LONGEST_LO] for text in _texts(kept)])
    dataset.pop(_CODES, None)
    if codes := sorted({*earlier, *ours}):
        write(dataset, "DeidentificationMethodCodeSequence", Sequence([_item(code) for code in codes]))
    write(dataset, "LongitudinalTemporalInformationModified", "MODIFIED")


def _texts(kept: Iterable[str]) -> list[str]:
    profile = f"DICOM PS3.15 {EDITION} Annex E Basic Profile, modified dates"
    return [f"MedVeil {_VERSION}", profile, *(f"but kept: {name}" for name in sorted(kept))]


def _codes(dataset: Dataset) -> list[str]:
    try:
        return [code for item in dataset.DeidentificationMethodCodeSequence for code in texts_of(item, "CodeValue")]
    except Exception:  # absent, or whatever a broken file holds in its place
        return []


def _item(code: str) -> Dataset:
    item = Dataset()
    item.CodeValue = code
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = _MEANINGS[code]
    return item


def clean_file_meta(dataset: Dataset, pseudonyms: Pseudonyms) -> list[str]:
    """Empty the preamble and reduce the file meta to what PS3.10 requires; returns the names of what went.

    The instance UID becomes that of the data set, which is cleaned already, and the implementation MedVeil's: PS3.15
    E.1.1 asks that the file meta describe the application that de-identified.
    """
    if getattr(dataset, "preamble", None):
        dataset.preamble = bytes(128)
    meta = getattr(dataset, "file_meta", None)
    if not meta:
        return []
    gone: list[BaseTag] = [tag for tag in meta.keys() if int(tag) not in _META_KEPT]  # noqa: SIM118 - not its elements
    for tag in gone:
        meta.pop(tag)
    if "MediaStorageSOPInstanceUID" in meta:
        own = texts_of(dataset, "SOPInstanceUID") or map(pseudonyms.uid, texts_of(meta, "MediaStorageSOPInstanceUID"))
        write(meta, "MediaStorageSOPInstanceUID", next(iter(own), ""))
    write(meta, "FileMetaInformationVersion", b"\0\1")
    write(meta, "ImplementationClassUID", IMPLEMENTATION_UID)
    write(meta, "ImplementationVersionName", f"MEDVEIL {_VERSION}"[:16])
    return [name_of(tag) for tag in gone]
