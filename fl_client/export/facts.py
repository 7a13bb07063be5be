"""What is known of a model when its run ends: for its cards, and for reading images as it was trained to."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from crypto.imaging import preprocess
from fl_client.export.calibration import Calibration, Labels, as_logits, calibrate
from fl_client.leaving import Leaving
from fl_client.site import Site
from medveil.contract import measure_key
from medveil.versions import environment

Predicted: TypeAlias = "dict[str, npt.NDArray[np.float32]]"
_MEASURED = ("validation", "test")
_PARTS = ("train", *_MEASURED)
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
    leaving = site.setup.leaving
    config, source = site.setup.data, site.source
    kept = {part: leaving.kept(labels[part]) for part in _MEASURED}
    fitted = calibrate(*((as_logits(said[part][kept[part]]), labels[part][kept[part]]) for part in _MEASURED))
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
            "preparation": preprocess.VERSION,
            "group_by": config.group_by,
            "split": {"kind": source.split, "official": sorted({item.split for item in source.items} - {None})},
            "augment": config.augment,
            "flip": config.flip,
            "views": config.views,
            "smallest": leaving.smallest,
            "counts": {part: leaving.counts(labels[part], len(site.run.classes)) for part in _PARTS},
            "skipped": leaving.count(len(site.images.skipped)),
            "said": list(source.said),
            "warnings": [] if source.ungrouped else list(source.warnings),
            "ungrouped": leaving.count(source.ungrouped),
        },
        "held_out": {
            "known": not site.images.basis.older,
            "copies": bool(site.images.basis.basis.copies),
        },
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "test_accuracy_interval": accuracy_interval(metrics),
        "calibration": _told(fitted, leaving, {part: labels[part][kept[part]] for part in _MEASURED}),
    }


def accuracy_interval(metrics: Mapping[str, float]) -> list[float] | None:
    """The 95 % interval of the test accuracy (Wilson, "Probable Inference", JASA 1927); None where none is told.

    It is made of what is told of accuracy and number of images, so that it tells no more.
    """
    n, accuracy = metrics[measure_key("test", "n")], metrics[measure_key("test", "accuracy")]
    if not n or not math.isfinite(accuracy):
        return None
    found = binomtest(round(accuracy * n), int(n)).proportion_ci(_CONFIDENCE, method="wilson")
    return [float(found.low), float(found.high)]


def _told(fitted: Calibration, leaving: Leaving, labels: Mapping[str, Labels]) -> dict[str, Any]:
    """What is told of a calibration: its errors are rates of images."""
    errors = {
        f"{part}_{when}": leaving.rate(getattr(fitted, f"{part}_{when}"), labels[part])
        for part in _MEASURED
        for when in ("before", "after")
    }
    return {**dataclasses.asdict(fitted), **errors, "n": leaving.size(labels["validation"])}
