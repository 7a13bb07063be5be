"""What a data set says of its pixels, and what in it repeats them."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from crypto.dicom.walk import remove, tags, tags_of
from crypto.reading.dicom_file import OpenFile
from crypto.reading.dicom_samples import Samples

_STALE = tags_of("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "LengthToEnd")
_SIGNATURES = tags_of("DigitalSignaturesSequence", "MACParametersSequence")
_ICONS = tags_of("IconImageSequence")
_REVEALING = (
    _SIGNATURES
    | _ICONS
    | tags_of(
        "HistogramSequence",
        "OriginalAttributesSequence",
        "SmallestValidPixelValue",
        "LargestValidPixelValue",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "SmallestPixelValueInSeries",
        "LargestPixelValueInSeries",
        "SmallestImagePixelValueInPlane",
        "LargestImagePixelValueInPlane",
        "LargestMonochromePixelValue",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
    )
)
_CURVES, _OVERLAYS, _VARIABLE_PIXELS = 0x50, 0x60, 0x7F
_IMAGE_PIXELS = 0x7FE0
_OVERLAY_DATA = 0x3000
_LOSSY = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
}
"""Transfer syntaxes that always lose something, with the defined term of LossyImageCompressionMethod (C.7.6.1.1.5)."""


def describe_decoded(dataset: Dataset, opened: OpenFile, samples: Samples) -> list[str]:
    """Make a data set say what its decoded pixels are; returns warnings.

    Native pixels stay as they are, to the bit, and so does all that is said of them. Where they were compressed,
    signatures go, which sign the compressed form, and icons, which may be compressed alike and cannot be so in a native
    file.
    """
    compressed = opened.transfer_syntax.is_encapsulated
    stale = _STALE | (_SIGNATURES | _ICONS if compressed else frozenset())
    remove(dataset, lambda tag: tag in stale or _is_other_pixels(tag))
    if not compressed:
        return []
    _keep_lossy(dataset, opened, samples)
    describe_pixels(dataset, samples)
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = samples.frames
    embedded = _drop_embedded_overlays(dataset)
    return ["overlays in unused bits of the pixels are not kept"] if embedded else []


def describe_pixels(dataset: Dataset, samples: Samples) -> None:
    """Write the attributes of the image pixel module, but NumberOfFrames, which stays as it is."""
    dataset.SamplesPerPixel = samples.channels
    dataset.PhotometricInterpretation = samples.photometric
    dataset.Rows, dataset.Columns = samples.rows, samples.columns
    dataset.BitsAllocated, dataset.BitsStored = samples.allocated, samples.bits
    dataset.HighBit = samples.bits - 1
    dataset.PixelRepresentation = int(samples.signed)
    if samples.channels > 1:
        dataset.PlanarConfiguration = 0
    elif "PlanarConfiguration" in dataset:
        del dataset.PlanarConfiguration


def drop_revealing(dataset: Dataset) -> None:
    """Remove what repeats or measures the plain pixels: icons, overlays, curves, histograms, extremes and padding.

    Digital signatures and original attributes go with them: they speak of the file as it was.
    """
    remove(dataset, lambda tag: tag in _REVEALING or _is_curve_or_overlay(tag))


def _keep_lossy(dataset: Dataset, opened: OpenFile, samples: Samples) -> None:
    """Say that pixels once lost something, also where the file only implied it by its transfer syntax."""
    method = _LOSSY.get(UID(opened.transfer_syntax))
    if method is None or dataset.get("LossyImageCompression") == "01":
        return
    assert opened.pixels is not None
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = round(samples.frame_bytes * samples.frames / opened.pixels.length, 2)
    dataset.LossyImageCompressionMethod = method


def _drop_embedded_overlays(dataset: Dataset) -> bool:
    """Remove overlay planes that lay in unused bits of the pixels, which decoding clears."""
    groups = {tag.group for tag in tags(dataset) if _is_overlay(tag)}
    gone = {group for group in groups if (group, _OVERLAY_DATA) not in dataset}
    for tag in [tag for tag in tags(dataset) if tag.group in gone]:
        del dataset[tag]
    return bool(gone)


def _is_overlay(tag: BaseTag) -> bool:
    return tag.group >> 8 == _OVERLAYS and not tag.is_private


def _is_curve_or_overlay(tag: BaseTag) -> bool:
    return tag.group >> 8 in {_CURVES, _OVERLAYS} and not tag.is_private


def _is_other_pixels(tag: BaseTag) -> bool:
    """Whether it is one of the retired repeating groups that could hold further pixel data."""
    return tag.group >> 8 == _VARIABLE_PIXELS and tag.group != _IMAGE_PIXELS and not tag.is_private
