"""What a site leaves in its own folder beside store, stems and models: ``site.json`` and ``predictions.npz``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medveil.errors import DataError
from medveil.files import make_folder, write_bytes, write_json
from medveil.shapes import read_document

FORMAT = "medveil-site"
VERSION = 1
_DESCRIPTION, _PREDICTIONS = "site.json", "predictions.npz"


def write_description(folder: Path, details: Mapping[str, Any]) -> None:
    """Write what the site is for a run (StorageError where the disk refuses)."""
    make_folder(folder, mode=0o700)
    write_json(folder / _DESCRIPTION, {"format": FORMAT, "version": VERSION, **details}, mode=0o600)


def refuse_changed_images(folder: Path, *, run: str, source: object, site: str) -> None:
    """Refuse to go on with a run over other images: it would train on what it was to be tested on.

    Parameters
    ----------
    folder
        The site's own.
    run
        Identity of the run.
    source
        What names the images now.
    site
        Its name.

    Raises
    ------
    DataError
        The folder tells of the same run over other images.
    """
    path = folder / _DESCRIPTION
    if not path.is_file():
        return
    recorded = read_document(path, {"run?": str}, name=FORMAT, newest=VERSION)
    if recorded.get("run") == run and recorded.get("source") != source:
        raise DataError("the images changed since the run began", where=site, cure="start a new run")


def write_predictions(folder: Path, *, ids: Any, labels: Any, probabilities: Any, groups: Any) -> None:
    """Keep the class probabilities (n, K) of the test images (StorageError where the disk refuses).

    Parameters
    ----------
    groups
        (n,) what names the group of each image: no name of a patient, as `group_names` makes them.
    """
    packed = io.BytesIO()
    named = {"ids": np.asarray(ids, dtype=str), "groups": np.asarray(groups, dtype=str)}
    np.savez(packed, **named, labels=labels, probabilities=probabilities, split="test")
    write_bytes(folder / _PREDICTIONS, packed.getvalue(), mode=0o600)
