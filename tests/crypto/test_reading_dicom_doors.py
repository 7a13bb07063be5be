"""One reader of DICOM at both doors: odd headers give the pixels of PS3.3, or one refusal that names the attribute."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from both_doors import both, steward, training
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, RLELossless

from crypto.reading.dicom import DicomImage, frame_to_bytes
from crypto.reading.dicom_file import parse_dicom
from crypto.reading.dicom_values import tag_of

RAMP = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 4
DicomOf = Callable[..., Dataset]


def raw(dataset: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """Put bytes into an attribute that pydicom would not write."""
    tag = Tag(tag_of(keyword))
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def texts(dataset: Dataset, **values: str) -> None:
    for keyword, value in values.items():
        raw(dataset, keyword, "DS", value.encode() + b" " * (len(value) % 2))


def lut(descriptor: list[int], data: bytes, vr: str = "OW") -> Dataset:
    item = Dataset()
    raw(item, "LUTDescriptor", "US", struct.pack("<HHH", *descriptor) if descriptor else b"")
    raw(item, "LUTData", vr, data)
    item.set_original_encoding(False, True)
    return item


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """C.11.2.1.2.1, value by value."""
    out = np.empty(values.shape)
    for place, x in np.ndenumerate(values):
        if x <= centre - 0.5 - (width - 1) / 2:
            out[place] = 0
        elif x > centre - 0.5 + (width - 1) / 2:
            out[place] = 255
        else:
            out[place] = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return out


def spread(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    low, high = np.percentile(values if counted is None else values[counted], (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1) * 255


def as_implicit(path: Path) -> Path:
    """The same bytes in Implicit VR Little Endian, without a preamble and without file meta information."""

    def elements(dataset: Dataset) -> bytes:
        made = b""
        for tag in sorted(dataset.keys()):
            element = dataset.get_item(tag)
            if element.VR == "SQ":
                inner = [elements(item) for item in dataset[tag].value]
                value = b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(each)) + each for each in inner)
            else:
                value = element.value or b""
            made += struct.pack("<HHL", tag.group, tag.element, len(value)) + value
        return made

    bare = path.with_suffix(".bare")
    bare.write_bytes(elements(pydicom.dcmread(path)))
    return bare


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What both doors make of a data set, however it is encoded."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)

    def see(dataset: Dataset, *, window: tuple[float, float] | None = None) -> Any:
        path = tmp_path / "x.dcm"
        dataset.set_original_encoding(False, True)
        dataset.save_as(path, enforce_file_format=True)
        found = both(path, tmp_path, window=window)
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            implicit = as_implicit(path)
            again = both(implicit, tmp_path, window=window)
            assert np.array_equal(found, again), (found, again)
        return found

    return see


def close(seen: Any, expected: np.ndarray) -> None:
    assert not isinstance(seen, str), seen
    assert np.abs(seen[0, ..., 0].astype(float) - expected).max() <= 0.51


WINDOW = {"WindowCenter": "2048", "WindowWidth": "2000"}
STORED = RAMP.astype(float)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"RescaleSlope": "-1", "RescaleIntercept": "4095"}, 4095 - STORED),
        ({"RescaleSlope": "-10", "RescaleIntercept": "30000"}, 30000 - 10 * STORED),
        ({"RescaleSlope": "2", "RescaleIntercept": "-1024"}, 2 * STORED - 1024),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, STORED),
        ({"RescaleSlope": "", "RescaleIntercept": ""}, STORED),
        ({"RescaleSlope": "", "RescaleIntercept": "-1024"}, STORED),
        ({"RescaleSlope": "2", "RescaleIntercept": ""}, 2 * STORED),
        ({"RescaleSlope": " 1.0 ", "RescaleIntercept": "+1e1"}, STORED + 10),
    ],
)
def test_slopes(dicom_of: DicomOf, seen: Callable[..., Any], given: dict[str, str], values: np.ndarray) -> None:
    dataset = dicom_of(RAMP, bits=12)
    texts(dataset, **given, **WINDOW)
    close(seen(dataset), linear(values, 2048, 2000))
    texts(dataset, WindowCenter="", WindowWidth="")
    close(seen(dataset), spread(values))


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("value", ["1,5", "NA", "1.5mm", "nan", "inf", "1e999", "0x10", "1 2"])
def test_what_is_no_number_is_named(dicom_of: DicomOf, seen: Callable[..., Any], keyword: str, value: str) -> None:
    dataset = dicom_of(RAMP, bits=12)
    texts(dataset, **({"RescaleSlope": "1", "RescaleIntercept": "0", **WINDOW} | {keyword: value}))
    refusal = seen(dataset)
    assert isinstance(refusal, str)
    assert refusal.startswith(f"its {keyword} is no")
    assert "; " in refusal
    assert "Error" not in refusal
    if keyword.startswith("Window"):
        close(seen(dataset, window=(2048.0, 2000.0)), np.clip((STORED - 1048) / 2000, 0, 1) * 255)


@pytest.mark.parametrize(
    ("given", "window"),
    [
        ({"WindowCenter": "\\2048", "WindowWidth": "\\2000"}, (2048, 2000)),
        ({"WindowCenter": "2048\\10", "WindowWidth": "2000"}, (2048, 2000)),
        ({**WINDOW, "VOILUTFunction": "NORMAL"}, (2048, 2000)),
        ({"WindowCenter": "2048", "WindowWidth": "1"}, (2048, 1)),
        ({"WindowCenter": "2048", "WindowWidth": "0"}, None),
        ({"WindowCenter": "2048"}, None),
    ],
)
def test_windows(
    dicom_of: DicomOf, seen: Callable[..., Any], given: dict[str, str], window: tuple[float, float] | None
) -> None:
    dataset = dicom_of(RAMP, bits=12)
    texts(dataset, **given)
    close(seen(dataset), spread(STORED) if window is None else linear(STORED, *window))


def test_windows_of_small_units_and_of_other_functions(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    dataset = dicom_of(RAMP, bits=12)
    texts(dataset, RescaleSlope="1e-8", RescaleIntercept="0", WindowCenter="1e-5", WindowWidth="2e-5")
    close(seen(dataset), np.clip(STORED / 2000, 0, 1) * 255)
    texts(dataset, RescaleSlope="1", WindowCenter="2048", WindowWidth="1000", VOILUTFunction="SIGMOID")
    close(seen(dataset), 255 / (1 + np.exp(-4 * (STORED - 2048) / 1000)))
    texts(dataset, VOILUTFunction="LINEAR_EXACT")
    close(seen(dataset), np.clip((STORED - 1548) / 1000, 0, 1) * 255)
    texts(dataset, WindowWidth="-1000")
    assert seen(dataset).startswith("its WindowWidth is negative; ")


@pytest.mark.parametrize(
    "given",
    [
        (8, np.arange(4096) // 16, "<u2", "US"),
        (8, np.arange(4096) // 16, "<u2", "OW"),
        (8, np.arange(4096) // 16, "u1", "OW"),
        (12, np.arange(4096)[::-1], "<u2", "OW"),
        (16, np.arange(4096) * 16 + 15, "<u2", "OW"),
        (8, np.arange(4096) * 16 + 15, "<u2", "OW"),
        (14, np.arange(4096) * 4, "<u2", "US"),
    ],
)
def test_voi_luts(dicom_of: DicomOf, seen: Callable[..., Any], given: tuple[int, np.ndarray, str, str]) -> None:
    """Packed or in words, with more bits than the descriptor says, and more than 256 entries of 8 bits."""
    bits, entries, kind, vr = given
    dataset = dicom_of(RAMP, bits=12)
    dataset.VOILUTSequence = [lut([4096, 0, bits], entries.astype(kind).tobytes(), vr)]
    top = 2 ** max(bits, int(entries.max()).bit_length()) - 1
    close(seen(dataset), entries[RAMP] / top * 255)


def test_luts_that_start_late_end_early_or_hold_nothing(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    dataset = dicom_of(RAMP, bits=12)
    texts(dataset, **WINDOW)
    entries = np.arange(100, 1100)
    dataset.VOILUTSequence = [lut([1000, 500, 12], entries.astype("<u2").tobytes())]
    close(seen(dataset), entries[np.clip(RAMP.astype(int) - 500, 0, 999)] / 4095 * 255)
    empty, explained = lut([], b""), Dataset()
    explained.LUTExplanation = "Normal"
    dataset.VOILUTSequence = [empty, explained]
    close(seen(dataset), linear(STORED, 2048, 2000))
    dataset.VOILUTSequence = [lut([4096, 0, 12], entries.astype("<u2").tobytes())]
    refusal = seen(dataset)
    assert refusal.startswith("its LUTData has 1000 entries where its descriptor says 4096, in its VOILUTSequence; ")
    dataset.VOILUTSequence = [lut([4096, 0, 40], entries.astype("<u2").tobytes())]
    assert "LUTDescriptor claims entries of 40 bits" in seen(dataset)


@pytest.mark.parametrize("signed", [False, True])
def test_modality_luts(dicom_of: DicomOf, seen: Callable[..., Any], signed: bool) -> None:
    """Of signed values, the first one mapped is signed too, though tools write it as US."""
    entries = (np.arange(4096) ** 2 // 4096)[::-1].copy()
    stored = RAMP.astype(np.int16) - 2048 if signed else RAMP
    dataset = dicom_of(stored, bits=12)
    dataset.ModalityLUTSequence = [lut([4096, 63488 if signed else 0, 12], entries.astype("<u2").tobytes())]
    texts(dataset, **WINDOW)
    close(seen(dataset), linear(entries[RAMP].astype(float), 2048, 2000))
    texts(dataset, WindowCenter="", WindowWidth="")
    close(seen(dataset), spread(entries[RAMP].astype(float)))


@pytest.mark.parametrize(
    ("bits", "data"),
    [
        (8, np.arange(256).astype("u1").tobytes()),
        (8, np.arange(256).astype("<u2").tobytes()),
        (16, (np.arange(256) * 257).astype("<u2").tobytes()),
        (16, (np.arange(256) * 256).astype("<u2").tobytes()),
        (16, np.arange(256).astype("<u2").tobytes()),
        (8, (np.arange(256) * 257).astype("<u2").tobytes()),
    ],
)
def test_palettes(dicom_of: DicomOf, seen: Callable[..., Any], bits: int, data: bytes) -> None:
    """Entries of 8 bits stand in bytes or in words; and in words that claim all 16 bits."""
    stored = RAMP.astype(np.uint8)
    dataset = dicom_of(stored)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        raw(dataset, f"{colour}PaletteColorLookupTableData", "OW", data)
    assert np.abs(seen(dataset)[0].astype(int) - stored[..., None]).max() <= 1
    assert np.array_equal(seen(dataset, window=(3.0, 2.0)), seen(dataset)), "a window is for grey"
    raw(dataset, "BluePaletteColorLookupTableData", "OW", data[:100])
    assert seen(dataset).startswith("its BluePaletteColorLookupTableData has ")


@pytest.mark.parametrize("width", [1, 2])
def test_palettes_in_segments(dicom_of: DicomOf, seen: Callable[..., Any], width: int) -> None:
    """C.7.9.2: a discrete one, a linear one, and a copy of both."""
    top = 2 ** (8 * width) - 1
    first = [0, 2, 0, top // 2, 1, 126, top]
    offset = [0, 0, 0, 0] if width == 1 else [0, 0]
    codes = [*first, 2, 2, *offset]
    stored = (RAMP // 4 % 256).astype(np.uint8)
    dataset = dicom_of(stored)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8 * width])
        data = np.asarray(codes, f"<u{width}").tobytes()
        raw(dataset, f"Segmented{colour}PaletteColorLookupTableData", "OW", data + bytes(len(data) % 2))
    once = [0, top // 2, *(top // 2 + (top - top // 2) * n / 126 for n in range(1, 127))]
    expected = np.asarray([*once, *once])[stored] / top * 255
    assert np.abs(seen(dataset)[0, ..., 1] - expected).max() <= 1.01
    # A table that would grow without end is no table.
    codes = [*first, 2, 200, *offset]
    raw(dataset, "SegmentedRedPaletteColorLookupTableData", "OW", np.asarray(codes, f"<u{width}").tobytes() + b"\0")
    assert "holds no segments that make 256 entries" in seen(dataset)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME1", "LIN OD", True),
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "LIN OD", False),
    ],
)
def test_inversion(
    dicom_of: DicomOf, seen: Callable[..., Any], photometric: str, shape: str | None, inverted: bool
) -> None:
    """As dcmtk has it: PresentationLUTShape counts before the photometric interpretation."""
    dataset = dicom_of(RAMP, bits=12)
    raw(dataset, "PhotometricInterpretation", "CS", b" " + photometric.encode())
    texts(dataset, **WINDOW)
    if shape is not None:
        dataset.PresentationLUTShape = shape
    expected = np.rint(linear(STORED, 2048, 2000))
    close(seen(dataset), 255 - expected if inverted else expected)


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_padding_of_signed_pixels(dicom_of: DicomOf, seen: Callable[..., Any], vr: str) -> None:
    stored = RAMP.astype(np.int16) // 4
    stored[:8] = -2000
    dataset = dicom_of(stored)
    raw(dataset, "PixelPaddingValue", vr, struct.pack("<h", -2000))
    close(seen(dataset), spread(stored.astype(float), stored != -2000))


def test_padding_of_two_values_and_of_a_range(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    stored = RAMP.copy()
    stored[:8], stored[8:10] = 4095, 4090
    dataset = dicom_of(stored, bits=12)
    raw(dataset, "PixelPaddingValue", "US", struct.pack("<HH", 4095, 0))
    close(seen(dataset), spread(stored.astype(float), stored != 4095))
    raw(dataset, "PixelPaddingRangeLimit", "US", struct.pack("<H", 4089))
    close(seen(dataset), spread(stored.astype(float), stored < 4089))


def test_sparse_images_are_seen_and_even_ones_are_named(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    counts = np.zeros((32, 32), np.uint16)
    counts[3, 4], counts[7, 7] = 400, 100
    dataset = dicom_of(counts)
    close(seen(dataset), counts / 400 * 255)
    texts(dataset, WindowCenter="5000", WindowWidth="100")
    refusal = seen(dataset)
    assert refusal.startswith("would be shown as one even area: its samples are 0 to 400, and its window")
    assert "the window asked for" in seen(dataset, window=(9000.0, 10.0))
    even = dicom_of(np.full((32, 32), 7, np.uint16))
    texts(even, WindowCenter="5000", WindowWidth="100")
    assert not seen(even).any()


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("NumberOfFrames", "IS", b"1.0 "),
        ("NumberOfFrames", "IS", b"0 "),
        ("NumberOfFrames", "IS", b""),
        ("Rows", "US", struct.pack("<HH", 32, 7)),
        ("BitsStored", "US", struct.pack("<HH", 12, 99)),
    ],
)
def test_counts_that_are_written_oddly(
    dicom_of: DicomOf, seen: Callable[..., Any], keyword: str, vr: str, value: bytes
) -> None:
    dataset = dicom_of(RAMP, bits=12)
    texts(dataset, **WINDOW)
    raw(dataset, keyword, vr, value)
    close(seen(dataset), linear(STORED, 2048, 2000))


@pytest.mark.parametrize("value", [b"1A", b"1.5 ", b"-3", b"99999999999", b"2 "])
def test_counts_that_cannot_be_are_named(dicom_of: DicomOf, seen: Callable[..., Any], value: bytes) -> None:
    dataset = dicom_of(RAMP, bits=12)
    raw(dataset, "NumberOfFrames", "IS", value)
    refusal = seen(dataset)
    assert isinstance(refusal, str)
    assert "frames" in refusal or "NumberOfFrames" in refusal or "contradict" in refusal


def test_samples_in_high_bits_are_refused_at_both_doors(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    dataset = dicom_of(RAMP << 4)
    dataset.BitsStored, dataset.HighBit = 12, 15
    refusal = seen(dataset)
    assert refusal.startswith("its samples of 12 bits end at bit 15 of 16-bit words; shift them down to bit 11")


def test_more_bits_than_are_said_are_kept_and_masked(
    dicom_of: DicomOf, tmp_path: Path, seen: Callable[..., Any]
) -> None:
    words = np.random.default_rng(3).integers(0, 2**16, (32, 32), dtype=np.uint16)
    dataset = dicom_of(words)
    dataset.BitsStored, dataset.HighBit = 12, 11
    texts(dataset, **WINDOW)
    close(seen(dataset), linear((words & 0xFFF).astype(float), 2048, 2000))
    kept = steward(tmp_path / "x.dcm", tmp_path, purpose="archive")
    assert not isinstance(kept, str)
    assert kept.tobytes() == words.tobytes()


def test_further_frames_are_refused(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    frames = np.stack([RAMP, RAMP.T])
    dataset = dicom_of(frames)
    dataset.NumberOfFrames = 1
    assert "bytes of pixel data where its header asks for 2048; correct NumberOfFrames" in seen(dataset)
    for syntax in (RLELossless, JPEG2000Lossless):
        dataset = dicom_of(np.stack([np.kron(RAMP, np.ones((2, 2), np.uint16))] * 2))
        dataset.compress(syntax)
        dataset.NumberOfFrames = 1
        assert seen(dataset) == "holds more than the one frame it says; correct NumberOfFrames"
        del dataset.NumberOfFrames
        assert seen(dataset) == "holds more than the one frame it says; correct NumberOfFrames"


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_claims_are_refused_by_the_header(dicom_of: DicomOf, seen: Callable[..., Any], side: int) -> None:
    dataset = dicom_of(np.kron(RAMP, np.ones((2, 2), np.uint16)))
    dataset.compress(JPEG2000Lossless)
    dataset.Rows = dataset.Columns = side
    assert f"{side} x {side} pixels" in seen(dataset)
    assert "134217728" in seen(dataset)


def test_claims_that_the_codestream_does_not_hold(dicom_of: DicomOf, seen: Callable[..., Any]) -> None:
    dataset = dicom_of(np.kron(RAMP, np.ones((2, 2), np.uint16)))
    dataset.compress(JPEG2000Lossless)
    dataset.Rows = dataset.Columns = 8000
    assert seen(dataset) == "frame 1 is of 64x64 pixels, not 8000x8000; correct Rows and Columns"
    dataset = dicom_of(RAMP)
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 8000
    assert "bytes of compressed pixels cannot hold 128000000 bytes of samples" in seen(dataset)


REPORTS: dict[str, dict[str, Any]] = {
    "a report": {"SeriesDescription": "Dose Report"},
    "a report stored": {"ImageType": ["DERIVED", "SECONDARY", "PATIENT_PROTOCOL"]},
    "a report stored as": {"ProtocolName": "Exam Summary"},
    "a report stored as an": {"SeriesDescription": "CT_DOSE_INFO", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
    "a report stored as an image": {"SeriesDescription": "Patientenprotokoll"},
    "a document": {"Modality": "DOC"},
    "a segmentation": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"},
    "a parametric map": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.30"},
    "an RT dose": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"},
    "a label map": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7"},
    "the LABEL image": {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6",
        "ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"],
    },
}


@pytest.mark.parametrize(("name", "attributes"), REPORTS.items())
def test_what_is_no_image_is_left_out_by_name(
    dicom_of: DicomOf, seen: Callable[..., Any], name: str, attributes: dict[str, Any]
) -> None:
    dataset = dicom_of(RAMP.astype(np.uint8))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    refusal = seen(dataset)
    assert isinstance(refusal, str)
    assert refusal.startswith(f"is {name}")


@pytest.mark.parametrize(
    "title", ["Chest PA", "Report excluded", "CT thorax dose reduced", "Lung protocol", "Low dose scan"]
)
def test_titles_of_images_are_no_reports(dicom_of: DicomOf, seen: Callable[..., Any], title: str) -> None:
    dataset = dicom_of(RAMP.astype(np.uint8))
    dataset.SeriesDescription = title
    assert not isinstance(seen(dataset), str)


def test_a_character_set_that_is_none_is_named(dicom_of: DicomOf, tmp_path: Path) -> None:
    dataset, path = dicom_of(RAMP), tmp_path / "x.dcm"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR\x00100"))
    refusal = both(path, tmp_path)
    assert isinstance(refusal, str)
    assert refusal.startswith("its SpecificCharacterSet (0008,0005) is not the name of a character set; ")


def test_the_header_of_many_frames_is_read_once(
    dicom_of: DicomOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dicom_of(np.stack([RAMP + n for n in range(20)]))
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    read: list[Path] = []

    def counted(path: Path, *rest: Any) -> Any:
        read.append(path)
        return parse_dicom(path, *rest)

    monkeypatch.setattr("crypto.reading.dicom_file.parse_dicom", counted)
    assert len(training(tmp_path / "x.dcm", tmp_path)) == 20
    assert len(read) == 2, "once for the listing and once for the frames"


def test_a_file_that_changes_between_frames_is_said(dicom_of: DicomOf, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    dicom_of(np.stack([RAMP, RAMP])).save_as(path, enforce_file_format=True)
    image = DicomImage(path)
    image.shown(0)
    dicom_of(np.stack([RAMP] * 3)).save_as(path, enforce_file_format=True)
    with pytest.raises(Exception, match="changed while it was read"):
        image.shown(1)


@pytest.mark.parametrize("written", [" P02", "P02 ", "P02\0", " P02 "])
def test_padding_makes_no_second_patient(dicom_of: DicomOf, tmp_path: Path, written: str) -> None:
    dataset = dicom_of(RAMP)
    raw(dataset, "PatientID", "LO", written.encode())
    raw(dataset, "PatientName", "PN", b"Doe^Jane^^ ")
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    image = DicomImage(tmp_path / "x.dcm")
    assert image.text("PatientID") == "P02"
    assert image.text("PatientName") == "Doe^Jane"
    assert image.text("InstitutionName") == ""


def test_names_are_read_in_their_character_set(dicom_of: DicomOf, tmp_path: Path) -> None:
    dataset = dicom_of(RAMP)
    dataset.SpecificCharacterSet, dataset.InstitutionName = "ISO_IR 192", " Universitätsklinikum "
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert DicomImage(tmp_path / "x.dcm").text("InstitutionName") == "Universitätsklinikum"
    assert DicomImage(tmp_path / "x.dcm").text("Rows") == "32"


@pytest.mark.parametrize("deep", [8, 16])
def test_colours_of_any_depth(dicom_of: DicomOf, tmp_path: Path, deep: int) -> None:
    """The formula of C.7.6.3.1.2, also where pydicom converts none."""
    rng = np.random.default_rng(5)
    stored = rng.integers(0, 2**deep, (32, 32, 3)).astype(f"u{deep // 8}")
    dataset = dicom_of(stored)
    dataset.PhotometricInterpretation = "YBR_FULL"
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    y, blue, red = (stored[..., channel].astype(float) for channel in range(3))
    middle, top = 2.0 ** (deep - 1), 2**deep - 1
    cb, cr = blue - middle, red - middle
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    expected = np.clip(rgb, 0, top) / top * 255
    assert np.abs(frame_to_bytes(tmp_path / "x.dcm") - expected).max() <= 1.01
    assert both(tmp_path / "x.dcm", tmp_path, window=(10.0, 5.0)).shape == (1, 32, 32, 3)
