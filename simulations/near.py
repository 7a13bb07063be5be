"""Test images of a run that look like an image it trains on, over all its sites: said where nothing groups them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fl_client.data.neighbours import Near, near_training
from fl_client.data.partition import site_parts
from fl_client.data.source import open_source
from medveil.errors import IntegrityError
from medveil.files import read_json, write_json
from medveil.log import logger
from medveil.plain import tell
from medveil.shapes import check_shape
from simulations.plan import Plan

NEAR = "near"
"""What ``summary.json`` calls it."""
_SHAPE = {"near?": ({"threshold": float, "test": int, "near": int, "skipped": str}, None)}
_log = logger("run")


def tell_near(plan: Plan, *, aloud: bool) -> Near | None:
    """Count them and say it in a line; None where patients or groups keep images together, or nothing is tested.

    Parameters
    ----------
    plan
        The run, before it begins.
    aloud
        Whether a person looks on; otherwise the log hears it.

    Raises
    ------
    ConfigError, DataError
        The images cannot be dealt to the sites.
    """
    if plan.run.evaluated is not None:
        # Nothing trains here, and on what the model trained elsewhere this run does not know.
        return None
    source = open_source(plan.experiment.data) if plan.source is None else plan.source
    dealt: dict[str, Any] = {"sites": plan.sites.sites, "seed": plan.run.seed}
    data = plan.sites.data
    parts = [site_parts(source, data, index=i, **dealt) for i in range(plan.sites.sites)]
    near = near_training(source, parts, data, kept_in=plan.kept_in)
    if near is not None and aloud:
        tell(near, error=True)
    elif near is not None:
        _log.info("%s", near)
    return near


def note_near(run: Path, near: Near | None) -> None:
    """Write into ``RUN/summary.json`` what was counted; errors as reading and writing it."""
    summary: dict[str, Any] = read_json(run / "summary.json")
    check_shape(summary, {}, where=run / "summary.json")
    write_json(run / "summary.json", {**summary, NEAR: None if near is None else near._asdict()})


def near_of(summary: Any) -> Near | None:
    """What a summary says of it; None where it says nothing that can be read."""
    try:
        check_shape(summary, _SHAPE, where="summary.json")
    except IntegrityError:
        return None
    found = summary.get(NEAR)
    return None if found is None else Near(**{name: found[name] for name in Near._fields})
