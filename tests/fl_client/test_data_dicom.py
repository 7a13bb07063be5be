from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from crypto.reading.dicom import frame_to_bytes
from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source
from medveil.errors import DataError

RAMP = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 4


def write(path: Path, pixels: np.ndarray, **attributes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Rows, made.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[-3:-1]
    made.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.shape[-1] == 3 else "MONOCHROME2"
    if pixels.shape[-1] == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(made, name, value)
    made.PixelData = pixels.tobytes()
    made.save_as(path, enforce_file_format=True)
    return path


def dicom(root: Path, **settings: Any) -> Source:
    return open_source(DataConfig(source="dicom", path=str(root), **{"image_size": 32, **settings}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "dicom"
    for label in ("a", "b"):
        for i in range(3):
            write(root / label / f"{i}.dcm", RAMP + i, PatientID=f"{label}{i // 2}", InstitutionName="St. Mary")
    return root


# -- windows ---------------------------------------------------------------------------------------------------------


def test_without_a_window_deep_images_use_percentiles_without_padding(tmp_path: Path) -> None:
    low, high = np.percentile(RAMP, (0.5, 99.5))
    expected = np.rint(np.clip((RAMP - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(frame_to_bytes(write(tmp_path / "x", RAMP), None), expected)
    padded = RAMP.copy()
    padded[:16] = 60000
    shown = frame_to_bytes(write(tmp_path / "p", padded, PixelPaddingValue=60000), None)
    low, high = np.percentile(RAMP[16:], (0.5, 99.5))
    np.testing.assert_array_equal(shown[16:], np.rint(np.clip((RAMP[16:] - low) / (high - low), 0, 1) * 255))
    unpadded = frame_to_bytes(write(tmp_path / "q", padded), None)
    assert unpadded[16:].max() < 30


def test_the_files_window_is_applied_after_the_rescale(tmp_path: Path) -> None:
    hu = {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": "40", "WindowWidth": "400"}
    values = RAMP.astype(float) * 2 - 1000
    expected = np.clip(((values - 39.5) / 399 + 0.5) * 255, 0, 255)
    shown = frame_to_bytes(write(tmp_path / "x", RAMP, **hu), None)
    np.testing.assert_allclose(shown, expected, atol=0.51)
    assert shown.min() == 0
    assert shown.max() == 255
    own = frame_to_bytes(tmp_path / "x", None, window=[0.0, 100.0])
    np.testing.assert_allclose(own, np.clip((values + 50) / 100, 0, 1) * 255, atol=0.51)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_window_functions_span_the_whole_range(tmp_path: Path, function: str) -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "600", "VOILUTFunction": function}
    shown = frame_to_bytes(write(tmp_path / "x", RAMP, **window), None).ravel()
    assert shown[0] == 0
    assert shown[-1] == 255
    assert abs(int(shown[500]) - 127) <= 1
    assert (np.diff(shown.astype(int)) >= 0).all()


def test_several_windows_use_the_first_and_width_zero_is_none(tmp_path: Path) -> None:
    two = frame_to_bytes(write(tmp_path / "x", RAMP, WindowCenter=["1000", "10"], WindowWidth=["500", "1"]), None)
    one = frame_to_bytes(write(tmp_path / "y", RAMP, WindowCenter="1000", WindowWidth="500"), None)
    np.testing.assert_array_equal(two, one)
    plain = frame_to_bytes(write(tmp_path / "z", RAMP), None)
    for width in ("0", ["0", "100"]):
        bad = write(tmp_path / "w", RAMP, WindowCenter="1000" if width == "0" else ["1", "2"], WindowWidth=width)
        np.testing.assert_array_equal(frame_to_bytes(bad, None), plain)


def test_voi_lut_sequence(tmp_path: Path) -> None:
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 12]
    lut.LUTData = np.arange(4095, -1, -1, dtype=np.uint16).tobytes()
    shown = frame_to_bytes(write(tmp_path / "x", RAMP, VOILUTSequence=[lut]), None)
    np.testing.assert_allclose(shown, (4095 - RAMP) / 4095 * 255, atol=0.51)


def test_eight_bits_pass_unchanged_and_monochrome1_is_inverted(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(frame_to_bytes(write(tmp_path / "x", pixels), None), pixels)
    inverted = write(tmp_path / "y", pixels, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(frame_to_bytes(inverted, None), 255 - pixels)


def test_signed_pixels_are_not_wrapped(tmp_path: Path) -> None:
    signed = (RAMP.astype(np.int32) - 2000).astype(np.int16)
    assert (np.diff(frame_to_bytes(write(tmp_path / "x", signed), None).ravel().astype(int)) >= 0).all()


def test_colour_and_deep_colour(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(frame_to_bytes(write(tmp_path / "x", colour), None), colour)
    deep = colour.astype(np.uint16) * 257
    np.testing.assert_array_equal(frame_to_bytes(write(tmp_path / "y", deep), None), colour)


def test_functional_groups_give_each_frame_its_own_window(tmp_path: Path) -> None:
    groups = []
    for centre in ("500", "3000"):
        voi, transform, group = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, "200"
        transform.RescaleSlope, transform.RescaleIntercept = "1", "0"
        group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [voi], [transform]
        groups.append(group)
    frames = np.stack([RAMP, RAMP])
    path = write(tmp_path / "x", frames, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    first, second = frame_to_bytes(path, 0), frame_to_bytes(path, 1)
    assert (first == 255).mean() > 0.8
    assert (second == 0).mean() > 0.7


@pytest.mark.parametrize(
    ("name", "twin", "tolerance"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm", 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
        ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle.dcm", 0),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", 6),
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle.dcm", 6),
    ],
)
def test_the_same_image_in_another_encoding(name: str, twin: str, tolerance: int) -> None:
    paths = [get_testdata_file(each, read=False, download=False) for each in (name, twin)]
    if None in paths:
        pytest.skip("not among the test files of this pydicom")
    one, other = (frame_to_bytes(Path(str(path)), None).astype(int) for path in paths)
    assert np.abs(one - other).max() <= tolerance


# -- the folder ------------------------------------------------------------------------------------------------------


def test_class_folders_patients_and_institutions(folder: Path) -> None:
    source = dicom(folder)
    assert source.classes == ("a", "b")
    assert [item.group for item in source.items] == ["a0", "a0", "a1", "b0", "b0", "b1"]
    assert {item.site for item in source.items} == {"St. Mary"}
    assert source.channels == 1
    assert source.read(0).shape == (1, 32, 32)
    assert source.warnings == ()


def test_frames_are_images_of_one_group(folder: Path) -> None:
    frames = np.stack([RAMP, RAMP.T])
    write(folder / "a" / "cine.dcm", frames, NumberOfFrames=2)
    source = dicom(folder)
    at = [i for i, item in enumerate(source.items) if item.id.startswith("a/cine.dcm#")]
    assert [source.items[i].id for i in at] == ["a/cine.dcm#0", "a/cine.dcm#1"]
    assert len({source.items[i].group for i in at}) == 1
    np.testing.assert_array_equal(source.read(at[0]).transpose(0, 2, 1), source.read(at[1]))


def test_files_without_a_patient_are_warned_of(folder: Path) -> None:
    write(folder / "a" / "anonymous.dcm", RAMP)
    source = dicom(folder)
    assert source.warnings == ("1 of 7 images carry no PatientID: each counts as a group of its own",)
    assert source.ungrouped == 1
    assert dicom(folder, group_by="none").warnings == ()
    by_study = dicom(folder, group_by="InstitutionName")
    assert {item.group for item in by_study.items} == {"St. Mary", None}
    with pytest.raises(DataError, match="'PatientIdentity' is neither"):
        dicom(folder, group_by="PatientIdentity")


def test_labels_and_groups_from_a_csv(folder: Path) -> None:
    (folder / "l.csv").write_text("path,label,case\na/0.dcm,x,1\nb/0.dcm,y,1\na/1.dcm,y,\n")
    source = dicom(folder, labels="l.csv", group_by="case")
    assert [(item.id, item.group) for item in source.items] == [("a/0.dcm", "1"), ("a/1.dcm", None), ("b/0.dcm", "1")]


def test_files_that_are_no_images_are_skipped_by_name(folder: Path) -> None:
    (folder / "a" / "notes.txt").write_text("hello")
    Image.new("L", (32, 32)).save(folder / "a" / "b.png")
    (folder / "a" / "empty.dcm").write_bytes(b"")
    (folder / "a" / "DICOMDIR").write_bytes(b"")
    whole = (folder / "a" / "0.dcm").read_bytes()
    (folder / "a" / "cut.dcm").write_bytes(whole[:200])
    write(folder / "a" / "many.dcm", RAMP, NumberOfFrames=10**9)
    report = pydicom.dcmread(folder / "a" / "0.dcm")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.save_as(folder / "a" / "report.dcm")
    source = dicom(folder)
    reasons = {each.path: each.reason for each in source.skipped}
    names = ("notes.txt", "b.png", "empty.dcm", "cut.dcm", "many.dcm", "report.dcm")
    assert reasons.keys() == {f"a/{n}" for n in names}
    assert reasons["a/notes.txt"] == "not an image"
    assert reasons["a/b.png"] == "is a PNG file; set data.source to images for those"
    assert reasons["a/report.dcm"] == "has no pixels (Secondary Capture Image Storage), so it is no image"
    assert reasons["a/many.dcm"].startswith("claims 1000000000 frames, and up to")
    assert len(source) == 6


def test_corrupt_pixels_raise_by_name(folder: Path) -> None:
    path = folder / "a" / "0.dcm"
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    # The last bytes of the last plane: its header says that all is there.
    path.write_bytes(path.read_bytes().replace(dataset.PixelData[-60:], bytes(60)))
    source = dicom(folder)
    with pytest.raises(DataError, match=r"a/0\.dcm: frame 1 can be read by no decoder here"):
        source.read(0)
    assert source.read(1).shape == (1, 32, 32)


def test_pixels_cut_short_are_skipped_by_name(folder: Path) -> None:
    path = folder / "a" / "0.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    source = dicom(folder)
    assert [each.path for each in source.skipped] == ["a/0.dcm"]
    assert source.skipped[0].reason.startswith("its pixel data is cut short: 1548 of 2048 bytes are there")


def test_a_folder_of_reports_is_an_error(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.dcm").write_text("report")
    with pytest.raises(DataError, match=r"\(2 files were skipped, 2 because: is named like an image and is none\)"):
        dicom(tmp_path)
