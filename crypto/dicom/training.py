"""What becomes of a data set whose image is windowed to 8 bit and resized for training."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.tag import BaseTag

from crypto.dicom.attributes import describe_pixels, drop_revealing
from crypto.dicom.derived import mark_derived
from crypto.dicom.walk import datasets, remove, tags_of
from crypto.reading.dicom_samples import Samples
from crypto.reading.dicom_shown import APPLIED_SHAPES, SHAPE
from crypto.reading.dicom_values import text

_APPLIED = tags_of(
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "RealWorldValueMappingSequence",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "AlphaPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedAlphaPaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
    "PaletteColorLookupTableSequence",
)
"""How stored values became shown ones: done once, and not to be done again."""

_IN_PIXELS = tags_of(
    "SequenceOfUltrasoundRegions",
    "FrameDisplayShutterSequence",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixOriginSequence",
)
_SHUTTERS, _COLLIMATORS = range(0x00181600, 0x00181630), range(0x00181700, 0x00181730)
"""Places told in pixels of the image as it was."""

_SPACINGS = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "ObjectPixelSpacingInCenterOfBeam",
    "ImagePlanePixelSpacing",
)
_STORAGE = "1.2.840.10008.5.1.4.1.1"
_ANY_ROOM = ("3.1", "6.1", "7", "77.1.1", "77.1.2", "77.1.4", "77.1.5.1")
_GREY_ROOM = frozenset(f"{_STORAGE}.{end}" for end in (*_ANY_ROOM, "1", "7.2", "12.1", "12.2", "20", "481.1"))
_COLOUR_ROOM = frozenset(f"{_STORAGE}.{end}" for end in (*_ANY_ROOM, "7.4"))
"""SOP classes whose images may be 8-bit grey without a window, or 8-bit RGB."""

_SECONDARY_CAPTURE = f"{_STORAGE}.7"
_GREY_BYTES, _TRUE_COLOUR = f"{_SECONDARY_CAPTURE}.2", f"{_SECONDARY_CAPTURE}.4"
_PAGES = 0x00182001
_PER_FRAME = 0x52009230


def describe_training(dataset: Dataset, before: Samples, after: Samples) -> list[str]:
    """Make a data set describe the 8-bit, resized image; returns warnings.

    What was applied (rescale, window, lookup tables) goes, so that no reader applies it again; so does what is told in
    pixels of the old size. Spacings, positions and the aspect ratio follow the new size. A SOP class that cannot hold
    such an image becomes Secondary Capture.
    """
    drop_revealing(dataset)
    remove(dataset, _is_outdated)
    if text(dataset, SHAPE) in APPLIED_SHAPES:
        dataset.pop(SHAPE, None)
    warnings = _scale(dataset, before.rows / after.rows, before.columns / after.columns)
    describe_pixels(dataset, after)
    _set_aspect(dataset, before, after)
    mark_derived(dataset)
    _make_room(dataset, after)
    return warnings


def _is_outdated(tag: BaseTag) -> bool:
    return tag in _APPLIED or tag in _IN_PIXELS or tag in _SHUTTERS or tag in _COLLIMATORS


def _scale(dataset: Dataset, down: float, across: float) -> list[str]:
    """Scale spacings by the factors down and across, and move positions to the new first pixel's centre."""
    bad = False
    for each in _images(dataset):
        old = _pair(each, "PixelSpacing")
        for keyword in _SPACINGS:
            if keyword not in each:
                continue
            pair = _pair(each, keyword)
            if pair is None:
                del each[keyword]
                bad = True
            else:
                setattr(each, keyword, [_decimal(pair[0] * down), _decimal(pair[1] * across)])
        if old is not None:
            _move(each, old, down, across)
    return ["a spacing that is no pair of numbers was removed"] if bad else []


def _images(dataset: Dataset) -> Iterator[Dataset]:
    """The data set and the items of its functional groups; not the other images it refers to."""
    yield dataset
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(keyword) or ():
            yield from datasets(group)


def _move(image: Dataset, old: tuple[float, float], down: float, across: float) -> None:
    try:
        along_row = [float(value) for value in image.ImageOrientationPatient[:3]]
        along_column = [float(value) for value in image.ImageOrientationPatient[3:6]]
        position = [float(value) for value in image.ImagePositionPatient]
    except (AttributeError, TypeError, ValueError):
        return
    step = old[1] * (across - 1) / 2, old[0] * (down - 1) / 2
    moved = zip(position, along_row, along_column, strict=False)
    image.ImagePositionPatient = [_decimal(at + step[0] * x + step[1] * y) for at, x, y in moved]


def _pair(image: Dataset, keyword: str) -> tuple[float, float] | None:
    try:
        first, second = (float(value) for value in image[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
    usable = math.isfinite(first) and math.isfinite(second) and first > 0 and second > 0
    return (first, second) if usable else None


def _set_aspect(dataset: Dataset, before: Samples, after: Samples) -> None:
    """Say how much taller than wide a pixel is, where no spacing says it (C.7.6.3.1.7)."""
    given = _pair(dataset, "PixelAspectRatio") or (1.0, 1.0)
    if "PixelAspectRatio" in dataset:
        del dataset.PixelAspectRatio
    if any("PixelSpacing" in image for image in _images(dataset)):
        return
    tall = round(given[0]) * before.rows * after.columns
    wide = round(given[1]) * before.columns * after.rows
    if tall != wide:
        divisor = math.gcd(tall, wide)
        dataset.PixelAspectRatio = [tall // divisor, wide // divisor]


def _make_room(dataset: Dataset, after: Samples) -> None:
    room = _COLOUR_ROOM if after.channels == 3 else _GREY_ROOM
    if dataset.SOPClassUID in room:
        return
    several = after.frames > 1
    dataset.SOPClassUID = _SECONDARY_CAPTURE if not several else _TRUE_COLOUR if after.channels == 3 else _GREY_BYTES
    dataset.ConversionType = "WSD"
    if "PatientOrientation" not in dataset:
        dataset.PatientOrientation = None
    if several:
        _make_frames(dataset, after)


def _make_frames(dataset: Dataset, after: Samples) -> None:
    """What multi-frame Secondary Capture asks for (A.8.3, A.8.5)."""
    if "BurnedInAnnotation" not in dataset:
        # Nobody has said that there is none.
        dataset.BurnedInAnnotation = "YES"
    if after.channels == 1:
        dataset.PresentationLUTShape = "IDENTITY"
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    if "PerFrameFunctionalGroupsSequence" in dataset:
        dataset.FrameIncrementPointer = _PER_FRAME
    elif "FrameIncrementPointer" not in dataset:
        dataset.FrameIncrementPointer = _PAGES
        dataset.PageNumberVector = list(range(1, after.frames + 1))


def _decimal(value: float) -> str:
    return f"{value:.10g}"
