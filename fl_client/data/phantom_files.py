"""The scanners phantoms are taken with, and the DICOM files they write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medveil.files import storage_error

_IMPLEMENTATION = UID("1.2.826.0.1.3680043.8.498.1")
_FIELD_OF_VIEW_MM = 220.0

Field = npt.NDArray[np.float64]
Stored = npt.NDArray[np.int16] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Patient:
    """Who is imaged: an invented patient."""

    id: str
    site: str
    number: int


@dataclass(frozen=True)
class Scanner:
    """How one hospital's scanner differs from another's.

    `matrix` scales the side of the image; `gain`, `noise` (standard deviation) and `blur` (pixels) act on a signal of
    0 to 1; stored values have `bits` bits, signed ones begin at -1024 (Hounsfield units).
    """

    maker: str
    modality: str
    matrix: float
    gain: float
    noise: float
    blur: float
    bits: int
    signed: bool = False

    def acquire(self, signal: Field, rng: np.random.Generator) -> Stored:
        """Image a signal (float64 (H, W), 0 to 1) as stored pixel values (int16 or uint16)."""
        from scipy import ndimage  # noqa: PLC0415 - a site that draws no phantoms does without

        side = round(len(signal) * self.matrix)
        image = ndimage.zoom(signal, side / len(signal), order=1, grid_mode=True, mode="grid-constant")
        image = ndimage.gaussian_filter(image, self.blur) * self.gain + rng.normal(0.0, self.noise, image.shape)
        stored = np.asarray(np.rint(np.clip(image, 0.0, 1.0) * (2**self.bits - 1)))
        return (stored - 1024).astype(np.int16) if self.signed else stored.astype(np.uint16)


SCANNERS = (
    Scanner("Norrland Imaging", "MR", 1.0, 0.95, 0.015, 0.3, 12),
    Scanner("Helvetia Medical", "MR", 1.25, 0.75, 0.030, 0.6, 12),
    Scanner("Pacifica Scanners", "CT", 1.5, 0.85, 0.025, 0.9, 12, signed=True),
    Scanner("Ambra Systems", "MR", 1.125, 1.0, 0.045, 0.2, 10),
)


def write_phantom(
    path: Path,
    stored: Stored,
    patient: Patient,
    scanner: Scanner,
    *,
    entropy: Sequence[str],
) -> None:
    """Write one slice as a DICOM file; the same input gives the same bytes.

    Parameters
    ----------
    entropy
        What its unique identifiers are derived from.
    """
    kind = CTImageStorage if scanner.modality == "CT" else MRImageStorage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", *entropy])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    _describe_patient(made, patient)
    _describe_series(made, patient, scanner, entropy)
    _describe_image(made, stored, scanner)
    try:
        made.save_as(path, enforce_file_format=True)
    except OSError as error:
        raise storage_error(error, path, "write the phantom") from error


def _describe_patient(made: FileDataset, patient: Patient) -> None:
    made.PatientName = f"Phantom^{patient.number + 1:05d}"
    made.PatientID = patient.id
    made.PatientBirthDate = ""
    made.PatientSex = "O"
    made.StudyInstanceUID = generate_uid(entropy_srcs=["study", patient.id])
    made.StudyDate, made.StudyTime = "20240101", "120000"
    made.StudyID = str(patient.number + 1)
    made.AccessionNumber = ""
    made.ReferringPhysicianName = ""


def _describe_series(made: FileDataset, patient: Patient, scanner: Scanner, entropy: Sequence[str]) -> None:
    made.Modality = scanner.modality
    made.SeriesInstanceUID = generate_uid(entropy_srcs=["series", patient.id])
    made.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", patient.id])
    made.SeriesNumber = 1
    made.InstanceNumber = int(entropy[-1]) + 1
    made.Manufacturer = scanner.maker
    made.InstitutionName = patient.site
    made.PositionReferenceIndicator = ""
    made.PatientPosition = "HFS"
    if scanner.modality == "CT":
        made.KVP = "120"
        made.AcquisitionNumber = 1
        return
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "SE", "NONE", ""
    made.MRAcquisitionType, made.EchoTime, made.RepetitionTime, made.EchoTrainLength = "2D", "15", "500", 1


def _describe_image(made: FileDataset, stored: Stored, scanner: Scanner) -> None:
    rows, columns = stored.shape
    made.ImageType = ["DERIVED", "PRIMARY", "AXIAL" if scanner.modality == "CT" else "OTHER"]
    made.PixelSpacing = [round(_FIELD_OF_VIEW_MM / rows, 6), round(_FIELD_OF_VIEW_MM / columns, 6)]
    made.SliceThickness = "5"
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.ImagePositionPatient = [-_FIELD_OF_VIEW_MM / 2, -_FIELD_OF_VIEW_MM / 2, 0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = rows, columns
    made.BitsAllocated = 16
    made.BitsStored = 16 if scanner.signed else scanner.bits
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(scanner.signed)
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = "1", "0", "HU" if scanner.modality == "CT" else "US"
    span = 2**scanner.bits
    made.WindowCenter = str(span // 2 - (1024 if scanner.signed else 0))
    made.WindowWidth = str(span)
    made.PixelData = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("<")).tobytes()
