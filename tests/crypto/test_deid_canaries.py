"""Unique canaries in every attribute that can identify, at every depth; the written bytes are searched for them."""

from __future__ import annotations

import io
import itertools
import re
import struct
import warnings
import zlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as fields
from pydicom import DataElement, Dataset, FileDataset, FileMetaDataset, Sequence, config, dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.data import get_charset_files, get_testdata_files
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from crypto.deid.dates import shift_days
from crypto.deid.deidentify import Deidentifier
from crypto.deid.pseudonyms import Pseudonyms
from crypto.deid.table import BEYOND
from crypto.keys import SiteKey

KEY = SiteKey(bytes(range(32)), "north")
STEM = "CANARY"
UID_STEM = "1.3.6.1.4.1.99999.77."
NUMBER_STEM = "7391"
FIRST_DAY = date(2023, 1, 1)
WINDOW = 300
"""Canary dates lie within so many days and the patient's shift is longer, so no moved date is another's old one."""
PATIENT = next(f"{STEM}-{n}" for n in itertools.count() if shift_days(Pseudonyms(KEY), f"{STEM}-{n}") < -2 * WINDOW)
ALL_LISTS = ("X_TAGS", "Z_TAGS", "D_TAGS", "U_TAGS", "Z_D_TAGS", "X_Z_TAGS", "X_D_TAGS", "X_Z_D_TAGS")
NAMED = sorted(
    group << 16 | element for name in ALL_LISTS for group, element, *mask in getattr(fields, name) if not mask
)
REFERENCES = (0x00081140, 0x00082112)
REPEATING = [*range(0x50003000, 0x50203000, 0x00020000), *range(0x60003000, 0x60203000, 0x00020000)]
NAMES_WITHOUT_ENTRY = [tag for tag, (vr, *_) in DicomDictionary.items() if vr in {"PN", "AE", "UR"} and tag >> 16 > 4]
RETIRED_TEXT = [
    tag
    for tag, (vr, _, _, retired, _) in DicomDictionary.items()
    if retired and vr in {"LO", "LT", "SH", "ST", "UT"} and tag >> 16 > 4
]
UIDS_WITHOUT_ENTRY = (0x00081167, 0x00200242, 0x0072007F, 0x0070031B, 0x0018991E)
IDENTIFYING = sorted(
    {*NAMED, *BEYOND, *REPEATING, *NAMES_WITHOUT_ENTRY, *RETIRED_TEXT, *UIDS_WITHOUT_ENTRY}
    - {0x00020003, 0x00001000, 0x00001001}  # of the file meta, where they are planted too, and of messages
    - {0x00080120}  # a code that is an address
)


class Planter:
    """Makes values that occur nowhere else, and remembers those that the stems do not find."""

    def __init__(self) -> None:
        self.count = itertools.count()
        self.days: list[date] = []

    def value(self, vr: str) -> Any:
        n = next(self.count)
        if vr in {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"}:
            return f"{STEM}{n:06}"
        return self._other(vr, n)

    def _other(self, vr: str, n: int) -> Any:
        made: dict[str, Any] = {
            "PN": f"{STEM}{n:06}^{STEM}",
            "UI": f"{UID_STEM}{n}",
            "UR": f"http://{STEM}{n:06}/",
            "DS": f"{NUMBER_STEM}{n:06}.5",
            "IS": f"{NUMBER_STEM}{n:06}",
            "AS": "084W",
            "TM": "101112",
            "US": 0x4143,
            "UL": 0x594E4143,
            "FD": struct.unpack("<d", b"CANARYCA")[0],
        }
        if vr in {"DA", "DT"}:
            day = FIRST_DAY + timedelta(days=n % WINDOW)
            self.days.append(day)
            return f"{day:%Y%m%d}" + ("101112.131415" if vr == "DT" else "")
        return made.get(vr, f"{STEM}{n:06}".encode())

    def element(self, tag: int) -> DataElement:
        vr = vr_of(tag)
        if vr != "SQ":
            return DataElement(tag, vr, self.value(vr))
        item = Dataset()
        item.PatientName = self.value("PN")
        item.StudyDescription = self.value("LO")
        item.CodeMeaning = self.value("LO")
        item.CodeValue = self.value("SH")
        item.CodingSchemeDesignator = self.value("SH")
        item.ReferencedSOPInstanceUID = self.value("UI")
        item.TextValue = self.value("UT")
        self.private(item)
        return DataElement(tag, "SQ", Sequence([item]))

    def private(self, dataset: Dataset) -> None:
        block = dataset.private_block(0x0099, f"{STEM} CREATOR", create=True)
        block.add_new(0x01, "LO", self.value("LO"))
        block.add_new(0x02, "UN", self.value("UN"))
        block.add_new(0x03, "PN", self.value("PN"))
        inner = Dataset()
        inner.PatientID = self.value("LO")
        inner.Manufacturer = self.value("LO")
        block.add_new(0x04, "SQ", Sequence([inner]))

    def plant(self, dataset: Dataset, tags: list[int]) -> None:
        for tag in tags:
            dataset[tag] = self.element(tag)
        for tag in REFERENCES:
            item = Dataset()
            item.ReferencedSOPClassUID = SecondaryCaptureImageStorage
            item.ReferencedSOPInstanceUID = self.value("UI")
            self.private(item)
            dataset[tag] = DataElement(tag, "SQ", Sequence([item]))
        self.private(dataset)

    def found(self, data: bytes) -> list[str]:
        """What can still be read in the bytes, in either byte order of numbers."""
        stems = [STEM, UID_STEM, NUMBER_STEM + "00", "084W", STEM[::-1]]
        leaks = [stem for stem in stems if stem.encode() in data]
        leaks += [stem for stem in stems if stem.encode("utf-16-le") in data]
        dates = set(re.findall(rb"(?=(20\d{6}))", data))
        return leaks + sorted({f"{day:%Y%m%d}" for day in self.days if f"{day:%Y%m%d}".encode() in dates})


def vr_of(tag: int) -> str:
    if tag >> 24 in {0x50, 0x60}:
        return "OW"
    # Tags that pydicom does not know yet: any VR will do to carry a canary.
    return dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO"


def nested(planter: Planter, depth: int) -> Dataset:
    """A data set with every identifying attribute at the root and in a sequence of each lower level."""
    dataset = Dataset()
    planter.plant(dataset, IDENTIFYING)
    if depth:
        dataset.SharedFunctionalGroupsSequence = [nested(planter, depth - 1)]
        dataset.PerFrameFunctionalGroupsSequence = [Dataset(), nested(planter, 0)]
    return dataset


def file_of(dataset: Dataset, planter: Planter, transfer_syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = planter.value("UI")
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = planter.value("UI")
    meta.ImplementationVersionName = planter.value("SH")
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        setattr(meta, keyword, planter.value("AE"))
    meta.SourcePresentationAddress = planter.value("UR")
    meta.PrivateInformationCreatorUID = planter.value("UI")
    meta.PrivateInformation = planter.value("OB")
    preamble = (f"{STEM} in the preamble " * 10).encode()[:128]
    implicit, little = transfer_syntax == ImplicitVRLittleEndian, transfer_syntax != ExplicitVRBigEndian
    made = FileDataset("", dataset, preamble, meta, is_implicit_VR=implicit, is_little_endian=little)
    return bytes_of(made)


def bytes_of(dataset: FileDataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target)
    data = target.getvalue()
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        (length,) = struct.unpack("<I", data[140:144])
        data += zlib.decompress(data[144 + length :], -zlib.MAX_WBITS)
    return data


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_no_canary_survives_at_any_depth(syntax: str) -> None:
    planter = Planter()
    dataset = nested(planter, depth=3)
    dataset.PatientID = PATIENT
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Manufacturer = "kept"
    data = file_of(dataset, planter, syntax)
    assert len(planter.found(data)) > 200, "the canaries must be in the file before"
    read = dcmread(io.BytesIO(data), force=True)
    report = Deidentifier(KEY).apply(read)
    after = bytes_of(read)
    assert planter.found(after) == []
    assert b"kept" in after
    assert STEM not in str(report)


def test_no_canary_survives_in_a_data_set_never_written() -> None:
    """In memory the elements are parsed, not raw."""
    planter = Planter()
    dataset = nested(planter, depth=2)
    dataset.PatientID = PATIENT
    Deidentifier(KEY).apply(dataset)
    assert planter.found(file_of(dataset, Planter(), ExplicitVRLittleEndian)[1000:]) == []


def test_the_canaries_meet_every_vr_of_the_table() -> None:
    vrs = {vr_of(tag) for tag in IDENTIFYING}
    assert vrs >= {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "OB", "OW", "PN", "SH", "SQ", "ST", "TM", "UC"}
    assert vrs >= {"UI", "UN", "UR", "US", "UT"}
    assert len(IDENTIFYING) > 700


@pytest.mark.parametrize("vr", ["LO", "LT", "OB", "PN", "SQ", "DS", "US"])
def test_no_canary_survives_under_another_vr(vr: str) -> None:
    """Writers that give an attribute a VR the standard does not."""
    planter = Planter()
    dataset = Dataset()
    for tag in IDENTIFYING:
        made = planter.element(0x00081115) if vr == "SQ" else DataElement(tag, vr, planter.value(vr))
        dataset[tag] = DataElement(tag, vr, made.value)
    dataset[0x00100020] = DataElement(0x00100020, "LO", PATIENT)
    data = file_of(dataset, planter, ExplicitVRLittleEndian)
    read = dcmread(io.BytesIO(data))
    Deidentifier(KEY).apply(read)
    assert planter.found(bytes_of(read)) == []


@pytest.mark.parametrize("guess", [True, False], ids=["guessed when read", "left unknown"])
def test_no_canary_survives_under_an_unknown_vr(guess: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "replace_un_with_known_vr", False)
    planter = Planter()
    dataset = Dataset()
    for tag in IDENTIFYING:
        dataset[tag] = DataElement(tag, "UN", planter.value("UN"))
    data = file_of(dataset, planter, ExplicitVRLittleEndian)
    monkeypatch.setattr(config, "replace_un_with_known_vr", guess)
    read = dcmread(io.BytesIO(data))
    Deidentifier(KEY).apply(read)
    assert planter.found(bytes_of(read)) == []


FILES = sorted(path for path in {*get_testdata_files(), *get_charset_files()} if Path(path).is_file())


def planted(path: str) -> tuple[FileDataset, bytes, Planter] | None:
    """A file of pydicom's with canaries at its root and in every item, and its bytes; None where it cannot be read.

    Each file gets a seventh of the attributes, so that each attribute meets some thirty files.
    """
    planter = Planter()
    share = [*SOME, *IDENTIFYING[FILES.index(path) % 7 :: 7]]
    try:
        dataset = dcmread(path, force=True)
        if len(dataset) == 0:
            return None
        for item in items_of(dataset):
            planter.plant(item, share if item is dataset else SOME)
        dataset.PatientID = PATIENT
        if dataset.get("preamble"):
            dataset.preamble = STEM.encode() * 20 + bytes(8)
        dataset.file_meta.SourceApplicationEntityTitle = planter.value("AE")
        return dataset, bytes_of(dataset), planter
    except Exception:
        return None


SOME = [0x00080020, 0x00080050, 0x00080090, 0x00081030, 0x00081155, 0x00100010, 0x00100020, 0x00104000, 0x0040A123]


def items_of(dataset: Dataset) -> list[Dataset]:
    inner = [item for element in dataset if element.VR == "SQ" for item in element.value]
    return [dataset, *(each for item in inner for each in items_of(item))]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if n % 4 else []) for n, path in enumerate(FILES)],
    ids=lambda path: "/".join(Path(path).parts[-3:]),
)
def test_no_canary_survives_in_pydicoms_files(path: str) -> None:
    done = planted(path)
    if done is None:
        pytest.skip("cannot be read")
    dataset, before, planter = done
    assert len(planter.found(before)) > 10
    Deidentifier(KEY).apply(dataset)
    assert planter.found(bytes_of(dataset)) == []
