"""Signs that text, or a face, may be in the pixels, which de-identification of attributes does not touch."""

from __future__ import annotations

import re
from typing import Final

from pydicom import Dataset

from crypto.deid.values import texts_of

_NOT_CLEANED: Final = "the pixels are not cleaned, look at the images"

_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.7": "secondary captures",
    "1.2.840.10008.5.1.4.1.1.6": "ultrasound images",
    "1.2.840.10008.5.1.4.1.1.3": "ultrasound clips",
    "1.2.840.10008.5.1.4.1.1.12": "angiograms and fluoroscopy",
    "1.2.840.10008.5.1.4.1.1.77.1": "visible-light images",
    "1.2.840.10008.5.1.4.1.1.104": "scanned documents",
    "1.2.840.10008.5.1.1.29": "hardcopies",
    "1.2.840.10008.5.1.1.30": "hardcopies",
}
"""Roots of SOP classes (PS3.6 A) -> what such objects are."""

_MODALITIES: Final = {
    "US": "ultrasound images",
    "IVUS": "ultrasound images",
    "BDUS": "ultrasound images",
    "XA": "angiograms",
    "RF": "fluoroscopy",
    "CF": "fluoroscopy",
    "DF": "fluoroscopy",
    "OT": "images of other modalities",
    "SC": "secondary captures",
    "ES": "endoscopy images",
    "XC": "photographs",
    "GM": "microscopy images",
    "OP": "eye photographs",
    "DOC": "scanned documents",
    "HC": "hardcopies",
    "BMD": "bone densitometry images",
    "PX": "dental panoramic images",
}

_CONVERSIONS: Final = {
    "DV": "digitised video",
    "DF": "digitised film",
    "SD": "scanned documents",
    "SI": "scanned images",
    "DRW": "drawings",
}

_SCREEN: Final = re.compile(r"SCREEN|CAPTURE|REPORT|SUMMARY|DOSE|PROTOCOL|CHART|GRAPH|TEXT", re.IGNORECASE)


def burned_in_warnings(dataset: Dataset) -> list[str]:
    """Warnings, one sentence each, for a data set before its attributes are cleaned. None of its values is in them.

    BurnedInAnnotation NO silences nothing: devices set it without looking.
    """
    found = []
    if "YES" in _upper(dataset, "BurnedInAnnotation"):
        found.append(f"BurnedInAnnotation says that text is burned in: {_NOT_CLEANED}")
    if kind := _kind(dataset):
        found.append(f"{kind} often carry text in the pixels: {_NOT_CLEANED}")
    if any(_SCREEN.search(value) for value in texts_of(dataset, "ImageType")):
        found.append(f"ImageType speaks of a screen, a report or the like: {_NOT_CLEANED}")
    if "YES" in _upper(dataset, "RecognizableVisualFeatures"):
        found.append(f"RecognizableVisualFeatures says that a person can be recognised: {_NOT_CLEANED}")
    return found


def _kind(dataset: Dataset) -> str | None:
    for uid in texts_of(dataset, "SOPClassUID"):
        for root, kind in _CLASSES.items():
            if uid == root or uid.startswith(f"{root}."):
                return kind
    for keyword, kinds in (("Modality", _MODALITIES), ("ConversionType", _CONVERSIONS)):
        for value in _upper(dataset, keyword):
            if value in kinds:
                return kinds[value]
    return None


def _upper(dataset: Dataset, keyword: str) -> list[str]:
    return [value.upper() for value in texts_of(dataset, keyword)]
