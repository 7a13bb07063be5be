"""What a site leaves in its own folder beside store, stems and models: ``site.json`` and ``predictions.npz``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medveil.files import make_folder, write_bytes, write_json

FORMAT = "medveil-site"
VERSION = 1
DESCRIPTION, _PREDICTIONS = "site.json", "predictions.npz"


def write_description(folder: Path, details: Mapping[str, Any]) -> None:
    """Write what the site is for a run (StorageError where the disk refuses)."""
    make_folder(folder, mode=0o700)
    write_json(folder / DESCRIPTION, {"format": FORMAT, "version": VERSION, **details}, mode=0o600)


def write_predictions(folder: Path, *, ids: Any, labels: Any, probabilities: Any, groups: Any) -> None:
    """Keep the class probabilities (n, K) of the test images (StorageError where the disk refuses).

    Parameters
    ----------
    groups
        (n,) what names the group of each image: no name of a patient, as `group_names` makes them.
    """
    packed = io.BytesIO()
    np.savez(
        packed,
        ids=np.asarray(ids, dtype=str),
        groups=np.asarray(groups, dtype=str),
        labels=labels,
        probabilities=probabilities,
        split="test",
    )
    write_bytes(folder / _PREDICTIONS, packed.getvalue(), mode=0o600)
