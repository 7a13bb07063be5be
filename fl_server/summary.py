"""summary.json: what a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_server.metrics import MEASURES, measures_of, together
from medveil.contract import RunConfig, measure_key
from medveil.shapes import read_document

FORMAT = "medveil-summary"
VERSION = 1
_MAJORITY = measure_key("test", "majority-rate")
_NO_INTERVALS = "class probabilities stay at the sites; a simulation adds intervals from them"

_MEASURED = {**dict.fromkeys(MEASURES, (float, None)), "n": (int, None), "majority_rate?": (float, None)}
_SHAPE = {"run": str, "name": str, "status": str, "rounds": int, **_MEASURED, "sites": {str: _MEASURED}, "thief": dict}
SiteMetrics = Mapping[str, Mapping[str, float | None]]


def summarise(run: RunConfig, evaluated: SiteMetrics, *, status: str, rounds: int, **totals: Any) -> dict[str, Any]:
    """Make the summary of a run.

    Parameters
    ----------
    run
        The run.
    evaluated
        Metrics of each site's reply to `evaluate`.
    status
        ``"finished"`` or ``"stopped-early"``.
    rounds
        Rounds that were made.
    **totals
        Further fields: seconds, bytes.

    Returns
    -------
    dict
        Plain data. Measures are of test images, means over sites weighted by n; None where nothing was measured.
    """
    sites = {site: _of_site(metrics) for site, metrics in sorted(evaluated.items())}
    return {
        "format": FORMAT,
        "version": VERSION,
        "run": run.run,
        "name": run.name,
        "status": status,
        "rounds": rounds,
        **together(sites.values(), (*MEASURES, "majority_rate")),
        "sites": sites,
        "intervals": None,
        "intervals_note": _NO_INTERVALS,
        "thief": _thief(run, evaluated),
        **totals,
    }


def read_summary(path: Path) -> dict[str, Any]:
    """Read the summary of a run.

    Raises
    ------
    StorageError, FormatError, IntegrityError
        It is missing, another file, of a newer version, or a field of it is not what it was written as.
    """
    return read_document(path, _SHAPE, name=FORMAT, newest=VERSION)


def _of_site(metrics: Mapping[str, float | None]) -> dict[str, Any]:
    return measures_of(metrics, "test") | {"majority_rate": metrics.get(_MAJORITY)}


def _thief(run: RunConfig, evaluated: SiteMetrics) -> dict[str, Any]:
    wrong_key, public_stem = _worth(evaluated, "wrong-key"), _worth(evaluated, "public-stem")
    return {
        "owner": _worth(evaluated, "test"),
        "wrong_key": wrong_key,
        "public_stem": public_stem,
        "notes": {
            "wrong_key": _wrong_key_note(run, measured=wrong_key is not None),
            "public_stem": _public_stem_note(run, measured=public_stem is not None),
        },
    }


def _worth(evaluated: SiteMetrics, phase: str) -> dict[str, float | None] | None:
    made = together(measures_of(metrics, phase) for metrics in evaluated.values())
    return {name: made[name] for name in ("accuracy", "auroc")} if made["n"] else None


def _wrong_key_note(run: RunConfig, *, measured: bool) -> str:
    if measured:
        return "the whole stolen model on images hidden under another key"
    return "not applicable: no key is used" if run.keys == "none" else "not measured by any site"


def _public_stem_note(run: RunConfig, *, measured: bool) -> str:
    if measured:
        return "the stolen trunk and head behind the public initial stem, on plain images"
    if run.keys == "none" and run.stem_train == "averaged":
        return "not applicable: the stolen model reads plain images as it is"
    return "not measured by any site"
