"""What a site leaves in its own folder beside store, stems and models: ``site.json`` and ``predictions.npz``.

A real site seals both (`fl_client.data.documents`): they hold names of images, and labels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_client.data.documents import Documents

FORMAT = "medveil-site"
VERSION = 1
DESCRIPTION, PREDICTIONS = "site.json", "predictions.npz"


def write_description(documents: Documents, details: Mapping[str, Any]) -> None:
    """Write what the site is for a run (StorageError where the disk refuses)."""
    documents.write(DESCRIPTION, {"format": FORMAT, "version": VERSION, **details})


def write_predictions(documents: Documents, *, ids: Any, labels: Any, probabilities: Any, groups: Any) -> None:
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
    documents.write_bytes(PREDICTIONS, packed.getvalue())
