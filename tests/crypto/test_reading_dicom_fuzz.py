"""Whatever stands in a DICOM file, the reader ends in pixels or in one of our own errors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from crypto.reading.dicom import DicomImage
from crypto.reading.dicom_frames import plugins_for
from crypto.reading.dicom_head import HEAD_BYTES, dicom_start, is_dicom
from crypto.reading.dicom_values import tag_of
from medveil.errors import MedVeilError

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
KEYWORDS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("NumberOfFrames", "PhotometricInterpretation", "PlanarConfiguration", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PresentationLUTShape", "SOPClassUID", "ImageType", "Modality", "SeriesDescription", "SpecificCharacterSet"),
    *("VOILUTSequence", "ModalityLUTSequence", "PerFrameFunctionalGroupsSequence"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
)
REPRESENTATIONS = ("US", "SS", "DS", "IS", "CS", "LO", "OW", "UN", "SQ", "FD")
VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"0", b"-1 ", b"1e308 ", b"nan ", b"\\", b"1,5 ", b"1\\2 ", b"99999999", b"MONOCHROME1 ", b"RGB "]
    ),
    st.lists(st.sampled_from([0, 1, 8, 12, 16, 255, 256, 65535]), min_size=1, max_size=3).map(
        lambda words: struct.pack(f"<{len(words)}H", *words)
    ),
)


def plain(dicom_of: Callable[..., Dataset]) -> Dataset:
    return dicom_of(np.stack([RAMP, RAMP.T]), bits=12)


def with_tables(dicom_of: Callable[..., Dataset]) -> Dataset:
    dataset, item = dicom_of(RAMP, bits=12), Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 12], np.arange(4096, dtype="<u2").tobytes()
    item["LUTData"].VR = "OW"
    dataset.VOILUTSequence, dataset.ModalityLUTSequence = [item], [item]
    return dataset


def with_palette(dicom_of: Callable[..., Dataset]) -> Dataset:
    dataset = dicom_of(RAMP.astype(np.uint8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", np.arange(256, dtype=np.uint8).tobytes())
    return dataset


def compressed(syntax: str) -> Callable[[Callable[..., Dataset]], Dataset]:
    def make(dicom_of: Callable[..., Dataset]) -> Dataset:
        dataset = dicom_of(np.stack([RAMP, RAMP.T]))
        dataset.compress(syntax)
        return dataset

    return make


KINDS = (plain, with_tables, with_palette, *map(compressed, (RLELossless, JPEG2000Lossless, JPEGLSLossless)))
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=range(len(KINDS)))
def made(
    request: pytest.FixtureRequest, dicom_of: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes, Dataset]:
    """A place, the bytes of a good file, and its data set."""
    path = tmp_path_factory.mktemp("fuzz") / "x.dcm"
    dataset = KINDS[request.param](dicom_of)
    dataset.save_as(path, enforce_file_format=True)
    return path, path.read_bytes(), dataset


def ends_well(path: Path) -> bool:
    """Read a file: whether it gave pixels. Anything but one of our errors escapes."""
    try:
        image = DicomImage(path)
        for frame in range(min(image.about.frames, 2)):
            shown, stored = image.shown(frame), image.stored(frame)
            assert shown.dtype == np.uint8
            assert shown.shape[:2] == stored.shape[1:] == (image.about.height, image.about.width)
            assert shown.ndim == (3 if image.about.channels == 3 else 2)
        image.text("PatientID")
    except MedVeilError as error:
        text = str(error)
        assert "\n" not in text
        assert not any(word in text for word in ("Error", "Exception", "NoneType")), text
        return False
    return True


def test_good_files_are_read(made: tuple[Path, bytes, Dataset]) -> None:
    made[0].write_bytes(made[1])
    assert ends_well(made[0])


def test_no_decoder_that_ends_the_process_sees_a_codestream() -> None:
    """GDCM's throws what nobody catches over a damaged codestream: found by the test below."""
    for syntax in (JPEG2000Lossless, JPEG2000, *JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        assert plugins_for(syntax)
        assert "gdcm" not in plugins_for(syntax)
    assert plugins_for(RLELossless) == ("pydicom",)


@quick
@given(data=st.data())
def test_bytes_that_are_changed_cut_or_put_in(made: tuple[Path, bytes, Dataset], data: st.DataObject) -> None:
    path, good, _ = made
    changed = bytearray(good)
    header = min(len(good), 1500)
    for at, value in data.draw(st.lists(st.tuples(st.integers(128, header - 1), st.integers(0, 255)), max_size=4)):
        changed[at] = value
    at = data.draw(st.integers(0, len(good)))
    how = data.draw(st.sampled_from(["whole", "cut", "insert", "drop"]))
    if how == "cut":
        del changed[at:]
    elif how == "insert":
        changed[at:at] = data.draw(st.binary(max_size=12))
    elif how == "drop":
        del changed[at : at + data.draw(st.integers(1, 200))]
    path.write_bytes(bytes(changed))
    ends_well(path)


@quick
@given(
    values=st.dictionaries(st.sampled_from(KEYWORDS), st.tuples(st.sampled_from(REPRESENTATIONS), VALUES), max_size=3)
)
def test_values_of_any_kind(made: tuple[Path, bytes, Dataset], values: dict[str, tuple[str, bytes]]) -> None:
    path, good, _ = made
    head, tail = [], b""
    changes = {tag_of(keyword): (vr, value + b" " * (len(value) % 2)) for keyword, (vr, value) in values.items()}
    path.write_bytes(good)
    image = DicomImage(path)
    pixels = image._opened.pixels
    assert pixels is not None
    meta = good[: good.index(b"\x08\x00", 300)]
    for tag in sorted({*map(int, image._opened.dataset.keys()), *changes}):
        vr, value = changes.get(tag, (None, None))
        if value is None:
            element = image._opened.dataset.get_item(tag, keep_deferred=True)
            if not isinstance(element, RawDataElement):
                continue
            vr, value = str(element.VR), element.value or b""
        long = vr in {"OW", "UN", "SQ", "OB"}
        length = struct.pack("<2xL", len(value)) if long else struct.pack("<H", len(value))
        head.append(struct.pack("<HH", Tag(tag).group, Tag(tag).element) + str(vr).encode() + length + value)
    tail = good[pixels.offset - 12 :]
    path.write_bytes(meta + b"".join(head) + tail)
    ends_well(path)


@given(head=st.one_of(st.binary(max_size=HEAD_BYTES), st.binary(max_size=60).map(lambda more: b"\x08\0\5\0" + more)))
def test_heads_of_any_kind(head: bytes) -> None:
    start = dicom_start(head)
    assert (start is not None) == is_dicom(head)
    if start is not None:
        assert start.offset <= len(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x08\0",
        b"\x08\0\x05\0CS",
        b"\x02\0\0\0",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"BM" + bytes(130),
        bytes(132),
    ],
)
def test_heads_that_are_none(head: bytes) -> None:
    assert not is_dicom(head)
