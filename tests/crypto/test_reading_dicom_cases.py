"""The DICOM folders of ../shared/cases/images: at both doors the right value, or the refusal, of its README."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from both_doors import both, steward
from PIL import Image

from crypto.imaging.preprocess import to_square
from crypto.reading.dicom import DicomImage, frame_to_bytes
from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source
from medveil.errors import DataError

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
VIEWER = shutil.which("dcm2pnm")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases/images is not here"),
]

READ = {
    "bits_stored_too_small": ("+Wi", "1"),
    "modality_lut_12": ("+Wi", "1"),
    "mono2_plut_inverse": ("+Wi", "1"),
    "nm_sparse_no_window": ("+Wm",),
    "no_header_implicit": ("+Wi", "1"),
    "no_preamble_but_meta": ("+Wi", "1"),
    "numberofframes_float": ("+Wi", "1"),
    "padding_us_signed": None,
    "padding_vm2": None,
    "palette8_padded_words": ("+Wm",),
    "photometric_leading_space": ("+Wi", "1"),
    "rescale_empty": ("+Wi", "1"),
    "rescale_negative": ("+Wi", "1"),
    "rescale_slope_empty": ("+Wi", "1"),
    "rescale_zero": ("+Wi", "1"),
    "rows_vm2": ("+Wi", "1"),
    "voi_function_unknown": ("+Wi", "1"),
    "voilut_8_packed": ("+Wl", "1"),
    "voilut_8_us": ("+Wl", "1"),
    "voilut_empty_item": ("+Wi", "1"),
    "window_first_empty": None,
    "window_sigmoid": ("+Wi", "1"),
    "window_width_tiny": None,
    "ybr_archive": ("+Wm",),
}
"""What is read, with how dcmtk is asked to show it; None where dcmtk shows it otherwise, for which see `by_formula`."""

REFUSED = {
    "bomb": "is an image of 60000 x 60000 pixels",
    "charset_nul": "its SpecificCharacterSet (0008,0005) is not the name of a character set",
    "highbit15_left_justified": "its samples of 12 bits end at bit 15",
    "rescale_comma": "its RescaleSlope is no number",
    "window_comma": "its WindowCenter is no number",
    "window_text": "its WindowCenter is no number",
}
LEFT_OUT = {
    "dose_report.dcm": "is a report stored as an image",
    "ecg.dcm": "is a waveform or a curve",
    "kos.dcm": "is a structured report",
    "parametric.dcm": "is a parametric map",
    "pdf.dcm": "is an encapsulated document",
    "pr.dcm": "is a presentation state",
    "rtdose.dcm": "is an RT dose",
    "rtstruct.dcm": "is an RT structure set",
    "seg.dcm": "is a segmentation",
    "seg_fractional.dcm": "is a segmentation",
    "slide_label.dcm": "is the LABEL image of a whole slide",
    "sr.dcm": "is a structured report",
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def source_of(name: str, **settings: Any) -> Source:
    return open_source(DataConfig(source="dicom", path=str(CASES / name), image_size=32, **settings))


def percentiles(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values[counted], (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1) * 255


def by_formula(name: str, dataset: pydicom.Dataset) -> np.ndarray:
    stored = dataset.pixel_array.astype(float)
    if name == "padding_us_signed":
        return percentiles(stored, stored != -2000)
    if name == "padding_vm2":
        return percentiles(stored, stored != 4095)
    if name == "window_first_empty":
        return np.clip((stored - 2047.5) / 1999 + 0.5, 0, 1) * 255
    assert name == "window_width_tiny"
    return np.clip((stored * 1e-8 - 1e-5) / 2e-5 + 0.5, 0, 1) * 255


@pytest.mark.parametrize("name", READ)
def test_both_doors_show_the_right_pixels(name: str, tmp_path: Path) -> None:
    path = CASES / name / "a" / "x.dcm"
    seen, shown = both(path, tmp_path), frame_to_bytes(path)
    assert not isinstance(seen, str), seen
    channels = seen.shape[-1]
    assert np.array_equal(seen[0].transpose(2, 0, 1), to_square(shown, size=32, channels=channels))
    asked = READ[name]
    if asked is None:
        assert np.abs(shown - by_formula(name, pydicom.dcmread(path))).max() <= 0.51
    elif VIEWER is None:
        pytest.skip("dcmtk is not here: apt-get install dcmtk")
    else:
        made = tmp_path / "made.pnm"
        subprocess.run([VIEWER, *asked, str(path), str(made)], check=True, capture_output=True)
        # dcmtk rounds otherwise: colours in whole numbers.
        assert np.abs(np.asarray(Image.open(made)).astype(int) - shown).max() <= (2 if name == "ybr_archive" else 1)


@pytest.mark.parametrize("name", READ)
def test_the_archive_gives_the_stored_bytes_back(name: str, tmp_path: Path) -> None:
    path = CASES / name / "a" / "x.dcm"
    image = DicomImage(path)
    pixels = image._opened.pixels
    assert pixels is not None
    kept = steward(path, tmp_path, purpose="archive")
    assert not isinstance(kept, str), kept
    assert kept.tobytes() == path.read_bytes()[pixels.offset : pixels.offset + pixels.length]


@pytest.mark.parametrize("name", REFUSED)
def test_both_doors_refuse_in_the_same_words(name: str, tmp_path: Path) -> None:
    refusal = both(CASES / name / "a" / "x.dcm", tmp_path)
    assert isinstance(refusal, str)
    assert refusal.startswith(REFUSED[name])


@pytest.mark.parametrize("name", ["x8000", "x16000", "x24000"])
def test_large_claims_are_refused(name: str, tmp_path: Path) -> None:
    refusal = both(CASES / "claims_large" / "a" / f"{name}.dcm", tmp_path)
    assert isinstance(refusal, str)
    assert "values are opened" in refusal or "cannot hold" in refusal


def test_what_is_no_image_is_left_out_by_name(tmp_path: Path) -> None:
    source = source_of("mixed_objects")
    assert sorted(item.id for item in source.items) == [
        f"{c}/good{n}.dcm" for c in ("benign", "malignant") for n in range(8)
    ]
    reasons = {Path(each.path).name: each.reason for each in source.skipped}
    for name, reason in LEFT_OUT.items():
        path = next((CASES / "mixed_objects").rglob(name))
        assert reasons[name].startswith(reason)
        assert steward(path, tmp_path) == reasons[name]


def sets(name: str) -> list[Path]:
    return sorted((CASES / name).rglob("*.dcm"))


def test_a_set_without_slopes_is_read_as_a_viewer_shows_it() -> None:
    source = source_of("set_empty_rescale")
    assert len(source) == len(sets("set_empty_rescale")) == 20
    assert all(source.read(index).std() > 0 for index in range(len(source)))


def test_a_set_that_is_inverted_is_shown_inverted() -> None:
    source = source_of("set_plut_inverse")
    for index, path in enumerate(sets("set_plut_inverse")):
        stored = pydicom.dcmread(path).pixel_array.astype(float)
        expected = 255 - np.rint(np.clip((stored - 2047.5) / 4095 + 0.5, 0, 1) * 255)
        assert np.abs(source.read(index)[0].astype(float) - expected).max() <= 1


def test_a_set_in_high_bits_is_refused_saying_why() -> None:
    source = source_of("set_highbit15")
    assert len(source.items) == 16
    for index in range(16):
        with pytest.raises(DataError, match="its samples of 12 bits end at bit 15"):
            source._decode(index)


@pytest.mark.parametrize(("name", "groups"), [("pid_leading_space", 8), ("pid_two", 2), ("pid_same_for_all", 1)])
def test_patients_are_counted_without_padding(name: str, groups: int) -> None:
    source = source_of(name)
    assert all(item.group == str(item.group).strip() for item in source.items)
    assert len({item.group for item in source.items}) == groups


def test_files_without_a_preamble_are_read_among_others() -> None:
    source = source_of("tree_no_preamble")
    assert {"benign/IM0001", "benign/IM0002", "malignant/1.2.840.1.5"} <= {item.id for item in source.items}
    assert source.skipped == ()


@pytest.mark.parametrize("name", ["speed_scaling/in150", "speed_enhanced"])
def test_many_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One header for all of them: how long it takes is `make bench`'s affair."""
    read: list[Callable[..., Any]] = []
    from crypto.reading import dicom_file  # noqa: PLC0415

    parse = dicom_file.parse_dicom
    monkeypatch.setattr(dicom_file, "parse_dicom", lambda *given: read.append(parse) or parse(*given))
    source = source_of(name, classes=["a", "b"], min_side=1)
    for index in range(0, len(source), 7):
        source.read(index)
    assert len(read) == 2
