"""Training files: windowed and resized before they are hidden, and read by the client as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from crypto.dicom.kind import DICOM
from crypto.imaging.preprocess import to_square
from crypto.reading.dicom import frame_to_bytes
from fl_client.data.config import DataConfig
from fl_client.data.source import open_source

MakeDicom = Callable[..., Path]
RAMP = np.arange(48 * 64, dtype=np.int16).reshape(48, 64) - 1000
WHEEL = {
    "CT_small.dcm": 1,
    "MR_small_RLE.dcm": 1,
    "693_J2KI.dcm": 1,
    "examples_palette.dcm": 3,
    "examples_overlay.dcm": 1,
    "SC_rgb_rle_16bit_2frame.dcm": 3,
    "SC_rgb_jpeg_dcmtk.dcm": 3,
    "examples_ybr_color.dcm": 3,
    "dicomdirtests/77654033/CR1/6154": 1,
}
"""Grey of many depths, MONOCHROME1, palettes, colour, one frame and several; with the channels they come to have."""


def wheel(name: str) -> Path:
    return Path(get_testdata_file(name, download=False) or Path(pydicom.data.__file__).parent / "test_files" / name)


def client_pixels(root: Path, **settings: Any) -> np.ndarray:
    """What the client's source gives for all hidden images below a folder with one folder a class."""
    source = open_source(DataConfig(source="hidden", path=str(root), classes=["a", "b"], group_by="none", **settings))
    return np.stack([source.read(index) for index in range(len(source))])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(WHEEL))
def test_the_client_reads_exactly_the_ciphertext(steward: Any, name: str, tmp_path: Path) -> None:
    source = wheel(name)
    hidden = steward.hide(source, "training", size=64, block=16)
    header = DICOM.header(hidden)
    assert (header.purpose, header.channels, header.bits, header.height) == ("training", WHEEL[name], 8, 64)
    frames = range(header.frames)
    plain = [frame_to_bytes(source, frame if header.frames > 1 else None) for frame in frames]
    expected = np.stack([to_square(each, size=64, channels=header.channels) for each in plain])
    cipher = header.cipher(steward.key)
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    hidden.rename(folder / "image.dcm")
    read = client_pixels(tmp_path / "images", image_size=64, min_side=1)
    assert np.array_equal(read, cipher.encrypt(expected))
    # Ten lines of anybody's: pixel_array, nothing else.
    stored = pydicom.dcmread(folder / "image.dcm").pixel_array.reshape(len(frames), 64, 64, -1).transpose(0, 3, 1, 2)
    assert np.array_equal(stored, read)
    shown = pydicom.dcmread(steward.show(folder / "image.dcm")).pixel_array
    assert np.array_equal(shown.reshape(len(frames), 64, 64, -1).transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_and_windows_of_the_recipe(make_dicom: MakeDicom, steward: Any, channels: int) -> None:
    source = make_dicom(RAMP, WindowCenter="0", WindowWidth="9", RescaleSlope="2", RescaleIntercept="-100")
    hidden = steward.hide(source, "training", channels=channels, window=(40.0, 400.0))
    expected = to_square(frame_to_bytes(source, None, window=(40.0, 400.0)), size=32, channels=channels)
    shown = pydicom.dcmread(steward.show(hidden)).pixel_array.reshape(32, 32, -1).transpose(2, 0, 1)
    assert np.array_equal(shown, expected)


def test_what_was_applied_is_dropped(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(
        RAMP,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter="0",
        WindowWidth="900",
        WindowCenterWidthExplanation="LUNG",
        RescaleSlope="2",
        RescaleIntercept="-100",
        RescaleType="HU",
        PresentationLUTShape="INVERSE",
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=3,
    )
    for path in (hidden := steward.hide(source, "training"), steward.show(hidden)):
        dataset = pydicom.dcmread(path)
        assert dataset.PhotometricInterpretation == "MONOCHROME2"
        assert (dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation) == (8, 8, 0)
        gone = ("Window", "Rescale", "Shutter", "Presentation")
        assert [element.keyword for element in dataset if element.keyword.startswith(gone)] == []


def test_geometry_follows_the_size(make_dicom: MakeDicom, steward: Any) -> None:
    """The corners of the image stay where they were in space."""
    source = make_dicom(
        RAMP,
        PixelSpacing=["0.5", "0.75"],
        ImagerPixelSpacing=["1", "2"],
        ImagePositionPatient=["1", "2", "3"],
        ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"],
    )
    before, after = pydicom.dcmread(source), pydicom.dcmread(steward.hide(source, "training"))
    assert [float(value) for value in after.PixelSpacing] == pytest.approx([0.5 * 48 / 32, 0.75 * 64 / 32])
    assert [float(value) for value in after.ImagerPixelSpacing] == pytest.approx([48 / 32, 2 * 64 / 32])
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert corner_of(before, *corner) == pytest.approx(corner_of(after, *corner))
    assert "PixelAspectRatio" not in after


def corner_of(dataset: Dataset, down: int, across: int) -> list[float]:
    """A corner of the image in patient coordinates (PS3.3 C.7.6.2.1.1), half a pixel outside the outer centres."""
    position = np.array(dataset.ImagePositionPatient, float)
    along_row, along_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    row_spacing, column_spacing = (float(value) for value in dataset.PixelSpacing)
    i, j = across * dataset.Columns - 0.5, down * dataset.Rows - 0.5
    return list(position + along_row * column_spacing * i + along_column * row_spacing * j)


def test_aspect_without_spacing(make_dicom: MakeDicom, steward: Any) -> None:
    flat = pydicom.dcmread(steward.hide(make_dicom(RAMP), "training"))
    assert list(flat.PixelAspectRatio) == [3, 4]
    square = pydicom.dcmread(steward.hide(make_dicom(RAMP, PixelAspectRatio=["4", "3"]), "training"))
    assert "PixelAspectRatio" not in square


def test_a_spacing_that_is_none_goes_with_a_warning(make_dicom: MakeDicom, steward: Any) -> None:
    after = pydicom.dcmread(steward.hide(make_dicom(RAMP, PixelSpacing=["0", "1"]), "training"))
    assert "PixelSpacing" not in after
    assert any("spacing" in warning for warning in steward.report.warnings)


@pytest.mark.parametrize(
    ("sop_class", "frames", "becomes"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", 1, "1.2.840.10008.5.1.4.1.1.7"),
        ("1.2.840.10008.5.1.4.1.1.2.1", 3, "1.2.840.10008.5.1.4.1.1.7.2"),
        ("1.2.840.10008.5.1.4.1.1.6.1", 1, "1.2.840.10008.5.1.4.1.1.6.1"),
        ("1.2.840.10008.5.1.4.1.1.12.1", 3, "1.2.840.10008.5.1.4.1.1.12.1"),
    ],
)
def test_a_class_that_cannot_hold_it_becomes_secondary_capture(
    make_dicom: MakeDicom, steward: Any, sop_class: str, frames: int, becomes: str
) -> None:
    hidden = steward.hide(make_dicom(np.stack([RAMP] * frames), SOPClassUID=sop_class), "training")
    dataset = pydicom.dcmread(hidden)
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == becomes
    if becomes.endswith(".7.2"):
        # A.8.3 asks for them; the client's modality LUT with a slope of 1 changes nothing.
        assert (dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType) == (0, 1, "US")
        assert dataset.PresentationLUTShape == "IDENTITY"
        assert len(dataset.PageNumberVector) == frames
        shown = steward.show(hidden)
        stored = pydicom.dcmread(shown).pixel_array[1]
        assert np.array_equal(frame_to_bytes(shown, 1), stored)
    assert pydicom.dcmread(steward.hide(make_dicom(RAMP, SOPClassUID=sop_class))).SOPClassUID == sop_class


@pytest.mark.usefixtures("stand_in")
def test_a_sealed_training_file_gives_identity_back_but_not_the_original(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(RAMP, WindowCenter="0", WindowWidth="900")
    hidden = steward.hide(source, "training", identity="sealed")
    shown = pydicom.dcmread(steward.show(hidden))
    assert pydicom.dcmread(hidden).PatientID == "pseudonym"
    assert shown.PatientID == "17"
    assert shown.SOPInstanceUID != pydicom.dcmread(source).SOPInstanceUID
    assert (shown.Rows, shown.BitsStored) == (32, 8)
