"""What a steward asks for and gets: pseudonyms, shifts, --keep, --safe-private, warnings, and what is written."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
from pydicom import Dataset, FileDataset, FileMetaDataset, Sequence, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from crypto.deid.dates import shift_days
from crypto.deid.deidentify import Deidentifier, DeidReport
from crypto.deid.method import IMPLEMENTATION_UID
from crypto.deid.pseudonyms import Pseudonyms, new_uid, pseudonym
from crypto.keys import SiteKey
from medveil.errors import ConfigError

KEY = SiteKey(bytes(range(32)), "north")


def scan(**attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = "1.2.3.1"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.Modality = "CT"
    dataset.PatientID = "0815"
    dataset.PatientName = "Doe^Jane"
    dataset.StudyDate = "20240301"
    dataset.StudyTime = "101530"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def deidentified(dataset: Dataset, **options: Any) -> tuple[Dataset, DeidReport]:
    return dataset, Deidentifier(KEY, **options).apply(dataset)


def codes(dataset: Dataset) -> list[str]:
    return [item.CodeValue for item in dataset.get("DeidentificationMethodCodeSequence", [])]


def test_a_patient_keeps_one_pseudonym_whatever_the_spelling() -> None:
    first, _ = deidentified(scan(PatientName="Doe^Jane"))
    second, _ = deidentified(scan(PatientName="DOE^JANE^A", PatientID=" 0815 "))
    assert first.PatientID == second.PatientID == pseudonym(KEY, "PatientID", "0815")
    assert first.PatientName == second.PatientName == f"ANON^{first.PatientID}"


def test_two_patients_of_one_name_stay_two() -> None:
    first, _ = deidentified(scan(PatientID="1"))
    second, _ = deidentified(scan(PatientID="2"))
    assert first.PatientName != second.PatientName


def test_without_an_id_the_name_has_its_own_pseudonym() -> None:
    done, _ = deidentified(scan(PatientID=""))
    assert done.PatientName == pseudonym(KEY, "PatientName", "Doe^Jane")
    assert done.PatientID == ""


def test_identifiers_have_pseudonyms_and_nothing_stays_nothing() -> None:
    done, _ = deidentified(scan(AccessionNumber="A1", StudyID="", DeviceSerialNumber="77", StationName="CT1"))
    assert done.AccessionNumber == pseudonym(KEY, "AccessionNumber", "A1")
    assert done.DeviceSerialNumber == pseudonym(KEY, "DeviceSerialNumber", "77")
    assert done.StationName == "ANONYMIZED"
    assert done["StudyID"].value in ("", None)


def test_dates_at_every_depth_move_together_and_times_stay() -> None:
    inner = Dataset()
    inner.ScheduledProcedureStepStartDate = "20240229"
    inner.ReferencedDateTime = "20240301101530.5+0100"
    dataset = scan(AcquisitionDateTime="20240302", SharedFunctionalGroupsSequence=[inner])
    done, _ = deidentified(dataset)
    days = shift_days(Pseudonyms(KEY), "0815")
    assert (as_day(done.StudyDate) - as_day("20240301")).days == days
    assert (as_day(done.AcquisitionDateTime) - as_day(done.StudyDate)).days == 1
    nested = done.SharedFunctionalGroupsSequence[0]
    assert (as_day(done.StudyDate) - as_day(nested.ScheduledProcedureStepStartDate)).days == 1
    assert nested.ReferencedDateTime == f"{done.StudyDate}101530.5+0100"
    assert done.StudyTime == "101530"


def as_day(text: str) -> Any:
    from datetime import datetime  # noqa: PLC0415

    return datetime.strptime(text[:8], "%Y%m%d")


@pytest.mark.parametrize(
    ("keyword", "value", "left"),
    [
        ("StudyDate", "no date", ""),
        ("AdmittingDate", "20240231", None),
        ("SafePositionExitDate", "Doe", "19000101"),
        ("ContentTime", "Doe^Jane", "000000"),
        ("SeriesDate", ["20240301", "Doe"], "19000101"),
        ("ExpirationDateTime", "soon", None),
    ],
)
def test_what_is_no_date_goes_as_the_table_says(keyword: str, value: Any, left: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done, report = deidentified(scan(**{keyword: value}))
    assert (done.get(keyword) or "" if keyword in done else None) == left
    assert keyword in (report.removed if left is None else report.replaced)


def test_birth_goes_and_is_not_shifted() -> None:
    done, _ = deidentified(scan(PatientBirthDate="19500101", PatientBirthTime="1200", PatientAge="074Y"))
    assert done["PatientBirthDate"].value in ("", None)
    assert "PatientBirthTime" not in done
    assert "PatientAge" not in done, "the Basic Profile removes it"


@pytest.mark.parametrize(
    ("age", "left"),
    [
        ("089Y", "089Y"),
        ("090Y", "090Y"),
        ("091Y", "090Y"),
        ("104Y", "090Y"),
        ("104", "090Y"),
        ("018M", "018M"),
        ("999D", "999D"),
        (["093Y"], "090Y"),
    ],
)
def test_ages_above_89_are_one_group_even_where_kept(age: Any, left: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done, _ = deidentified(scan(PatientAge=age), keep=["PatientAge"])
    assert done.PatientAge == left


def test_without_a_patient_the_study_sets_the_shift_and_the_report_says_so() -> None:
    done, report = deidentified(scan(PatientID=""))
    days = shift_days(Pseudonyms(KEY), "1.2.3")
    assert (as_day(done.StudyDate) - as_day("20240301")).days == days
    assert [each for each in report.warnings if "shifted by StudyInstanceUID" in each]
    nobody = Dataset()
    nobody.StudyDate = "20240301"
    _, report = deidentified(nobody)
    assert [each for each in report.warnings if "shifted by the key alone" in each]
    assert nobody.StudyDate != "20240301"


def test_uids_are_replaced_alike_everywhere_and_registered_ones_stay() -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = "1.2.3.1"
    dataset = scan(
        SourceImageSequence=[reference],
        FrameOfReferenceUID="1.2.840.10008.1.4.1.1",
        FailedSOPInstanceUIDList=["1.2.3.1", "1.2.3"],
        SOPInstanceUIDOfConcatenationSource="1.2.3",
    )
    done, _ = deidentified(dataset)
    assert done.SOPInstanceUID == new_uid(KEY, "1.2.3.1") == done.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert done.SourceImageSequence[0].ReferencedSOPClassUID == done.SOPClassUID == CTImageStorage
    assert done.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert list(done.FailedSOPInstanceUIDList) == [done.SOPInstanceUID, done.StudyInstanceUID]
    assert done.SOPInstanceUIDOfConcatenationSource == done.StudyInstanceUID


def test_sequences_go_become_empty_or_are_cleaned() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "4711", "SCT", "Doctor Doe"
    done, _ = deidentified(
        scan(
            ReferencedPatientSequence=[scan()],
            AcquisitionContextSequence=[code],
            InstitutionCodeSequence=[code],
            ProcedureCodeSequence=[scan()],
            SharedFunctionalGroupsSequence=[],
        )
    )
    assert "ReferencedPatientSequence" not in done
    assert len(done.AcquisitionContextSequence) == 0
    assert done.InstitutionCodeSequence[0].CodeMeaning == "ANONYMIZED"
    assert done.InstitutionCodeSequence[0].CodingSchemeDesignator == "99MEDVEIL"
    assert done.ProcedureCodeSequence[0].PatientID == done.PatientID
    assert len(done.SharedFunctionalGroupsSequence) == 0


def test_what_is_written_when_nothing_is_kept() -> None:
    done, report = deidentified(scan())
    assert done.PatientIdentityRemoved == "YES"
    assert codes(done) == ["113100", "113107"]
    assert done.LongitudinalTemporalInformationModified == "MODIFIED"
    assert all(len(text) <= 64 for text in done.DeidentificationMethod)
    item = done.DeidentificationMethodCodeSequence[0]
    assert (item.CodingSchemeDesignator, item.CodeMeaning) == ("DCM", "Basic Application Confidentiality Profile")
    assert report.warnings == []


def test_burned_in_annotation_is_left_as_it_is() -> None:
    done, report = deidentified(scan(BurnedInAnnotation="YES"))
    assert done.BurnedInAnnotation == "YES"
    assert [each for each in report.warnings if "BurnedInAnnotation" in each]


def test_what_an_earlier_tool_cleaned_stays_said_and_its_text_goes() -> None:
    earlier = []
    for value in ("113100", "113101", "113106", "Doe"):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "for Jane Doe"
        earlier.append(item)
    done, _ = deidentified(scan(DeidentificationMethodCodeSequence=earlier, DeidentificationMethod="by Jane Doe"))
    assert codes(done) == ["113100", "113101", "113107"]
    assert "Doe" not in str(done)


def test_kept_attributes_stay_at_every_depth_and_are_owned_up_to() -> None:
    inner = Dataset()
    inner.PatientSex = "F"
    dataset = scan(PatientSex="F", PatientWeight="61.5", SharedFunctionalGroupsSequence=[inner])
    done, report = deidentified(dataset, keep=["PatientSex", "PatientWeight"])
    assert (done.PatientSex, done.PatientWeight) == ("F", 61.5)
    assert done.SharedFunctionalGroupsSequence[0].PatientSex == "F"
    assert "113100" not in codes(done), "the Basic Profile would have emptied them"
    assert codes(done) == ["113107"]
    assert [text for text in done.DeidentificationMethod if "PatientWeight" in text]
    assert done.PatientIdentityRemoved == "YES"
    assert report.warnings == []


def test_keeping_what_the_table_does_not_name_unmakes_no_claim() -> None:
    done, _ = deidentified(scan(Manufacturer="ACME"), keep=["Manufacturer", "PatientSex"])
    assert codes(done) == ["113100", "113107"], "PatientSex is not in the file"


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyInstanceUID", "SOPInstanceUID", "OperatorsName"])
def test_keeping_what_identifies_directly_is_warned_about(keyword: str) -> None:
    done, report = deidentified(scan(OperatorsName="Roe^Richard"), keep=[keyword])
    assert report.warnings == [f"{keyword} is kept and identifies the patient directly"]
    assert done.PatientIdentityRemoved == "NO"
    assert done[keyword].value == scan(OperatorsName="Roe^Richard")[keyword].value


def test_keeping_a_date_is_warned_about_and_ends_the_claim_of_modified_dates() -> None:
    done, report = deidentified(scan(), keep=["StudyDate"])
    assert done.StudyDate == "20240301"
    assert codes(done) == []
    assert "DeidentificationMethodCodeSequence" not in done, "an empty one would be invalid"
    assert report.warnings == ["StudyDate is kept as it is while other dates are shifted"]


def test_a_kept_sequence_is_cleaned_inside() -> None:
    done, report = deidentified(
        scan(RequestAttributesSequence=[scan(RequestedProcedureDescription="CT of Jane Doe")]),
        keep=["RequestAttributesSequence"],
    )
    item = done.RequestAttributesSequence[0]
    assert item.PatientName == done.PatientName
    assert not item.RequestedProcedureDescription
    assert "113100" not in codes(done)
    assert report.warnings == []


@pytest.mark.parametrize(("keyword", "near"), [("PatientsSex", "PatientSex"), ("Patient Name", "PatientName")])
def test_an_unknown_keyword_is_refused_with_the_nearest(keyword: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        Deidentifier(KEY, keep=[keyword])


def test_a_keyword_without_neighbours_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="no DICOM keyword; a keyword of the standard"):
        Deidentifier(KEY, keep=["0123456789"])


def with_private(dataset: Dataset) -> Dataset:
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0D, "CS", "DIRECTIONAL")
    block.add_new(0x0F, "DT", "20240301")
    block.add_new(0x10, "UI", "1.2.3")
    block.add_new(0x11, "UN", b"\xfe\xff\x00\xe0\x08\x00\x00\x00John^Doe")
    inner = scan()
    inner.private_block(0x0029, "OTHER", create=True).add_new(0x01, "LO", "Doe")
    block.add_new(0x12, "SQ", Sequence([inner]))
    # The same element under another creator, which is not safe.
    dataset.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "LO", "Jane Doe")
    return dataset


def test_private_attributes_go() -> None:
    done, report = deidentified(with_private(scan()))
    assert not [tag for tag in done.keys() if tag.is_private]  # noqa: SIM118 - not its elements
    assert "(0019,100C)" in report.removed and "(0019,0010)" in report.removed
    assert "Doe" not in str(report)


def test_private_attributes_listed_as_safe_stay_with_their_creator_alone() -> None:
    listed = ["SIEMENS MR HEADER:0019,0C", "SIEMENS MR HEADER:0019,xx0F", "siemens mr header:0019,0D"]
    done, _ = deidentified(with_private(scan()), safe_private=listed)
    block = done.private_block(0x0019, "SIEMENS MR HEADER")
    assert block[0x0C].value == 1000
    assert block[0x0F].value == done.StudyDate, "dates among them move with the others"
    assert 0x0D not in block
    with pytest.raises(KeyError):
        done.private_block(0x0019, "SOMEBODY ELSE")
    assert codes(done) == ["113100", "113107", "113111"]


def test_safe_uids_are_replaced_and_safe_sequences_cleaned() -> None:
    listed = [f"SIEMENS MR HEADER:0019,{element}" for element in ("10", "11", "12")]
    done, _ = deidentified(with_private(scan()), safe_private=listed)
    block = done.private_block(0x0019, "SIEMENS MR HEADER")
    assert block[0x10].value == done.StudyInstanceUID
    assert 0x11 not in block, "a sequence that nobody can read"
    item = block[0x12].value[0]
    assert item.PatientName == done.PatientName
    assert not [tag for tag in item.keys() if tag.is_private]  # noqa: SIM118 - not its elements


@pytest.mark.parametrize(
    "text", ["", "0019,0C", "A:0018,0C", "A:0019", "A:0019,100C", ":0019,0C", "A:0007,01", "A\\B:0019,0C"]
)
def test_private_attributes_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--safe-private"):
        Deidentifier(KEY, safe_private=[text])


def as_file(dataset: Dataset) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.3.4"
    meta.ImplementationVersionName = "SCANNER 7"
    meta.SourceApplicationEntityTitle = "CT_ROOM_7"
    target = io.BytesIO()
    FileDataset("", dataset, b"x" * 128, meta).save_as(target)
    target.seek(0)
    return dcmread(target)


def test_the_file_meta_names_medveil_and_nothing_of_the_scanner() -> None:
    dataset = as_file(scan())
    report = Deidentifier(KEY).apply(dataset)
    assert dataset.preamble == bytes(128)
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert dataset.file_meta.ImplementationClassUID == IMPLEMENTATION_UID
    assert dataset.file_meta.ImplementationVersionName.startswith("MEDVEIL")
    assert "SourceApplicationEntityTitle" not in dataset.file_meta
    assert "SourceApplicationEntityTitle" in report.removed
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    assert b"CT_ROOM_7" not in target.getvalue() and b"SCANNER" not in target.getvalue()


def test_an_empty_file_meta_stays_empty() -> None:
    dataset = scan()
    dataset.file_meta = FileMetaDataset()
    Deidentifier(KEY).apply(dataset)
    assert len(dataset.file_meta) == 0


def test_free_text_that_stays_is_named() -> None:
    _, report = deidentified(scan(DetectorDescription="a detector", CodingSchemeName="a scheme"))
    assert report.warnings == ["DetectorDescription is free text, which Annex E lets stay: look at it"]


def test_reports_name_each_attribute_once_and_no_value() -> None:
    _, report = deidentified(scan(StudyDescription="of Jane", ProcedureCodeSequence=[scan(StudyDescription="Doe")]))
    assert report.removed == ["StudyDescription"]
    assert report.replaced == sorted(set(report.replaced))
    assert {"PatientName", "PatientID", "StudyDate", "SOPInstanceUID"} <= set(report.replaced)
    assert "StudyTime" not in report.replaced and "SOPClassUID" not in report.replaced
    assert "Jane" not in str(report) and "0815" not in str(report)


def test_pydicom_quotes_no_value_in_warnings_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    dataset = as_file(scan())
    target = io.BytesIO()
    dataset.save_as(target)
    broken = dcmread(io.BytesIO(target.getvalue().replace(b"1.2.3\0", b"J.Doe\0")))
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        Deidentifier(KEY).apply(broken)
    assert "Doe" not in " ".join(str(each.message) for each in caught) + caplog.text
    assert not logging.getLogger("pydicom").disabled


def test_processes_agree_on_patients_dates_and_uids() -> None:
    code = (
        "from pydicom import Dataset\n"
        "from crypto.deid.deidentify import Deidentifier\n"
        "from crypto.keys import SiteKey\n"
        "ds = Dataset()\n"
        "ds.PatientID, ds.PatientName, ds.StudyDate, ds.StudyInstanceUID = '0815', 'Doe^J', '20240301', '1.2.3'\n"
        "Deidentifier(SiteKey(bytes(range(32)), 'elsewhere')).apply(ds)\n"
        "print(ds.PatientID, ds.PatientName, ds.StudyDate, ds.StudyInstanceUID)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "99"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    here, _ = deidentified(scan())
    assert run.stdout.split() == [here.PatientID, str(here.PatientName), here.StudyDate, here.StudyInstanceUID]


def test_another_key_makes_another_patient() -> None:
    here, _ = deidentified(scan())
    there = scan()
    Deidentifier(SiteKey(bytes(32), "south")).apply(there)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate"):
        assert here[keyword].value != there[keyword].value
