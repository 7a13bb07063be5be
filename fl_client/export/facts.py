"""What is known of a model when its run ends: for its cards, and for reading images as it was trained to."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from fl_client.export.calibration import as_logits, calibrate
from medveil.versions import environment

if TYPE_CHECKING:
    from fl_client.site import Site

Predicted: TypeAlias = "dict[str, npt.NDArray[np.float32]]"
_PARTS = ("train", "validation", "test")
_CONFIDENCE = 0.95


def facts_of(site: Site, round_: int, metrics: Mapping[str, float], said: Predicted) -> dict[str, Any]:
    """Everything the cards say, as plain data.

    Parameters
    ----------
    site
        The site that measured the model.
    round_
        The round after which it did.
    metrics
        What it measured.
    said
        Class probabilities (n, K) of the ``validation`` and the ``test`` part.
    """
    labels = {part: site.store.part(part).labels for part in _PARTS}
    config, source = site.setup.data, site.source
    fitted = calibrate(*((as_logits(said[part]), labels[part]) for part in ("validation", "test")))
    return {
        "kept": datetime.now(UTC).isoformat(timespec="seconds"),
        "site": site.setup.name,
        "round": round_,
        "run_config": json.loads(site.run.to_json()),
        "environment": environment(),
        "fingerprint": site.cipher.fingerprint,
        "stem_rule": site.cipher.stem_rule,
        "padded": list(site.cipher.padded),
        "hidden_source": None if source.hidden is None else source.hidden._asdict(),
        "data": {
            "source": config.source,
            "window": config.window,
            "min_side": config.min_side,
            "group_by": config.group_by,
            "augment": config.augment,
            "flip": config.flip,
            "views": config.views,
            "counts": {part: _counts(labels[part], len(site.run.classes)) for part in _PARTS},
            "skipped": len(site.store.skipped),
            "warnings": list(source.warnings),
        },
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "test_accuracy_interval": accuracy_interval(labels["test"], said["test"]),
        "calibration": dataclasses.asdict(fitted),
    }


def accuracy_interval(labels: npt.NDArray[np.int64], said: npt.NDArray[np.float32]) -> list[float] | None:
    """The 95 % interval of the accuracy on n images (Wilson, "Probable Inference", JASA 1927); None for no image."""
    if not len(labels):
        return None
    hits = int((said.argmax(1) == labels).sum())
    found = binomtest(hits, len(labels)).proportion_ci(_CONFIDENCE, method="wilson")
    return [float(found.low), float(found.high)]


def _counts(labels: npt.NDArray[np.int64], classes: int) -> list[int]:
    return [int(count) for count in np.bincount(labels, minlength=classes)]
