"""What a run asks of a site, in words for the person who approves it, and what differs between two runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fl_client.deployment.own_weights import BUILT, FRESH
from medveil.contract import RunConfig
from medveil.counting import CLASSES, SCANNERS, StatisticsConfig
from medveil.evaluating import EvaluateConfig
from medveil.plain import shown
from medveil.pretraining import MASKED
from medveil.training import LIGHT
from models.policy import Policy

_OWN = ("run", "name", "seed", "roster")
"""What runs of the same settings differ in."""
_LONGEST = 120
_UNSET = "nothing"


def in_words(run: RunConfig, weights: str = BUILT) -> dict[str, str]:
    """What a run does here, what leaves and how, by what it is about, the most important first.

    Parameters
    ----------
    run
        As this site judged it, every section in full.
    weights
        What it begins from, in words (`fl_client.deployment.own_weights.weights_in_words`).
    """
    evaluated = run.evaluated
    if run.counted is not None:
        return _counting(run, run.counted)
    return {
        "what it does": _does(run, evaluated),
        "what leaves": _leaves(run, evaluated),
        "who reads it": _read_by(run, evaluated),
        "noise": _noise(run),
        "images": _images(run),
        "hiding": _hiding(run),
        "model": _model(run),
        "weights": weights,
        **({} if evaluated is not None else {"training": _training(run)}),
        "in company of": f"{run.least_sites} sites at least, as its server promises",
    }


def changes(before: RunConfig, now: RunConfig) -> list[str]:
    """Each setting in which two runs differ, by name, as it was and as it is; identity, name and seed are none."""
    was, is_ = dict(_flat(_settings(before))), dict(_flat(_settings(now)))
    names = sorted(name for name in was.keys() | is_.keys() if was.get(name) != is_.get(name))
    return [f"{name}: {_value(was.get(name))} -> {_value(is_.get(name))}" for name in names]


def _settings(run: RunConfig) -> dict[str, Any]:
    found = {name: value for name, value in dataclasses.asdict(run).items() if name not in _OWN}
    return {**found, "model": {**found["model"], "pretrained": _file(run)}}


def _counting(run: RunConfig, counted: StatisticsConfig) -> dict[str, str]:
    cells = sum(map(len, counted.cells(run.classes).values()))
    read_by = "the server reads this site's own histograms"
    if run.secagg.on:
        read_by = "histograms leave under masks: the server reads their sums over sites alone"
    told = {
        "what it does": f"counts images by {counted.in_words}; nothing trains, and no model goes round",
        "what leaves": f"{cells} numbers of images: 0 for fewer patients than limits.smallest_count, all others "
        "rounded down to its multiples; how many images there are, rounded likewise; nothing of a single image",
        "who reads it": read_by,
        "noise": "none: what is told is rounded, and the run promises nothing beyond that",
    }
    for name, listed in ((CLASSES, run.classes), (SCANNERS, counted.scanners)):
        told |= {name: _listed(listed)} if name in counted.histograms else {}
    return {**told, "in company of": f"{run.least_sites} sites at least, as its server promises"}


def _does(run: RunConfig, evaluated: EvaluateConfig | None) -> str:
    if evaluated is not None:
        return f"measures one model on {evaluated.in_words}; nothing trains"
    if run.task == MASKED:
        return f"trains {_rounds(run)} to tell pixels that are left out; labels are not used"
    return f"trains {_rounds(run)} to tell {len(run.classes)} classes: {_listed(run.classes)}"


def _leaves(run: RunConfig, evaluated: EvaluateConfig | None) -> str:
    counts = "numbers of images (of small classes none)"
    if evaluated is not None:
        return f"measures (loss, accuracy, AUROC) and {counts}; no update, and nothing of a single image"
    scope = str(run.train.get("scope", "full"))
    what = "all of trunk and head" if scope == "full" else f"what '{scope}' trains"
    if scope in LIGHT:
        what += ", a small part of the model"
    stem = ", and the stem" if Policy(run.keys, run.stem_init, run.stem_train).stem_travels else "; its stem stays"
    return f"the change of {what}{stem}; measures of its images, and {counts}"


def _read_by(run: RunConfig, evaluated: EvaluateConfig | None) -> str:
    what = "measures" if evaluated is not None else "updates"
    if run.secagg.on:
        bound = "" if evaluated is not None else f", each update at most {run.secagg.clip:g} long"
        return f"{what} leave under masks: the server reads sums over sites alone{bound}"
    return f"the server reads this site's own {what}"


def _noise(run: RunConfig) -> str:
    private = run.private
    if private is None:
        return "none: the run promises nothing of a single image or patient"
    promise = f"epsilon {private.epsilon:g} at delta {private.delta:g} for each {private.unit}"
    return f"{promise}, gradients clipped to {private.clip:g}"


def _images(run: RunConfig) -> str:
    colour = "grey" if run.channels == 1 else "in colour"
    views = int(run.predict.get("views", 1))
    asked = "" if views == 1 else f"; measured over {views} views of each"
    return f"{run.image_size} x {run.image_size} pixels, {colour}{asked}"


def _hiding(run: RunConfig) -> str:
    if run.keys == "none":
        return "none: the model works on plain images at the site"
    whose = "this site's own key" if run.keys == "per-site" else "the key that all sites share"
    stem = f"stem {run.stem_init}, {run.stem_train}"
    return f"{run.cipher.get('scheme')}, blocks of {run.cipher.get('block')}, under {whose} ({stem})"


def _model(run: RunConfig) -> str:
    sizes = {name: run.model.get(name) for name in ("width", "depth", "heads")}
    said = "".join(f", {name} {value}" for name, value in sizes.items() if value is not None)
    return f"{shown(str(run.model.get('name')), most=_LONGEST)}{said}"


def _training(run: RunConfig) -> str:
    found = run.train
    told = [f"{name} {_value(found[name])}" for name in ("epochs", "batch_size", "optimizer", "lr") if name in found]
    told += [f"held near the model that came by {_value(run.proximal_mu)}"] if run.proximal_mu else []
    before = "; the model that comes is measured before each round" if run.evaluate_first else ""
    return f"{', '.join(told)}{before}"


def _rounds(run: RunConfig) -> str:
    return f"{run.rounds} round{'' if run.rounds == 1 else 's'}"


def _file(run: RunConfig) -> str:
    return Path(str(run.model.get("pretrained", FRESH))).name


def _listed(names: list[str]) -> str:
    return ", ".join(shown(name, most=_LONGEST) for name in names)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def _value(value: Any) -> str:
    return _UNSET if value is None else shown(str(value), most=_LONGEST)
