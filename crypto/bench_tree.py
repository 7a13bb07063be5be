"""How long it takes to hide a tree of DICOM files, end to end, and what the time goes to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID, ExplicitVRLittleEndian

from crypto.config import CipherConfig
from crypto.files.recipe import ARCHIVE, Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.plan import Plan
from crypto.tree.run import run_tree
from crypto.tree.workers import Alone
from medveil import plain

STAGES = ("read", "decode", "deidentify", "encrypt", "authenticate", "write")
"""What a file's time goes to. `encrypt` is the cipher, `authenticate` the MAC over data set and ciphertext."""
_SIDE = 512
_BITS = 12


def bench_tree(folder: Path | None = None, *, files: int = 200, block: int = 16) -> dict[str, Any]:
    """Hide a tree as an archive, de-identified, in this process.

    Parameters
    ----------
    folder
        The tree; None draws CT slices of 512x512 with 12 significant bits, not compressed, with the attributes of
        pydicom's ``CT_small.dcm``.
    files
        How many to draw.
    block
        Edge of a cipher block in pixels.

    Returns
    -------
    dict
        files, failed, bytes_read, seconds (wall), files_per_s, gb_per_s, stage_seconds,
        and stage_shares of the time all stages took, which add up to 1.
    """
    with tempfile.TemporaryDirectory(prefix="medveil-bench-") as scratch:
        source = folder or draw_tree(Path(scratch) / "plain", files)
        recipe = Recipe(purpose=ARCHIVE, cipher=CipherConfig(block=block, negate=True))
        plan = Plan(source=source, target=Path(scratch) / "hidden", recipe=recipe, jobs=1)
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            found = run_tree(plan, Keyring(SiteKey.generate("bench")), crew=Alone, console=plain.console(file=nowhere))
    said = found.summary.as_json()
    stages = {stage: seconds for stage in STAGES if (seconds := found.summary.seconds.get(stage, 0.0))}
    busy = sum(stages.values())
    return {
        "files": said["done"],
        "failed": said["failed"],
        "bytes_read": said["bytes_read"],
        "seconds": said["seconds"],
        "files_per_s": said["files_per_second"],
        "gb_per_s": said["bytes_read"] / 1e9 / said["seconds"],
        "stage_seconds": stages,
        "stage_shares": {stage: seconds / busy for stage, seconds in stages.items()},
    }


def draw_tree(folder: Path, files: int) -> Path:
    """Draw CT slices of ten patients, one folder each; returns the folder."""
    template = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    rng = np.random.default_rng(0)
    for number in range(files):
        slice_ = _slice(template, number, rng)
        path = folder / f"patient-{number % 10}" / f"{number:05}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        slice_.save_as(path)
    return folder


def _slice(template: Dataset, number: int, rng: np.random.Generator) -> Dataset:
    made = template
    y, x = np.mgrid[-1 : 1 : 1j * _SIDE, -1 : 1 : 1j * _SIDE]
    body = np.where(x**2 + y**2 < 0.8, 1000 + 400 * np.cos(3 * x + number) * np.cos(4 * y), 0)
    pixels = np.clip(body + rng.normal(0, 20, body.shape), 0, 2**_BITS - 1).astype(np.uint16)
    made.PatientID = made.PatientName = f"patient-{number % 10}"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.3680043.8.498.{number + 1}")
    made.set_pixel_data(pixels, "MONOCHROME2", _BITS, generate_instance_uid=False)
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made
