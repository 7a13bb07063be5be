"""The data set of a hidden file: what goes, what stays, what is said of it, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless

from crypto.deid.pseudonyms import new_uid
from crypto.dicom.kind import DICOM
from crypto.dicom.private import CREATOR, GROUP
from crypto.files.header import HiddenHeader
from crypto.reading.look import open_image
from medveil.errors import DataError

MakeDicom = Callable[..., Path]
PLAIN = np.arange(15 * 13, dtype=np.uint16).reshape(15, 13) * 20
CANARY = "CanaryOfTheIcon!"


def icon() -> Dataset:
    made = Dataset()
    made.Rows = made.Columns = 4
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = CANARY.encode()
    return made


@pytest.fixture
def revealing(make_dicom: MakeDicom) -> Path:
    """A file full of what repeats or measures its pixels."""
    source = make_dicom(
        PLAIN,
        bits=12,
        WindowCenter="40",
        WindowWidth="400",
        RescaleSlope="2",
        RescaleIntercept="-1024",
        PixelSpacing=["0.5", "0.25"],
        SmallestImagePixelValue=0,
        LargestImagePixelValue=3880,
        SmallestPixelValueInSeries=0,
        LargestPixelValueInSeries=3880,
        PixelPaddingValue=7,
        PixelPaddingRangeLimit=9,
    )
    dataset = pydicom.dcmread(source)
    dataset.IconImageSequence = [icon()]
    dataset.add_new((0x6000, 0x0010), "US", 15)
    dataset.add_new((0x6000, 0x3000), "OW", CANARY.encode())
    dataset.add_new((0x5000, 0x3000), "OW", CANARY.encode())
    nested = Dataset()
    nested.IconImageSequence, nested.PatientComments = [icon()], "kept"
    dataset.ReferencedImageSequence = [nested]
    histogram = Dataset()
    histogram.HistogramData = [1, 2, 3]
    dataset.HistogramSequence = [histogram]
    before = Dataset()
    before.ReasonForTheAttributeModification = "CORRECT"
    dataset.OriginalAttributesSequence = [before]
    signature = Dataset()
    signature.MACIDNumber, signature.Signature = 1, CANARY.encode()
    dataset.DigitalSignaturesSequence = [signature]
    dataset.add_new((0x7FE1, 0x0010), "LO", "VENDOR")
    dataset.add_new((0x7FE1, 0x1001), "OB", b"behind the pixels ")
    dataset.save_as(source)
    return source


GONE = [
    "IconImageSequence",
    "HistogramSequence",
    "OriginalAttributesSequence",
    "DigitalSignaturesSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
]
STAYS = [
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelSpacing",
    "PatientName",
    "PatientID",
    "Modality",
]


def test_what_repeats_the_pixels_goes_at_every_depth(steward: Any, revealing: Path) -> None:
    hidden = steward.hide(revealing)
    assert CANARY.encode() in revealing.read_bytes()
    assert CANARY.encode() not in hidden.read_bytes()
    before, after = pydicom.dcmread(revealing), pydicom.dcmread(hidden)
    assert [keyword for keyword in GONE if keyword in after] == []
    assert not [each.tag for each in after if each.tag.group in {0x5000, 0x6000}]
    assert "IconImageSequence" not in after.ReferencedImageSequence[0]
    assert after.ReferencedImageSequence[0].PatientComments == "kept"
    for keyword in STAYS:
        assert after[keyword] == before[keyword]
    assert after[0x7FE1, 0x1001].value == b"behind the pixels "


def test_an_archive_gives_every_attribute_back(steward: Any, revealing: Path) -> None:
    before, after = pydicom.dcmread(revealing), pydicom.dcmread(steward.show(steward.hide(revealing)))
    assert before == after


@pytest.mark.usefixtures("stand_in")
def test_a_sealed_archive_gives_every_attribute_back(steward: Any, revealing: Path) -> None:
    hidden = steward.hide(revealing, identity="sealed")
    assert b"Doe^Jane" not in hidden.read_bytes()
    assert pydicom.dcmread(revealing) == pydicom.dcmread(steward.show(hidden))


@pytest.mark.usefixtures("stand_in")
def test_a_deidentified_archive_gives_identity_back_to_nobody(steward: Any, revealing: Path) -> None:
    hidden = steward.hide(revealing, identity="removed", keep=("PatientName",))
    assert pydicom.dcmread(hidden).PatientName == "Doe^Jane"
    after = pydicom.dcmread(steward.show(hidden))
    assert after.PatientID == "pseudonym"
    assert after.IconImageSequence[0].PixelData == CANARY.encode()


def test_sizes_are_those_of_the_ciphertext_and_come_back(steward: Any, revealing: Path) -> None:
    hidden = steward.hide(revealing)
    after = pydicom.dcmread(hidden)
    assert (after.Rows, after.Columns, after.pixel_array.shape) == (16, 16, (16, 16))
    header = DICOM.header(hidden)
    assert isinstance(header, HiddenHeader)
    assert (header.height, header.width, header.bits, header.frames, header.kind) == (15, 13, 12, 1, "dicom")
    assert header.fingerprint == steward.key.fingerprint


def test_it_says_what_was_done(steward: Any, revealing: Path) -> None:
    dataset = pydicom.dcmread(revealing)
    dataset.DerivationDescription = "Denoised."
    dataset.save_as(revealing)
    archive, training = (pydicom.dcmread(steward.hide(revealing, purpose)) for purpose in ("archive", "training"))
    assert list(archive.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert "block-pixel" in archive.DerivationDescription
    assert "Decrypt before reading or training" in archive.DerivationDescription
    assert archive.DerivationDescription.endswith("Denoised.")
    assert "resized to 32 x 32" in training.DerivationDescription
    assert [code.CodeValue for code in training.DerivationCodeSequence] == ["113085", "HIDDEN"]
    dataset.DerivationDescription = "x" * 1024
    dataset.save_as(revealing)
    assert len(pydicom.dcmread(steward.hide(revealing)).DerivationDescription) < 1024


def test_uids_are_new_repeatable_and_consistent(steward: Any, revealing: Path) -> None:
    original = pydicom.dcmread(revealing).SOPInstanceUID
    found = set()
    for changes in ({}, {"block": 8}, {"scheme": "per-block"}):
        for purpose in ("archive", "training"):
            hidden = steward.hide(revealing, purpose, **changes)
            dataset, shown = pydicom.dcmread(hidden), pydicom.dcmread(steward.show(hidden))
            for each in (dataset, shown):
                assert each.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID
                assert each.file_meta.MediaStorageSOPClassUID == each.SOPClassUID
                assert each.SOPInstanceUID.is_valid
            assert dataset.SOPInstanceUID == pydicom.dcmread(steward.hide(revealing, purpose, **changes)).SOPInstanceUID
            found.add(dataset.SOPInstanceUID)
            assert (shown.SOPInstanceUID == original) == (purpose == "archive")
            assert shown.SOPInstanceUID != dataset.SOPInstanceUID
    assert len(found) == 6
    assert not found & {original, new_uid(steward.key, original)}


def test_a_reader_without_a_key_sees_native_pixels(steward: Any, revealing: Path) -> None:
    dataset = pydicom.dcmread(steward.hide(revealing))
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert dataset["PixelData"].VR == "OW"
    assert len(dataset.PixelData) == 16 * 16 * 2
    assert dataset[GROUP, 0x0010].value == CREATOR
    assert '"format":"medveil-hidden"' in dataset[GROUP, 0x1001].value


def test_an_odd_number_of_bytes_is_padded(make_dicom: MakeDicom, steward: Any) -> None:
    plain = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    hidden = steward.hide(make_dicom(plain), scheme="aes-ctr", negate=False)
    dataset = pydicom.dcmread(hidden)
    assert len(dataset.PixelData) == 28
    assert dataset["PixelData"].VR == "OB"
    assert np.array_equal(pydicom.dcmread(steward.show(hidden)).pixel_array, plain)


def test_other_creators_of_our_group_keep_their_block(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(PLAIN)
    dataset = pydicom.dcmread(source)
    dataset.private_block(GROUP, "OTHER", create=True).add_new(1, "LO", "theirs")
    dataset.save_as(source)
    hidden = steward.hide(source)
    after = pydicom.dcmread(hidden)
    assert after.private_block(GROUP, "OTHER")[1].value == "theirs"
    assert after.private_block(GROUP, CREATOR)[1].value.startswith("{")
    assert pydicom.dcmread(steward.show(hidden)) == dataset


@pytest.mark.parametrize(
    ("name", "method"),
    [("SC_rgb_jpeg_dcmtk.dcm", "ISO_10918_1"), ("JPEGLSNearLossless_16.dcm", "ISO_14495_1")],
)
def test_lossy_stays_lossy(steward: Any, name: str, method: str) -> None:
    source = Path(pydicom.data.get_testdata_file(name, download=False) or "")
    hidden = steward.hide(source)
    for each in (pydicom.dcmread(hidden), pydicom.dcmread(steward.show(hidden))):
        assert each.LossyImageCompression == "01"
        assert method in each.LossyImageCompressionMethod
        assert float(np.atleast_1d(each.LossyImageCompressionRatio)[0]) > 1


def test_functional_groups_stay_one_a_frame(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(np.stack([PLAIN] * 3), SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1")
    dataset = pydicom.dcmread(source)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.PulseSequenceName = "originals only"
    shared = Dataset()
    measures, rescale = Dataset(), Dataset()
    measures.PixelSpacing = ["1", "2"]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = "2", "1", "US"
    shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence = [measures], [rescale]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index in range(3):
        group, kind, content = Dataset(), Dataset(), Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        content.FrameComments = f"frame {index}"
        group.MRImageFrameTypeSequence, group.FrameContentSequence = [kind], [content]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.save_as(source)
    hidden = pydicom.dcmread(steward.hide(source))
    assert hidden.NumberOfFrames == len(hidden.PerFrameFunctionalGroupsSequence) == 3
    for index, group in enumerate(hidden.PerFrameFunctionalGroupsSequence):
        assert (
            group.MRImageFrameTypeSequence[0].FrameType == hidden.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
        )
        assert group.FrameContentSequence[0].FrameComments == f"frame {index}"
    assert "PulseSequenceName" not in hidden
    assert hidden.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope == 2
    training = pydicom.dcmread(steward.hide(source, "training"))
    assert training.NumberOfFrames == len(training.PerFrameFunctionalGroupsSequence) == 3
    assert "PixelValueTransformationSequence" not in training.SharedFunctionalGroupsSequence[0]
    spacing = training.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert [float(value) for value in spacing] == pytest.approx([15 / 32, 2 * 13 / 32])
    assert pydicom.dcmread(steward.show(steward.hide(source))) == pydicom.dcmread(source)


def test_signatures_over_compressed_pixels_are_not_kept(steward: Any, make_dicom: MakeDicom) -> None:
    source = make_dicom(np.zeros((40, 40), np.uint8))
    dataset = pydicom.dcmread(source)
    dataset.compress(JPEG2000Lossless)
    mac = Dataset()
    mac.MACIDNumber = 1
    dataset.MACParametersSequence = [mac]
    dataset.save_as(source)
    assert "MACParametersSequence" not in pydicom.dcmread(steward.show(steward.hide(source)))


def test_what_would_not_fit_is_refused(make_dicom: MakeDicom, steward: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto.dicom.writing.LARGEST_VALUE", 1000)
    with pytest.raises(DataError, match="ends at 1000"):
        steward.hide(make_dicom(np.zeros((40, 40), np.uint8)))
    monkeypatch.undo()
    with pytest.raises(DataError, match="choose a smaller block"):
        steward.hide(make_dicom(np.zeros((1, 65535), np.uint8)))


def with_vr(path: Path, keyword: str, vr: bytes) -> Path:
    """The file with another VR, of as long a header, written before an element's value."""
    data, tag = path.read_bytes(), tag_for_keyword(keyword)
    assert tag is not None
    at = data.index((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"), 300)
    path.write_bytes(data[: at + 4] + vr + data[at + 6 :])
    return path


@pytest.mark.parametrize("identity", ["removed", "sealed"])
@pytest.mark.parametrize(
    ("keyword", "vr"),
    [
        ("PhotometricInterpretation", b"CR"),
        ("PhotometricInterpretation", b"DS"),
        ("PhotometricInterpretation", b"PN"),
        ("WindowCenter", b"LO"),
        ("WindowWidth", b"SH"),
        ("WindowWidth", b"CR"),
        ("RescaleSlope", b"LO"),
        ("RescaleIntercept", b"DA"),
        ("NumberOfFrames", b"LO"),
        ("VOILUTFunction", b"DS"),
        ("PresentationLUTShape", b"IS"),
    ],
)
def test_an_archive_is_shown_as_its_file_was_whatever_the_vr_of_an_attribute(
    make_dicom: MakeDicom, steward: Any, keyword: str, vr: bytes, identity: str
) -> None:
    given = {"WindowCenter": "900", "WindowWidth": "700", "RescaleSlope": "2", "RescaleIntercept": "-1024"}
    more = {"VOILUTFunction": "SIGMOID", "PresentationLUTShape": "INVERSE", "NumberOfFrames": "1"}
    source = with_vr(make_dicom(PLAIN, bits=12, **given, **more), keyword, vr)
    before = open_image(source)
    after = open_image(steward.show(steward.hide(source, identity=identity)))
    np.testing.assert_array_equal(after.stored(), before.stored())
    np.testing.assert_array_equal(after.shown(), before.shown())
