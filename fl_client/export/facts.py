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

from fl_client.export.calibration import (
    Calibration,
    Labels,
    Logits,
    as_logits,
    calibrate,
    probabilities_of,
    reliability,
)
from fl_client.intervals import FEWEST_GROUPS, NONE, even_size, share_interval, wilson
from fl_client.leaving import Leaving
from fl_client.site import Site
from fl_client.site_images import level_of
from medveil.contract import measure_key
from medveil.versions import environment

Predicted: TypeAlias = "dict[str, npt.NDArray[np.float32]]"
_MEASURED = ("validation", "test")
_PARTS = ("train", *_MEASURED)
_BINS = 10


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
    labelled = {part: labels[part][kept[part]] for part in _MEASURED}
    logits = {part: as_logits(said[part][kept[part]]) for part in _MEASURED}
    groups = {
        part: np.array(source.group_names(site.store.part(part).ids), dtype=str)[kept[part]] for part in _MEASURED
    }
    fitted = calibrate(*((logits[part], labelled[part]) for part in _MEASURED), groups=groups["validation"])
    calibrated = probabilities_of(logits["test"], fitted.temperature)
    near, alike = site.images.near(), source.similar
    interval, how = accuracy_interval(metrics, calibrated.argmax(1) == labelled["test"], groups["test"], leaving)
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
            # Hidden images that do not say it are taken for those of the first MedVeil, as models are.
            "preparation": source.prepared or 1,
            "group_by": config.group_by,
            "similar": None
            if alike is None
            else {
                "threshold": alike.threshold,
                "groups": leaving.count(alike.groups),
                "largest": leaving.count(alike.largest),
            },
            "near": None
            if near is None
            else {
                "threshold": near.threshold,
                "near": leaving.count(near.near),
                "test": leaving.size(labels["test"]),
                "skipped": near.skipped,
            },
            "split": {"kind": source.split, "official": sorted({item.split for item in source.items} - {None})},
            "augment": config.augment if level_of(site.run) == "none" else level_of(site.run),
            "flip": config.flip,
            "views": config.views,
            "smallest": leaving.smallest,
            "counts": {part: leaving.counts(labels[part], len(site.run.classes)) for part in _PARTS},
            "skipped": leaving.count(len(site.images.skipped)),
            "two_classes": leaving.count(site.store.alike["classes"]),
            "said": list(source.said),
            "warnings": [] if source.ungrouped else list(source.warnings),
            "ungrouped": leaving.count(source.ungrouped),
        },
        "held_out": {
            "tested": config.test > 0 or "test" in {item.split for item in source.items},
            "known": not site.images.basis.older,
            "copies": site.images.copies_judged,
        },
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "privacy": _privacy(site),
        "uncovered": site.personal is not None and site.budget is not None,
        "test_accuracy_interval": interval,
        "test_accuracy_interval_note": how,
        "calibration": _told(fitted, leaving, labelled) | {"bins": _bins(calibrated, labelled["test"], leaving)},
    }


def _privacy(site: Site) -> dict[str, Any] | None:
    """What the run has cost a unit of this site's training images, and all runs together; None without noise."""
    spent = None if site.budget is None else site.ledger.spent()
    if site.budget is None or spent is None:
        return None
    told = {"epsilon": site.budget.spent, "delta": site.budget.privacy.delta, "clip": site.budget.privacy.clip}
    return {"unit": spent.unit, **told, "all_runs": dataclasses.asdict(spent)}


def accuracy_interval(
    metrics: Mapping[str, float], hits: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_], leaving: Leaving
) -> tuple[list[float] | None, str]:
    """The 95 % interval of the test accuracy, and how it was made; None where none is told, and why.

    Where not everything is told it is made of the told accuracy and the told number of groups, as if images of a group
    were all alike: it is wide enough, and tells nothing of how right answers lie in groups.

    Parameters
    ----------
    hits, groups
        (n,) of each test image whether it was answered right, and what names its group.
    """
    n, accuracy = metrics[measure_key("test", "n")], metrics[measure_key("test", "accuracy")]
    if not n or not math.isfinite(accuracy):
        return None, "there were no test images, or too few to tell of"
    if leaving.everything:
        found = share_interval(hits, groups)
        how = "Wilson, for images that belong together as far as their answers are alike"
    else:
        worth = leaving.count(int(even_size(np.unique(groups, return_counts=True)[1])))
        found = NONE if worth < FEWEST_GROUPS else wilson(accuracy, min(worth, n), worth - 1)
        how = "Wilson, images that belong together counted as one"
    if math.isnan(found.low):
        return None, "the test images are of too few groups (patients)"
    return list(found), how


def _bins(probabilities: Logits, labels: Labels, leaving: Leaving) -> list[dict[str, Any]]:
    """What is told of reliability on test images: the bins in which enough answers lie, in steps."""
    made = []
    for each in reliability(probabilities, labels, bins=_BINS):
        n = leaving.count(len(each.rows))
        shares = {"confidence": each.confidence, "accuracy": each.accuracy}
        told = {name: leaving.share(value, len(each.rows)) for name, value in shares.items()}
        made.append({"low": each.low, "high": each.high, "n": n, **told})
    return made


def _told(fitted: Calibration, leaving: Leaving, labels: Mapping[str, Labels]) -> dict[str, Any]:
    """What is told of a calibration: its errors are rates of images."""
    errors = {
        f"{part}_{when}": leaving.rate(getattr(fitted, f"{part}_{when}"), labels[part])
        for part in _MEASURED
        for when in ("before", "after")
    }
    return {**dataclasses.asdict(fitted), **errors, "n": leaving.size(labels["validation"])}
