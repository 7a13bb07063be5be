"""Test images the sites' models were right or wrong about, as ``looked.npz`` has them (`simulations.looked`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fl_client.looked.drawing import Pictures
from fl_client.looked.drawing import content as drawn
from simulations.report.record import RunRecord

_NAMES = ("images", "shares", "labels", "probabilities", "sites", "padded", "refused")
_BROKEN = "looked.npz: is not what a run writes"


def content(run: RunRecord) -> dict[str, Any] | None:
    """What the page draws; None where the run left none, or no whole ones."""
    if not run.looked:
        return None
    try:
        images, shares, labels, probabilities, sites, padded, refused = (run.looked[name] for name in _NAMES)
        sites = sites.astype(np.str_)
        pictures = Pictures(
            images=images.astype(np.uint8),
            shares=shares.astype(np.float64),
            labels=labels.astype(np.int64),
            probabilities=probabilities.astype(np.float64),
            places=tuple(sites.tolist()),
            padded=int(padded),
            refused=str(refused),
        )
        made = drawn(pictures, run.classes)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        run.problems.append(_BROKEN)
        return None
    if made is None:
        return None
    names = sorted(set(sites.tolist()))
    return {**made, "of": names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"}
