"""Which DICOM objects are no images to be hidden or trained on: refused by name, in the same words, at every door."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from crypto.dicom.private import is_hidden
from crypto.reading.dicom_file import OpenFile
from crypto.reading.dicom_values import numbers, text, texts
from medveil.errors import DataError

REFUSED = {
    "1.2.840.10008.1.3.10": ("a DICOMDIR", "it names patients and files of a medium and has no pixels"),
    "1.2.840.10008.5.1.4.1.1.8": ("a standalone overlay", "it has no pixel data of its own"),
    "1.2.840.10008.5.1.4.1.1.9": ("a waveform or a curve", "a signal is no image and would stay readable"),
    "1.2.840.10008.5.1.4.1.1.10": ("a standalone modality LUT", "it has no pixels"),
    "1.2.840.10008.5.1.4.1.1.11": (
        "a presentation state",
        "it is of another image, and its annotations would stay readable",
    ),
    "1.2.840.10008.5.1.4.1.1.66": ("raw data, a registration or fiducials", "it has no pixels"),
    "1.2.840.10008.5.1.4.1.1.66.4": ("a segmentation", "its pixels are labels of another image"),
    "1.2.840.10008.5.1.4.1.1.66.5": ("a surface segmentation", "its surfaces would stay readable"),
    "1.2.840.10008.5.1.4.1.1.66.6": ("a tractography result", "its tracks would stay readable"),
    "1.2.840.10008.5.1.4.1.1.66.7": ("a label map", "its pixels are labels of another image"),
    "1.2.840.10008.5.1.4.1.1.67": ("a real world value mapping", "it has no pixels"),
    "1.2.840.10008.5.1.4.1.1.68": ("a surface scan", "its surface would stay readable"),
    "1.2.840.10008.5.1.4.1.1.78": ("ophthalmic measurements", "they are text and would stay readable"),
    "1.2.840.10008.5.1.4.1.1.79": ("an ophthalmic report", "its text would stay readable"),
    "1.2.840.10008.5.1.4.1.1.80": ("visual field measurements", "they would stay readable"),
    "1.2.840.10008.5.1.4.1.1.88": ("a structured report", "its text would stay readable"),
    "1.2.840.10008.5.1.4.1.1.91": ("bulk annotations", "they are of another image"),
    "1.2.840.10008.5.1.4.1.1.104": ("an encapsulated document (PDF, CDA or 3D model)", "it would stay readable"),
    "1.2.840.10008.5.1.4.1.1.129": ("a waveform or a curve", "a signal is no image and would stay readable"),
    "1.2.840.10008.5.1.4.1.1.131": ("a structured display", "it has no pixels"),
    "1.2.840.10008.5.1.4.1.1.200": ("a procedure protocol", "it has no pixels"),
    "1.2.840.10008.5.1.4.1.1.30": ("a parametric map", "its values are measurements made of another image"),
    "1.2.840.10008.5.1.4.1.1.481.2": ("an RT dose", "its values are doses, not an image"),
    "1.2.840.10008.5.1.4.1.1.481.3": ("an RT structure set", "its contours would stay readable"),
    "1.2.840.10008.5.1.4.1.1.4.2": ("MR spectroscopy", "spectra are no image and would stay readable"),
    "1.2.840.10008.5.1.4.38": ("a hanging protocol", "it has no pixels"),
    "1.2.840.10008.5.1.4.39": ("a colour palette", "it has no pixels"),
}
"""UID of a SOP class, or the stem of a family of them, to what it is and why it is refused; the longest stem counts."""

_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_NO_MODALITIES = {"SR": "a report", "DOC": "a document", "KO": "a selection of images", "PR": "a presentation state"}
_DOSE = re.compile(
    r"\b(radiation|ct)?[ _-]*dos(e|is)[ _-]*(report|info(rmation)?|summary|record|sheet|page|protokoll|bericht)\b"
    r"|\bpatient(en)?[ _-]*protoko?l(l)?\b|\b(dosimetry|rdsr)\b|^dose$",
    re.IGNORECASE,
)
_REPORT = re.compile(
    r"\b(exam(ination)?|patient|scan|structured|final|summary|text|measurement|result)s?[ _-]*"
    r"(report|info(rmation)?|summary|protocol|record|sheet|page)s?\b|^(reports?|summary|worksheet)$",
    re.IGNORECASE,
)
"""What scanners call the screens of text that they send beside their images; the second, secondary captures alone."""
_A_UID = re.compile("[0-9.]{1,64}")
_TITLES = ("SeriesDescription", "ImageType")
_MORE_TITLES = ("ProtocolName", "ImageComments", "DocumentTitle", "AcquisitionProtocolDescription")

_SLIDES = ("1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.5.1.4.1.1.77.1.9")
_LABELS = {"LABEL", "OVERVIEW"}


def refuse(opened: OpenFile) -> None:
    """Refuse a file that holds no image that could be hidden or trained on.

    Raises
    ------
    DataError
        Says what the file is, and why it is refused.
    """
    dataset, path = opened.dataset, opened.path
    if is_hidden(dataset):
        raise DataError("is hidden already", where=path, cure="show it first")
    sop_class = class_of(dataset)
    named = _named(sop_class)
    if named is not None:
        what, why = named
        raise DataError(f"is {what}, which is refused: {why}", where=path)
    if opened.pixels is None:
        what = UID(sop_class).name if sop_class else "an object of no SOP class"
        raise DataError(f"has no pixels ({what}), so it is no image", where=path)
    if opened.pixels.keyword != "PixelData":
        cure = "MedVeil reads integer samples of up to 16 bits"
        raise DataError("has floating-point pixels, which no cipher here keeps exactly", where=path, cure=cure)
    if text(dataset, "BitsAllocated") == "1" or next(iter(_depth(dataset)), None) == 1:
        raise DataError("has 1-bit pixels: a mask, which is no image", where=path)
    _refuse_reports(dataset, sop_class, path)
    if sop_class in _SLIDES:
        _refuse_labels(dataset, path)
    if not sop_class or not instance_of(dataset):
        raise DataError("has no SOP class or no SOP instance UID", where=path)


def class_of(dataset: Dataset) -> str:
    """The SOP class UID, or that of the file meta information; an empty text where neither is a UID.

    A value whose length is damaged holds what stands behind it, names of patients among it: no such text goes further.
    """
    found = (text(dataset, "SOPClassUID"), text(dataset.file_meta, "MediaStorageSOPClassUID"))
    return next((each for each in found if _A_UID.fullmatch(each)), "")


def instance_of(dataset: Dataset) -> str:
    """The SOP instance UID, or that of the file meta information, or an empty text."""
    return text(dataset, "SOPInstanceUID") or text(dataset.file_meta, "MediaStorageSOPInstanceUID")


def _named(sop_class: str) -> tuple[str, str] | None:
    parts = sop_class.split(".")
    stems = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((REFUSED[stem] for stem in stems if stem in REFUSED), None)


def _depth(dataset: Dataset) -> list[float | None]:
    try:
        return numbers(dataset, "BitsAllocated")
    except DataError:
        return []


def _refuse_reports(dataset: Dataset, sop_class: str, path: Path) -> None:
    """Refuse screens of text that are stored as images."""
    what = _NO_MODALITIES.get(text(dataset, "Modality"))
    titles = [title.replace("_", " ") for keyword in _TITLES for title in texts(dataset, keyword)]
    if any(_DOSE.search(title) for title in titles):
        what = what or "a report"
    if _is_secondary(sop_class):
        titles += [title.replace("_", " ") for keyword in _MORE_TITLES for title in texts(dataset, keyword)]
        if any(_DOSE.search(title) or _REPORT.search(title) for title in titles):
            what = what or "a report"
    if what is not None:
        problem = f"is {what} stored as an image, which is refused: its pixels are text, and may name the patient"
        raise DataError(problem, where=path, cure="leave it out of what is shared")


def _is_secondary(sop_class: str) -> bool:
    return sop_class == _SECONDARY or sop_class.startswith(f"{_SECONDARY}.")


def _refuse_labels(dataset: Dataset, path: Path) -> None:
    for value in sorted(_LABELS & set(texts(dataset, "ImageType"))):
        problem = f"is the {value} image of a whole slide, which is refused: its pixels name the patient"
        raise DataError(problem, where=path, cure="leave it out of what is shared")
