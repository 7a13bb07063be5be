"""Whose image it is that a report is about: patient, study and instance, as the image's own file has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from crypto.reading.dicom import DicomImage
from crypto.reading.dicom_head import is_dicom
from crypto.reading.look import read_head
from fl_client.export.images import Place, stamp_of
from medveil.errors import DataError

_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*")
_LONGEST_UID = 64
_DATE = re.compile(r"(?:\d{8})?")
_TIME = re.compile(r"(?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?")
_SEX = re.compile(r"[MFO]?")
_PLAIN_FILE = "a report takes the patient, the study and the instance from the image's own DICOM file"


class Taken(NamedTuple):
    """An attribute that a report takes over: its keyword, how long it may be, and what it may be."""

    keyword: str
    longest: int
    form: re.Pattern[str] | None = None


TAKEN = (
    Taken("PatientID", 64),
    Taken("IssuerOfPatientID", 64),
    Taken("PatientName", 3 * 64 + 2),
    Taken("PatientBirthDate", 8, _DATE),
    Taken("PatientSex", 1, _SEX),
    Taken("StudyInstanceUID", _LONGEST_UID, _UID),
    Taken("StudyDate", 8, _DATE),
    Taken("StudyTime", 13, _TIME),
    Taken("StudyID", 16),
    Taken("AccessionNumber", 16),
    Taken("ReferringPhysicianName", 3 * 64 + 2),
    Taken("StudyDescription", 64),
)
"""What a report takes over of patient and study; lengths are those of PS3.5 6.2."""
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True)
class Instance:
    """An image as a report refers to it.

    Parameters
    ----------
    sop_class, uid, series
        UIDs of its class, of itself and of its series.
    frames
        How many it has.
    subject
        Whose it is: attributes of patient and study by their keywords, those without a value as empty text.
    """

    sop_class: str
    uid: str
    series: str
    frames: int
    subject: Mapping[str, str]


def instance_of(place: Place) -> Instance:
    """What a report takes from the file of an image that a model was asked about.

    Raises
    ------
    DataError
        It is no DICOM, or hidden, or changed since; a UID is missing; or an attribute that is taken over is not as
        DICOM asks. No value is quoted.
    """
    if not is_dicom(read_head(place.path)):
        raise DataError("is no DICOM file", cure=_PLAIN_FILE)
    image = DicomImage(place.path)
    if image.hidden:
        raise DataError("is hidden, and names no patient or another one", cure=_PLAIN_FILE)
    missing = [each for each in _NEEDED if not image.text(each)]
    if missing:
        raise DataError(f"has no {' and no '.join(missing)}", cure="give the file as the PACS sends it")
    subject = {each.keyword: _value(image, each) for each in TAKEN}
    series, uid, sop_class = (_value(image, Taken(each, _LONGEST_UID, _UID)) for each in _NEEDED[1:])
    if stamp_of(place.path) != place.stamp:
        raise DataError("changed since the model was asked about it", cure="run again when nothing writes to it")
    return Instance(sop_class, uid, series, image.about.frames, subject)


def _value(image: DicomImage, taken: Taken) -> str:
    value = image.text(taken.keyword)
    if len(value) > taken.longest:
        problem = f"its {taken.keyword} has {len(value)} characters, more than the {taken.longest} that DICOM takes"
        raise DataError(problem, cure=f"correct {taken.keyword}")
    if "\\" in value or not value.isprintable() or (taken.form is not None and not taken.form.fullmatch(value)):
        # The value stays unsaid: it may name the patient.
        raise DataError(f"its {taken.keyword} is not as DICOM asks", cure=f"correct {taken.keyword}")
    return value
