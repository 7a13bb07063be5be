"""Keys sealed at a cost that tests can pay, files that earlier code wrote, and DICOM files made to order."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from crypto import sealed_file
from crypto.config import CipherConfig
from crypto.dicom import hiding
from crypto.dicom.kind import DICOM
from crypto.files.kinds import FileReport
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal at a cost of some microseconds; at the real one it takes half a second."""
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)


@pytest.fixture
def fixtures() -> Path:
    """Files that earlier code wrote, and later code must go on reading."""
    return Path(__file__).with_name("fixtures")


class Steward:
    """Who hides DICOM files: a key, its ring, a recipe (blocks of 4, negated, attributes kept), and a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.key = SiteKey(bytes(range(32)), "mercy")
        self.ring = Keyring(self.key)
        self.report = FileReport()

    def recipe(self, purpose: str = "archive", **changes: Any) -> Recipe:
        """Make a recipe; `scheme` and `block` go to its cipher."""
        cipher = CipherConfig(
            scheme=changes.pop("scheme", "block-pixel"),
            block=changes.pop("block", 4),
            negate=changes.pop("negate", True),
        )
        changes.setdefault("identity", "kept")
        if purpose == "training":
            changes.setdefault("size", 32)
        return Recipe(purpose=purpose, cipher=cipher, **changes)

    def hide(self, source: Path, purpose: str = "archive", **changes: Any) -> Path:
        """Hide a file; returns where. Its report is kept in `report`."""
        target = self.home / f"{source.name}.{purpose}.hidden"
        self.report = DICOM.hide(source, target, self.recipe(purpose, **changes), self.key)
        return target

    def show(self, hidden: Path) -> Path:
        """Show a file; returns where."""
        target = hidden.with_suffix(".shown")
        DICOM.show(hidden, target, self.ring)
        return target


@pytest.fixture
def steward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steward:
    """A steward who works in the test's folder, and does not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    return Steward(tmp_path)


@pytest.fixture
def make_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a native file: `pixels` ([N,] H, W[, 3]) at `bits` of their dtype, and any attributes."""

    def make(pixels: np.ndarray, *, name: str = "image.dcm", bits: int | None = None, **attributes: Any) -> Path:
        dataset = dicom_dataset(pixels, bits=bits)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


def dicom_dataset(pixels: np.ndarray, *, bits: int | None = None) -> Dataset:
    """A Secondary Capture of these pixels."""
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    height, width = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    allocated = 8 * pixels.dtype.itemsize
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SECONDARY_CAPTURE, "1.2.3.4.5"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "17"
    dataset.Modality, dataset.ConversionType, dataset.ImageType = "OT", "WSD", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored = allocated, bits or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim - colour > 2:
        dataset.NumberOfFrames = len(pixels)
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return dataset


@pytest.fixture(scope="session")
def dicom_of() -> Callable[..., Dataset]:
    """Make the data set that `make_dicom` writes."""
    return dicom_dataset


class StandIn:
    """De-identification of two attributes."""

    def __init__(self, key: SiteKey, *, keep: tuple[str, ...] = (), safe_private: tuple[str, ...] = ()) -> None:
        self.keep = keep

    def apply(self, dataset: pydicom.Dataset, *, signs: Any = None) -> types.SimpleNamespace:
        done = types.SimpleNamespace(removed=[], replaced=[], warnings=[])
        if "PatientID" in dataset and "PatientID" not in self.keep:
            dataset.PatientID = "pseudonym"
            done.replaced.append("PatientID")
        if "PatientName" in dataset and "PatientName" not in self.keep:
            del dataset.PatientName
            done.removed.append("PatientName")
        return done


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the real de-identification is."""
    monkeypatch.setattr(hiding, "Deidentifier", StandIn)
