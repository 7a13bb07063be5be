"""Warnings of text in the pixels."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from pydicom import Dataset

from crypto.deid.burned_in import burned_in_warnings


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def image(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
        ({"BurnedInAnnotation": "yes "}, "BurnedInAnnotation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary captures"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary captures"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "ultrasound images"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1"}, "ultrasound clips"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.1"}, "angiograms"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}, "visible-light"),
        ({"Modality": "US"}, "ultrasound"),
        ({"Modality": "OT"}, "other modalities"),
        ({"Modality": "ES"}, "endoscopy"),
        ({"Modality": "XC"}, "photographs"),
        ({"Modality": "CT", "ConversionType": "SD"}, "scanned documents"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "ImageType"),
        ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "ImageType"),
        ({"ImageType": "report"}, "ImageType"),
        ({"RecognizableVisualFeatures": "YES"}, "recognised"),
    ],
)
def test_a_sign_of_text_is_warned_about(attributes: dict[str, Any], word: str) -> None:
    found = burned_in_warnings(image(**attributes))
    assert len(found) == 1
    assert word in found[0] and "pixels are not cleaned" in found[0]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77", "Modality": "MR", "BurnedInAnnotation": "NO"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"},
    ],
)
def test_no_sign_no_warning(attributes: dict[str, Any]) -> None:
    assert burned_in_warnings(image(**attributes)) == []


def test_a_device_that_says_no_is_not_believed() -> None:
    assert burned_in_warnings(image(Modality="US", BurnedInAnnotation="NO"))


def test_no_value_is_quoted() -> None:
    found = burned_in_warnings(image(Modality="US", ImageType=["SCREEN OF DOE"], BurnedInAnnotation="YES"))
    assert len(found) == 3 and "DOE" not in " ".join(found)
