"""summary.json: what a run came to."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fl_server.metrics import MEASURES, Weigh, measures_of, together
from fl_server.weights import Weights
from medveil.config import to_mapping
from medveil.contract import EPSILON, RunConfig, measure_key
from medveil.evaluating import EVALUATE
from medveil.pretraining import MASKED
from medveil.shapes import read_document

FORMAT = "medveil-summary"
VERSION = 1
_MAJORITY = measure_key("test", "majority-rate")
_NO_INTERVALS = (
    "class probabilities stay at the sites, so there are no intervals and no measures over all images together; of "
    "accuracy the mean over sites weighted by images is that of all images; a simulation adds both"
)
_NO_CLASSES = (
    "the loss is the mean squared error of masked pixels, from -1 to 1; there are no classes to be right about"
)

_MEASURED = {**dict.fromkeys(MEASURES, (float, None)), "n": (int, None), "majority_rate?": (float, None)}
_MEASURED_NAMES = tuple(name.removesuffix("?") for name in _MEASURED)
_KEPT = {"round": int, "by": (str, None), "value": (float, None)}
_SHAPE = {
    "run": str,
    "name": str,
    "task?": str,
    "measured?": str,
    "statistics?": str,
    "status": str,
    "rounds": int,
    **_MEASURED,
    "sites": {str: _MEASURED},
    "privacy?": {
        "unit": str,
        **dict.fromkeys(("epsilon", "delta", "clip"), float),
        "sites": {str: (float, None)},
    },
    "thief": dict,
    "kept?": _KEPT,
    "secagg?": {"on": bool, **dict.fromkeys(("bits?", "clipped?", "updates?"), int), "clip?": float},
}
SiteMetrics = Mapping[str, Mapping[str, float | None]]


def summarise(
    run: RunConfig,
    evaluated: SiteMetrics,
    weights: Weights,
    *,
    status: str,
    rounds: int,
    summed: Mapping[str, float | None] | None = None,
    sites_of_sum: Sequence[str] = (),
    **totals: Any,
) -> dict[str, Any]:
    """Make the summary of a run.

    Parameters
    ----------
    run
        The run.
    evaluated
        Metrics of each site's reply to `evaluate`.
    weights
        How much each site counts.
    status
        ``"finished"`` or ``"stopped-early"``.
    rounds
        Rounds that were made.
    summed
        In a run with secure aggregation, what all sites measured together, by the contract's keys.
    sites_of_sum
        Whose sum that is.
    **totals
        Further fields: seconds, bytes, the round whose model was kept.

    Returns
    -------
    dict
        Plain data. Measures are of test images, or of those that ``measured`` names where nothing was trained: means
        over sites weighted by such images as they declared before round 1; None where nothing was measured. ``held``
        lists sites whose share the cap held.
    """
    sites = {site: _of_site(metrics) for site, metrics in sorted(evaluated.items())}
    return {
        "format": FORMAT,
        "version": VERSION,
        "run": run.run,
        "name": run.name,
        "task": run.task,
        **({} if run.evaluated is None else {"measured": run.evaluated.images}),
        **_privacy(run, evaluated),
        "status": status,
        "rounds": rounds,
        **together(_named(sites), _on_tests(weights), (*MEASURES, "majority_rate")),
        **_of_sum(summed, "test"),
        "sites": sites,
        "rests_on": _rests_on(sites, weights) | _rests_on_sum(sites, summed, sites_of_sum),
        "held": [asdict(each) for each in weights.held(list(sites))],
        "intervals": None,
        "intervals_note": _NO_CLASSES if run.task == MASKED else _NO_INTERVALS,
        "thief": _thief(run, evaluated, weights, summed),
        **totals,
    }


def counted_summary(run: RunConfig, sites: Sequence[str], *, page: str, seconds: float) -> dict[str, Any]:
    """Make the summary of a run that counted: whose images, and the page that says what; of a model there is nothing.

    Parameters
    ----------
    page
        Its file, in the run folder.
    """
    nothing: dict[str, Any] = dict.fromkeys(_MEASURED_NAMES)
    return {
        "format": FORMAT,
        "version": VERSION,
        "run": run.run,
        "name": run.name,
        "task": run.task,
        "status": "finished",
        "rounds": 0,
        **nothing,
        "sites": {site: dict(nothing) for site in sorted(sites)},
        "statistics": page,
        "thief": {},
        "seconds": seconds,
    }


def _rests_on(sites: Mapping[str, Mapping[str, Any]], weights: Weights) -> dict[str, Any]:
    """How many sites, and how many of their test images, stand behind each mean over sites.

    A measure is undefined at a site without test images or with those of one class, and not told where images are few.
    """
    made = {}
    for name in MEASURES:
        known = weights.among([site for site, measures in sites.items() if measures[name] is not None], "test")
        n = sum(sites[site]["n"] or 0 for site in known)
        made[name] = {"n": n, "sites": len(known), "of_sites": len(sites)}
    return made


def _rests_on_sum(
    asked: Iterable[str], summed: Mapping[str, float | None] | None, sites: Sequence[str]
) -> dict[str, Any]:
    """The same of what was summed: of which sites withheld a measure, a sum tells nothing."""
    made = {}
    for name in _of_sum(summed, "test").keys() & {*MEASURES}:
        n = (summed or {}).get(measure_key("test", "n"))
        made[name] = {"n": int(n or 0), "sites": len(sites), "of_sites": len({*asked, *sites})}
    return made


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


def _privacy(run: RunConfig, evaluated: SiteMetrics) -> dict[str, Any]:
    """What the run promised a unit of each site's training images, and what each says that it came to."""
    if run.private is None:
        return {}
    said = {site: metrics.get(EPSILON) for site, metrics in sorted(evaluated.items())}
    return {"privacy": {**to_mapping(run.private), "sites": said}}


def _thief(
    run: RunConfig, evaluated: SiteMetrics, weights: Weights, summed: Mapping[str, float | None] | None
) -> dict[str, Any]:
    wrong_key, public_stem = (_worth(evaluated, phase, weights, summed) for phase in ("wrong-key", "public-stem"))
    return {
        "owner": _worth(evaluated, "test", weights, summed),
        "wrong_key": wrong_key,
        "public_stem": public_stem,
        "notes": {
            "wrong_key": _wrong_key_note(run, measured=wrong_key is not None),
            "public_stem": _public_stem_note(run, measured=public_stem is not None),
        },
    }


def _worth(
    evaluated: SiteMetrics, phase: str, weights: Weights, summed: Mapping[str, float | None] | None
) -> dict[str, float | None] | None:
    measured = {site: measures_of(metrics, phase) for site, metrics in evaluated.items()}
    made = together(_named(measured), _on_tests(weights)) | _of_sum(summed, phase)
    return {name: made[name] for name in ("accuracy", "auroc")} if made["accuracy"] is not None else None


def _of_sum(summed: Mapping[str, float | None] | None, phase: str) -> dict[str, Any]:
    """What was summed of a phase; nothing where each site told its own, and of AUROC, which has no sum."""
    if summed is None:
        return {}
    found = measures_of(summed, phase) | ({"majority_rate": summed.get(_MAJORITY)} if phase == "test" else {})
    return {name: value for name, value in found.items() if name != "auroc"}


def _named(sites: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**measures, "site": site} for site, measures in sites.items()]


def _on_tests(weights: Weights) -> Weigh:
    return functools.partial(weights.among, phase="test")


_NO_CLASSIFIER = "not applicable: the run learned pixels, and there is no classifier to steal"


_NO_THEFT = {
    MASKED: _NO_CLASSIFIER,
    EVALUATE: "not applicable: nothing was trained, and whoever has the weights file has all that went round",
}


def _wrong_key_note(run: RunConfig, *, measured: bool) -> str:
    if run.task in _NO_THEFT:
        return _NO_THEFT[run.task]
    if measured:
        return "the whole stolen model on images hidden under another key"
    return "not applicable: no key is used" if run.keys == "none" else "not measured by any site"


def _public_stem_note(run: RunConfig, *, measured: bool) -> str:
    if run.task in _NO_THEFT:
        return _NO_THEFT[run.task]
    if measured:
        return "the stolen trunk and head behind the public initial stem, on plain images"
    if run.keys == "none" and run.stem_train == "averaged":
        return "not applicable: the stolen model reads plain images as it is"
    return "not measured by any site"
