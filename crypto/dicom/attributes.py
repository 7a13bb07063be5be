"""What hiding does to a data set beside its pixels.

`describe_decoded` makes the data set of the file that showing gives back; `conceal` makes that of the hidden file.
"""

from __future__ import annotations

from typing import Any

from pydicom import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from crypto.config import CipherConfig
from crypto.dicom.frames import Samples
from crypto.dicom.reading import OpenFile
from crypto.dicom.walk import datasets, remove, tags, tags_of
from crypto.files.recipe import TRAINING, Recipe
from medveil.versions import medveil_version

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
_NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"
_LONGEST_TEXT = 1024
_CODE_OF_HIDING = ("HIDDEN", "99MEDVEIL", "Pixels hidden by a keyed cipher")
_CODE_OF_RESIZING = ("113085", "DCM", "Spatial resampling")


def describe_decoded(dataset: Dataset, opened: OpenFile, samples: Samples) -> list[str]:
    """Make a data set say what its decoded pixels are; returns warnings.

    Where the pixels were compressed, signatures go, which sign the compressed form, and icons, which may be compressed
    alike and cannot be so in a native file.
    """
    stale = _STALE | (_SIGNATURES | _ICONS if opened.transfer_syntax.is_encapsulated else frozenset())
    remove(dataset, lambda tag: tag in stale or _is_other_pixels(tag))
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


def conceal(dataset: Dataset, hidden: Samples, recipe: Recipe, *, instance: str) -> None:
    """Turn the data set of a plain file into that of its hidden form.

    Parameters
    ----------
    dataset
        Changed in place.
    hidden
        What the samples of the ciphertext are.
    recipe
        How the pixels were hidden.
    instance
        The new SOP instance UID.
    """
    drop_revealing(dataset)
    describe_pixels(dataset, hidden)
    dataset.SOPInstanceUID = instance
    mark_derived(dataset)
    resized = "" if recipe.purpose != TRAINING else f"Windowed to 8 bit and resized to {recipe.size} x {recipe.size}. "
    after = (
        "Decrypt before reading or training" if recipe.purpose != TRAINING else "For training in the cipher's domain"
    )
    done = f"{resized}Pixels hidden by MedVeil {medveil_version()} ({_said(recipe.cipher)}). {after}."
    before = str(dataset.get("DerivationDescription") or "")
    whole = f"{done} {before}".strip()
    dataset.DerivationDescription = whole if len(whole) <= _LONGEST_TEXT else done
    codes = [_CODE_OF_HIDING] if recipe.purpose != TRAINING else [_CODE_OF_RESIZING, _CODE_OF_HIDING]
    dataset.DerivationCodeSequence = [*(dataset.get("DerivationCodeSequence") or ()), *map(_code, codes)]


def mark_derived(dataset: Dataset) -> None:
    r"""Set ImageType to ``DERIVED\SECONDARY\...``, and the frame types of functional groups with it.

    Where the standard allows ``PRIMARY`` alone as second value (nuclear medicine, and images with functional groups),
    the second value stays.
    """
    held = "SharedFunctionalGroupsSequence" in dataset or dataset.get("SOPClassUID") == _NUCLEAR_MEDICINE
    for each in datasets(dataset):
        for keyword in ("ImageType",) if each is dataset else ("FrameType",):
            if keyword in each or each is dataset:
                setattr(each, keyword, _derived(each.get(keyword), held=held))


def _derived(given: Any, *, held: bool) -> list[str]:
    values = [given] if isinstance(given, str) else [str(value) for value in given or ()]
    second = values[1] if held and len(values) > 1 else "SECONDARY"
    return ["DERIVED", second, *values[2:]]


def _said(cipher: CipherConfig) -> str:
    return f"{cipher.scheme}, blocks of {cipher.block}{', negated' if cipher.negate else ''}"


def _code(values: tuple[str, str, str]) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = values
    return made


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
