"""Data sets that no writer should have written: nothing raises, and what cannot be read does not stay."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, FileMetaDataset, Sequence, dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from crypto.deid.cleaning import DEEPEST
from crypto.deid.deidentify import Deidentifier
from crypto.deid.table import ANNEX_E
from crypto.keys import SiteKey

KEY = SiteKey(bytes(range(32)), "north")


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def raw(tag: int, vr: str | None, value: bytes | None, *, implicit: bool = False) -> RawDataElement:
    length = 0 if value is None else len(value)
    return RawDataElement(Tag(tag), vr, length, value, 0, implicit, True)


def holding(*elements: RawDataElement) -> Dataset:
    dataset = Dataset()
    for element in elements:
        dataset._dict[element.tag] = element
    return dataset


@pytest.mark.parametrize(
    "element",
    [
        raw(0x00280010, "US", b"JOHNDOE"),
        raw(0x00200013, "IS", b"John Doe"),
        raw(0x00180050, "DS", b"John Doe"),
        raw(0x00280010, "ZZ", b"John Doe"),
        raw(0x00080016, "UI", b"John Doe"),
        raw(0x00080FFE, "LO", b"John Doe"),
        raw(0x00080070, "SQ", b"John Doe"),
    ],
    ids=["number of 7 bytes", "integer", "decimal", "no VR", "UID", "unknown tag", "no sequence"],
)
def test_what_cannot_be_read_is_removed_and_named(element: RawDataElement) -> None:
    dataset = holding(element)
    report = Deidentifier(KEY).apply(dataset)
    assert element.tag not in dataset
    assert report.removed and "John" not in str(report)


@pytest.mark.parametrize(
    "element",
    [
        raw(0x00081115, "SQ", b"John Doe"),
        raw(0x00081140, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\x7fJohn"),
        raw(0x00081115, None, b"\xfe\xff\x00\xe0\x08\x00\x00\x00John Doe"),
    ],
    ids=["no items", "item too long", "no element"],
)
def test_of_a_sequence_in_ruins_no_byte_is_written(element: RawDataElement) -> None:
    dataset = holding(element)
    Deidentifier(KEY).apply(dataset)
    target = io.BytesIO()
    dataset.save_as(target, implicit_vr=False, little_endian=True)
    assert b"John" not in target.getvalue()


def test_even_where_it_was_to_be_kept() -> None:
    dataset = holding(raw(0x00101030, "DS", b"John Doe"), raw(0x00100040, "CS", b"F "))
    report = Deidentifier(KEY, keep=["PatientWeight", "PatientSex"]).apply(dataset)
    assert report.removed == ["PatientWeight"]
    assert dataset.PatientSex == "F"


def test_a_deferred_value_whose_file_is_gone_is_removed() -> None:
    dataset = holding(RawDataElement(Tag(0x00282000), "OB", 4000, None, 100, False, True))
    report = Deidentifier(KEY).apply(dataset)
    assert report.removed == ["ICCProfile"]


def test_a_deferred_value_is_read_and_replaced(tmp_path: Any) -> None:
    dataset = Dataset()
    dataset.PatientID = "Doe" * 20
    dataset.RequestedProcedureDescription = "Jane" * 10
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    read = dcmread(tmp_path / "a.dcm", force=True, defer_size=16)
    Deidentifier(KEY).apply(read)
    assert len(read.PatientID) == 16
    assert not read.RequestedProcedureDescription


def test_pixels_are_not_read() -> None:
    """A deferred element of a file that is gone would raise."""
    dataset = holding(RawDataElement(Tag(0x7FE00010), "OW", 2**40, None, 100, False, True))
    assert Deidentifier(KEY).apply(dataset).removed == []
    assert 0x7FE00010 in dataset


def test_sequences_nested_without_end_are_cut() -> None:
    dataset = innermost = Dataset()
    for _ in range(2000):
        item = Dataset()
        item.PatientID = "0815"
        innermost.SharedFunctionalGroupsSequence = Sequence([item])
        innermost = item
    report = Deidentifier(KEY).apply(dataset)
    assert report.removed == ["SharedFunctionalGroupsSequence"]
    depth = 0
    while "SharedFunctionalGroupsSequence" in dataset:
        dataset = dataset.SharedFunctionalGroupsSequence[0]
        depth += 1
        assert dataset.PatientID != "0815"
    assert depth == DEEPEST


def test_a_sequence_under_a_tag_of_text_is_no_hiding_place() -> None:
    item = Dataset()
    item.PatientName = "Doe^Jane"
    for tag in (0x00080070, 0x00181020, 0x00081030, 0x00100020):
        dataset = Dataset()
        dataset.add_new(tag, "SQ", Sequence([item]))
        Deidentifier(KEY, keep=["SoftwareVersions"]).apply(dataset)
        assert "Doe" not in str(dataset)


def test_text_under_a_tag_of_numbers_is_none_either() -> None:
    dataset = Dataset()
    dataset.add_new(0x00280010, "LT", "Jane Doe")
    dataset.add_new(0x00080070, "PN", "Doe^Jane")
    assert Deidentifier(KEY).apply(dataset).removed == ["Manufacturer", "Rows"]


def test_what_is_written_replaces_ruins() -> None:
    dataset = holding(raw(0x00120062, "SQ", b"\0"), raw(0x00120063, "US", b"Doe"), raw(0x00120064, "LO", b"Doe"))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta._dict[Tag(0x00020003)] = raw(0x00020003, "SQ", b"\0")
    dataset.file_meta._dict[Tag(0x00020012)] = raw(0x00020012, "SQ", b"\0")
    Deidentifier(KEY).apply(dataset)
    assert (dataset.PatientIdentityRemoved, dataset["DeidentificationMethod"].VR) == ("YES", "LO")
    assert len(dataset.DeidentificationMethodCodeSequence) == 2
    assert dataset.file_meta.MediaStorageSOPInstanceUID == ""


def test_group_lengths_go_unsaid() -> None:
    dataset = holding(raw(0x00080000, "UL", struct.pack("<I", 4)))
    assert Deidentifier(KEY).apply(dataset).removed == []
    assert 0x00080000 not in dataset


@pytest.mark.parametrize(
    "charset", ["ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"], "GB18030", "Doe", "ISO_IR 999"]
)
def test_character_sets_of_every_kind(charset: Any) -> None:
    dataset = Dataset()
    dataset.PatientName = "Yamada^Tarou"
    dataset.PatientID = "0815"
    dataset.Manufacturer = "kept"
    dataset.InstitutionName = "Hospital"
    target = io.BytesIO()
    dataset.save_as(target, implicit_vr=False, little_endian=True)
    read = dcmread(io.BytesIO(target.getvalue()), force=True)
    read.SpecificCharacterSet = charset
    Deidentifier(KEY).apply(read)
    assert str(read.PatientName).startswith("ANON^")
    assert read.Manufacturer == "kept"


def test_names_in_another_script_leave_no_bytes() -> None:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    dataset.PatientID = "山田"
    target = io.BytesIO()
    Deidentifier(KEY).apply(dataset)
    dataset.save_as(target, implicit_vr=False, little_endian=True)
    for part in ("Yamada", "山田", "やまだ"):
        assert part.encode() not in target.getvalue()


VRS = [None, *sorted({vr for vr, *_ in DicomDictionary.values() if len(vr) == 2}), "UN", "ZZ"]
TAGS = st.one_of(st.sampled_from(sorted(DicomDictionary)), st.sampled_from(sorted(ANNEX_E)), st.integers(0, 2**32 - 1))
VALUES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"20240301", b"1.2.3\0", b"101530", b"\\\\", b"\xfe\xff\x00\xe0\0\0\0\0", b"Doe^Jane=x=y"]),
)
ELEMENTS = st.builds(raw, TAGS, st.sampled_from(VRS), VALUES, implicit=st.booleans())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(elements=st.lists(ELEMENTS, max_size=12), inner=st.lists(ELEMENTS, max_size=6))
def test_anything_at_all_is_cleaned_without_an_error(
    elements: list[RawDataElement], inner: list[RawDataElement]
) -> None:
    dataset = holding(*(element for element in elements if element.tag.group != 0x7FE0))
    # Put in unseen: pydicom's own ways read what stands beside it.
    dataset._dict[Tag(0x00081032)] = DataElement(0x00081032, "SQ", Sequence([holding(*inner)]))
    report = Deidentifier(KEY).apply(dataset)
    assert not [tag for tag in dataset.keys() if tag.is_private]  # noqa: SIM118 - not its elements
    for element in dataset:
        assert element.VR != "UN" or element.keyword == "SelectorUNValue", "what is unknown must not stay"
    assert all(isinstance(name, str) and name for name in [*report.removed, *report.replaced])


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_that_pydicom_reads_are_cleaned(data: bytes) -> None:
    try:
        dataset = dcmread(io.BytesIO(b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100" + data), force=True)
    except Exception:
        return
    Deidentifier(KEY).apply(dataset)
