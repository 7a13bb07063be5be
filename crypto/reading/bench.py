"""How fast the frames of a DICOM file are read, and whether many take as long each as few."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from crypto.reading.dicom import DicomImage

_SIDE = 16


def bench_frames(few: int = 150, many: int = 1200, turns: int = 3) -> dict[str, float]:
    """Measure the reading of enhanced MR files, small frames with functional groups of their own.

    Parameters
    ----------
    few, many
        Frames of the two files.
    turns
        How often each is read; the fastest counts.

    Returns
    -------
    dict
        dicom_frames_per_s of the larger file, and dicom_frame_of_many_over_few, the ratio of the times that a frame
        takes in either: 1 where reading is linear.
    """
    with tempfile.TemporaryDirectory(prefix="medveil-bench-") as scratch:
        files = {frames: _write(Path(scratch) / f"{frames}.dcm", frames) for frames in (few, many)}
        taken = {frames: min(_read(path) for _ in range(turns)) / frames for frames, path in files.items()}
    return {"dicom_frames_per_s": 1 / taken[many], "dicom_frame_of_many_over_few": taken[many] / taken[few]}


def _read(path: Path) -> float:
    started = time.perf_counter()
    image = DicomImage(path)
    for frame in range(image.about.frames):
        image.shown(frame)
    return time.perf_counter() - started


def _write(path: Path, frames: int) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = EnhancedMRImageStorage, "1.2.3"
    made.Rows = made.Columns = _SIDE
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.NumberOfFrames = 16, 12, 11, frames
    made.PerFrameFunctionalGroupsSequence = [_groups(frame) for frame in range(frames)]
    made.PixelData = np.random.default_rng(0).integers(0, 4096, (frames, _SIDE, _SIDE), dtype=np.uint16).tobytes()
    made["PixelData"].VR = "OW"
    made.save_as(path, enforce_file_format=True)
    return path


def _groups(frame: int) -> Dataset:
    window, group = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = str(2048 + frame % 7), "4000"
    group.FrameVOILUTSequence = [window]
    return group
