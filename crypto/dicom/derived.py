"""The data set of a hidden file: one of an image derived from another, which nothing in it shows."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from crypto.config import CipherConfig
from crypto.dicom.attributes import describe_pixels, drop_revealing
from crypto.dicom.walk import datasets, tags_of
from crypto.files.recipe import TRAINING, Recipe
from crypto.reading.dicom_samples import Samples
from medveil.versions import medveil_version

_NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"
_DERIVED_BY_MACRO = ("1.2.840.10008.5.1.4.1.1.13.1.4", "1.2.840.10008.5.1.4.1.1.13.1.5")
"""Breast projections: the classes whose derived images must have the derivation image macro (again by dciodvfy)."""
_LONGEST_TEXT = 1024
_CODE_OF_HIDING = ("HIDDEN", "99MEDVEIL", "Pixels hidden by a keyed cipher")
_CODE_OF_RESIZING = ("113085", "DCM", "Spatial resampling")
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"

_ORIGINAL_ONLY = tags_of(
    "AcquisitionDuration",
    "BulkMotionCompensationTechnique",
    "BulkMotionSignalSource",
    "CardiacRRIntervalSpecified",
    "CoverageOfKSpace",
    "EchoPlanarPulseSequence",
    "EchoPulseSequence",
    "GeometryOfKSpaceTraversal",
    "IntervalsAcquired",
    "IntervalsRejected",
    "MRAcquisitionType",
    "MultiPlanarExcitation",
    "MultipleSpinEcho",
    "NumberOfKSpaceTrajectories",
    "OversamplingPhase",
    "PhaseContrast",
    "PulseSequenceName",
    "RectilinearPhaseEncodeReordering",
    "SaturationRecovery",
    "SegmentedKSpaceTraversal",
    "SpectrallySelectedSuppression",
    "SteadyStatePulseSequence",
    "TimeOfFlightContrast",
)
"""What multi-frame images may say at the top level only while their ImageType is ORIGINAL or MIXED, as dciodvfy has
it: found by asking it about every attribute of every image class, once as ORIGINAL and once as DERIVED."""


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
    if "NumberOfFrames" in dataset:
        # Also where it was written in a way of its own.
        dataset.NumberOfFrames = hidden.frames
    dataset.SOPInstanceUID = instance
    mark_derived(dataset)
    if _SHARED in dataset:
        for tag in _ORIGINAL_ONLY:
            dataset.pop(tag, None)
    _say_derivation(dataset, recipe)


def _say_derivation(dataset: Dataset, recipe: Recipe) -> None:
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
    shared = dataset.get(_SHARED)
    asked = shared and dataset.get("SOPClassUID") in _DERIVED_BY_MACRO
    if asked and not any("DerivationImageSequence" in group for group in (*shared, *(dataset.get(_PER_FRAME) or ()))):
        macro = Dataset()
        macro.DerivationDescription, macro.DerivationCodeSequence = done, [_code(code) for code in codes]
        macro.SourceImageSequence = []
        shared[0].DerivationImageSequence = [macro]


def mark_derived(dataset: Dataset) -> None:
    r"""Set ImageType to ``DERIVED\SECONDARY\...``, and the frame types of functional groups with it.

    Where the standard allows ``PRIMARY`` alone as second value (nuclear medicine, and images with functional groups),
    the second value stays.
    """
    held = _SHARED in dataset or dataset.get("SOPClassUID") == _NUCLEAR_MEDICINE
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
