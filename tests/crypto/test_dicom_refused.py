"""What is refused by name: nothing of it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MPEG2MPML, ExplicitVRLittleEndian

from crypto.dicom.kind import DICOM
from medveil.errors import DataError

MakeDicom = Callable[..., Path]
PIXELS = np.zeros((8, 8), np.uint8)
STORAGE = "1.2.840.10008.5.1.4.1.1"
BY_CLASS = {
    "1.2.840.10008.1.3.10": "a DICOMDIR",
    f"{STORAGE}.88.11": "a structured report",
    f"{STORAGE}.88.59": "a structured report",
    f"{STORAGE}.88.67": "a structured report",
    f"{STORAGE}.104.1": "an encapsulated document",
    f"{STORAGE}.104.2": "an encapsulated document",
    f"{STORAGE}.9.1.1": "a waveform",
    f"{STORAGE}.9.4.1": "a waveform",
    f"{STORAGE}.66.4": "a segmentation",
    f"{STORAGE}.66.5": "a surface segmentation",
    f"{STORAGE}.66.1": "raw data, a registration or fiducials",
    f"{STORAGE}.30": "a parametric map",
    f"{STORAGE}.481.2": "an RT dose",
    f"{STORAGE}.481.3": "an RT structure set",
    f"{STORAGE}.11.1": "a presentation state",
    f"{STORAGE}.11.12": "a presentation state",
    f"{STORAGE}.4.2": "MR spectroscopy",
    "1.2.840.10008.5.1.4.38.1": "a hanging protocol",
    "1.2.840.10008.5.1.4.39.1": "a colour palette",
}
ACCEPTED = (f"{STORAGE}.2", f"{STORAGE}.4", f"{STORAGE}.4.1", f"{STORAGE}.481.1", f"{STORAGE}.88")


def refused(steward: Any, source: Path) -> str:
    target = steward.home / "never"
    with pytest.raises(DataError) as caught:
        DICOM.hide(source, target, steward.recipe(), steward.key)
    with pytest.raises(DataError, match=r".*"):
        DICOM.examine(source, steward.recipe())  # type: ignore[attr-defined]
    assert not target.exists()
    assert caught.value.where == str(source)
    return str(caught.value)


@pytest.mark.parametrize(("sop_class", "name"), BY_CLASS.items())
@pytest.mark.parametrize("pixels", [True, False])
def test_classes_are_refused_even_with_pixels(
    make_dicom: MakeDicom, steward: Any, sop_class: str, name: str, pixels: bool
) -> None:
    source = make_dicom(PIXELS, SOPClassUID=sop_class)
    if not pixels:
        dataset = pydicom.dcmread(source)
        del dataset.PixelData
        dataset.save_as(source)
    assert f"is {name}" in refused(steward, source)


def test_only_those_classes(make_dicom: MakeDicom, steward: Any) -> None:
    """A stem refuses its family, not a class that merely starts with the same digits."""
    for sop_class in (*ACCEPTED[:-1], f"{STORAGE}.12.1", f"{STORAGE}.128", f"{STORAGE}.77.1.6"):
        steward.hide(make_dicom(PIXELS, SOPClassUID=sop_class))


@pytest.mark.parametrize("flavour", ["LABEL", "OVERVIEW"])
def test_labels_and_overviews_of_slides(make_dicom: MakeDicom, steward: Any, flavour: str) -> None:
    kind = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
    source = make_dicom(PIXELS, SOPClassUID=f"{STORAGE}.77.1.6", ImageType=kind)
    assert f"the {flavour} image of a whole slide" in refused(steward, source)


def test_floats(make_dicom: MakeDicom, steward: Any) -> None:
    for keyword, kind in (("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")):
        source = make_dicom(PIXELS, BitsAllocated=32)
        dataset = pydicom.dcmread(source)
        del dataset.PixelData
        setattr(dataset, keyword, PIXELS.astype(kind).tobytes())
        dataset.save_as(source)
        assert "floating-point" in refused(steward, source)


def test_depths(make_dicom: MakeDicom, steward: Any) -> None:
    assert "32-bit" in refused(steward, make_dicom(PIXELS.astype(np.uint32)))
    source = make_dicom(PIXELS, BitsAllocated=1, BitsStored=1, HighBit=0)
    assert "1-bit" in refused(steward, source)
    assert "64-bit" in refused(steward, make_dicom(PIXELS.astype(np.uint64)))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation"),
        ({"PhotometricInterpretation": "RGB"}, "photometric interpretation"),
        ({"PhotometricInterpretation": "YBR_RCT", "SamplesPerPixel": 3}, "photometric interpretation"),
        ({"SamplesPerPixel": 4}, "samples per pixel"),
        ({"Rows": 0}, "contradict"),
        ({"Rows": None}, "no valid Rows"),
        ({"BitsStored": 9}, "contradict"),
        ({"BitsStored": 0}, "contradict"),
        ({"PixelRepresentation": 2}, "contradict"),
        ({"Rows": 9}, "cut short"),
        ({"Rows": 4}, "bytes of pixel data"),
        ({"SOPInstanceUID": None}, "SOP instance UID"),
    ],
)
def test_attributes_that_cannot_be(
    dicom_of: Callable[..., Dataset], steward: Any, attributes: dict[str, Any], reason: str
) -> None:
    dataset = dicom_of(PIXELS)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    source = steward.home / "bad.dcm"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(source, enforce_file_format=False, implicit_vr=False, little_endian=True)
    data = source.read_bytes()
    source.write_bytes(data if data[128:132] == b"DICM" else bytes(128) + b"DICM" + data)
    assert reason in refused(steward, source)


def test_transfer_syntaxes(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(PIXELS)
    whole = source.read_bytes()
    for syntax, reason in (
        (MPEG2MPML, "does not decode"),
        ("1.2.3", "unknown transfer syntax"),
        ("", "no transfer syntax"),
    ):
        old = ExplicitVRLittleEndian.encode() + b"\0"
        new = syntax.encode() + b"\0" * (len(syntax) % 2)
        place = whole.index(old)
        length = len(new).to_bytes(2, "little")
        source.write_bytes(whole[: place - 2] + length + new + whole[place + len(old) :])
        assert reason in refused(steward, source)


@pytest.mark.parametrize("group", [0x0000, 0x0002, 0x0006])
def test_elements_of_no_data_set(make_dicom: MakeDicom, steward: Any, group: int) -> None:
    """Put in order they would come to stand before the data set, and be read as part of something else."""
    source = make_dicom(PIXELS)
    data = source.read_bytes()
    place = data.index(b"\x10\x00\x20\x00LO")
    alien = group.to_bytes(2, "little") + b"\x13\x00SH\x04\x00NAME"
    source.write_bytes(data[:place] + alien + data[place:])
    assert f"({group:04X},0013)" in refused(steward, source)


def test_objects_without_pixels(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(PIXELS)
    dataset = pydicom.dcmread(source)
    del dataset.PixelData
    dataset.save_as(source)
    assert "has no pixels (Secondary Capture Image Storage)" in refused(steward, source)


def damaged_class(path: Path, value: bytes, vr: bytes = b"UI") -> Path:
    """A file whose SOP class is `value`, as long as it was, while its file meta information is whole."""
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x16\x00")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    path.write_bytes(data[: at + 4] + vr + data[at + 6 : at + 8] + value.ljust(length, b"\0") + data[at + 8 + length :])
    return path


@pytest.mark.parametrize("value", [b"1.2.840\0\0\1\0.5.4", b"1.2 DOE^JANE", b"CT", b"\xff\xfe"])
@pytest.mark.parametrize("vr", [b"UI", b"LO", b"DA", b"SH"])
def test_a_class_that_is_no_uid_is_that_of_the_file_meta_information(
    make_dicom: MakeDicom, steward: Any, value: bytes, vr: bytes
) -> None:
    source = damaged_class(make_dicom(PIXELS + 7), value, vr)
    shown = pydicom.dcmread(steward.show(steward.hide(source, identity="removed")))
    assert shown.SOPClassUID == pydicom.dcmread(source).file_meta.MediaStorageSOPClassUID
    assert (shown.pixel_array == PIXELS + 7).all()


def test_what_is_said_of_a_class_quotes_nothing_that_stands_behind_it(make_dicom: MakeDicom, steward: Any) -> None:
    path = make_dicom(PIXELS, PatientName="DOE^JANE")
    made = pydicom.dcmread(path)
    del made.PixelData, made.file_meta.MediaStorageSOPClassUID
    made.SOPClassUID = "1.2.3.4.5.6.7.8"
    pydicom.dcmwrite(path, made)
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x16\x00UI")
    # A length that is damaged takes in what stands behind the value.
    path.write_bytes(data[: at + 6] + (120).to_bytes(2, "little") + data[at + 8 :])
    assert b"DOE^JANE" in path.read_bytes()[at + 8 : at + 128]
    said = refused(steward, path)
    assert "has no pixels (an object of no SOP class)" in said
    assert "DOE" not in said
    assert said.isprintable()
