"""What the test predictions of a run say beyond its scores: each class, ROC curves, and how sure is how right."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support, roc_auc_score, roc_curve

from fl_client.intervals import share_interval
from simulations.predictions import Predictions, Sites
from simulations.report import figures
from simulations.resampling import group_of_each
from simulations.statistics import estimate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 10
_MOST_CURVES = len(figures.SERIES)
_MOST_POINTS = 120
"""Points of a drawn curve; a page stays small whatever the number of images."""


class Answers(NamedTuple):
    """Labels, int64 (n,), probabilities, float64 (n, K), and groups, int64 (n,), of all sites together."""

    labels: Ints
    probabilities: Floats
    groups: Ints


class Bin(NamedTuple):
    """Answers that were about equally sure: their number, how sure, and how many were right, with a 95 % interval.

    None of few groups of images has an interval.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None


class Curve(NamedTuple):
    """A curve: its name, the area under it and its 95 % interval, place among the page's colours, and points.

    Points are (false, true positive rate) of a ROC curve, (recall, precision) of the other. Few groups of images have
    no interval.
    """

    name: str
    area: float
    interval: tuple[float, float] | None
    n: int
    place: int
    points: list[tuple[float, float]]


def pooled(sites: Mapping[str, Predictions]) -> Answers | None:
    """All answers together; None where there are none, or sites answer for different numbers of classes."""
    named = {site: each for site, each in sites.items() if len(each)}
    parts = list(named.values())
    if not parts or len({each.probabilities.shape[1] for each in parts}) > 1:
        return None
    return Answers(
        np.concatenate([each.labels for each in parts]),
        np.concatenate([each.probabilities for each in parts]).astype(np.float64),
        group_of_each(parts, list(named)),
    )


def per_class(answers: Answers, names: list[str]) -> list[dict[str, Any]]:
    """Sensitivity, specificity, precision, F1 and AUROC of each class against the rest; None where undefined."""
    labels, predicted = answers.labels, answers.probabilities.argmax(axis=1)
    places = np.arange(answers.probabilities.shape[1])
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=places, zero_division=np.nan
    )
    made = []
    for place in places.tolist():
        others = labels != place
        made.append(
            {
                "name": names[place],
                "n": int(support[place]),
                "sensitivity": recall[place] if support[place] else None,
                "found": _share(predicted[~others] == place, answers.groups[~others]),
                "specificity": float((predicted[others] != place).mean()) if others.any() else None,
                "spared": _share(predicted[others] != place, answers.groups[others]),
                "precision": precision[place],
                "f1": f1[place] if support[place] else None,
                "auroc": _auroc(answers, place),
            }
        )
    return made


def _share(hits: npt.NDArray[np.bool_], groups: Ints) -> tuple[float, float] | None:
    """The 95 % interval of a share, the group of images as the unit; None of few groups."""
    found = share_interval(hits, groups)
    return None if math.isnan(found.low) else (found.low, found.high)


def _auroc(answers: Answers, place: int) -> float | None:
    own = answers.labels == place
    return float(roc_auc_score(own, answers.probabilities[:, place])) if own.any() and not own.all() else None


class Curves(NamedTuple):
    """ROC curves and precision-recall curves of the same answers."""

    roc: list[Curve]
    pr: list[Curve]


def curves_of(answers: Answers, sites: Mapping[str, Predictions], names: list[str]) -> Curves:
    """Curves: of class 1 by site where there are two classes, else of each class against the rest.

    At most as many as the page has colours: the sites, or classes, with the most images.
    """
    two = answers.probabilities.shape[1] == 2
    parts = [(site, {site: each}, 1) for site, each in sites.items()] if two else []
    parts = parts or [(name, dict(sites), at) for at, name in enumerate(names)]
    found = [(name, _one_class(own, at)) for name, own, at in parts]
    defined = [each for each in found if _is_defined(each[1])]

    def size(each: tuple[str, Sites]) -> int:
        return sum(len(own) if two else int(own.labels.sum()) for own in each[1].values())

    chosen = sorted(defined, key=size, reverse=True)[:_MOST_CURVES]
    shown = [each for each in defined if any(each is other for other in chosen)]
    return Curves(
        [_curve(*each, place, metric="auroc") for place, each in enumerate(shown)],
        [_curve(*each, place, metric="pr_auc") for place, each in enumerate(shown)],
    )


def _one_class(sites: Mapping[str, Predictions], at: int) -> Sites:
    """The answers as those to whether an image is of one class."""
    made = {}
    for site, each in sites.items():
        own = each.probabilities[:, at]
        probabilities = np.stack([1 - own, own], axis=1).astype(np.float32)
        made[site] = dataclasses.replace(each, labels=(each.labels == at).astype(np.int64), probabilities=probabilities)
    return made


def _is_defined(sites: Sites) -> bool:
    labels = np.concatenate([each.labels for each in sites.values()])
    return bool(labels.any() and not labels.all())


def _curve(name: str, sites: Sites, place: int, *, metric: str) -> Curve:
    own = np.concatenate([each.labels for each in sites.values()])
    scores = np.concatenate([each.probabilities[:, 1] for each in sites.values()])
    if metric == "auroc":
        x, y, _ = roc_curve(own, scores)
    else:
        y, x, _ = precision_recall_curve(own, scores)
    if len(x) > _MOST_POINTS:
        at = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int))
        x, y = x[at], y[at]
    found = estimate([sites], metric, pooled=True)
    bounds = None if math.isnan(found.interval.low) else (found.interval.low, found.interval.high)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    return Curve(name, found.value, bounds, int(own.sum()), place + 1, points)


def draw_roc(curves: list[Curve]) -> Markup:
    """The curves in one square, and the diagonal of chance."""
    said = ", ".join(f"{each.name} AUROC {each.area:.3f}" for each in curves)
    return figures.square(
        [figures.Trace(each.points, figures.SERIES[each.place - 1], each.place) for each in curves],
        name="roc",
        label=f"ROC curves: {said}",
        titles=("1 − specificity (share of the others taken for it)", "sensitivity (share found)"),
    )


def draw_pr(curves: list[Curve]) -> Markup:
    """Precision over recall, the curves in one square."""
    said = ", ".join(f"{each.name} average precision {each.area:.3f}" for each in curves)
    return figures.square(
        [figures.Trace(each.points, figures.SERIES[each.place - 1], each.place) for each in curves],
        name="pr",
        label=f"Precision-recall curves: {said}",
        titles=("recall (share found)", "precision (share of those named that are)"),
        diagonal=False,
    )


def bins(answers: Answers) -> list[Bin]:
    """Answers by how sure they are (the probability of the class they name), in bins of equal width."""
    sure, right = answers.probabilities.max(axis=1), answers.probabilities.argmax(axis=1) == answers.labels
    place = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    made = []
    for at in range(BINS):
        own = place == at
        n = int(own.sum())
        if not n:
            made.append(Bin(at / BINS, (at + 1) / BINS, 0, None, None, None))
            continue
        found = share_interval(right[own], answers.groups[own])
        bounds = None if math.isnan(found.low) else (found.low, found.high)
        made.append(Bin(at / BINS, (at + 1) / BINS, n, float(sure[own].mean()), float(right[own].mean()), bounds))
    return made


def calibration_error(found: list[Bin]) -> float:
    """Expected calibration error: the mean of |how right - how sure| over bins, weighted by their answers."""
    total = sum(each.n for each in found)
    gaps = [
        each.n * abs(each.accuracy - each.confidence)
        for each in found
        if each.accuracy is not None and each.confidence is not None
    ]
    return sum(gaps) / total


def draw_reliability(found: list[Bin]) -> Markup:
    """How right over how sure: on the diagonal the two agree."""
    points = [
        figures.Point(each.confidence, each.accuracy, each.interval)
        for each in found
        if each.confidence is not None and each.accuracy is not None
    ]
    said = ", ".join(f"{each.x:.2f} sure and {each.y:.2f} right" for each in points)
    return figures.square(
        [],
        points=points,
        name="reliability",
        label=f"Reliability diagram: {said}",
        titles=("mean probability of the class named", "share of right answers"),
    )


def content(sites: Mapping[str, Predictions], classes: list[str]) -> dict[str, Any] | None:
    """Everything a page shows of a run's test answers; None where there are none."""
    answers = pooled(sites)
    if answers is None:
        return None
    count = answers.probabilities.shape[1]
    names = classes if len(classes) == count else [str(each) for each in range(count)]
    (curves, precision), found = curves_of(answers, sites, names), bins(answers)
    by_site = {site: bins(own) for site, each in sites.items() if (own := pooled({site: each})) is not None}
    return {
        "n": len(answers.labels),
        "classes": per_class(answers, names),
        "curves": curves,
        "more": max(0, (len(by_site) if count == 2 else count) - len(curves)),
        "positive": names[1] if count == 2 else None,
        "roc": draw_roc(curves) if curves else None,
        "pr": draw_pr(precision) if precision else None,
        "pairs": list(zip(curves, precision, strict=True)),
        "bins": found,
        "error": calibration_error(found),
        "sites": [
            {
                "site": site,
                "n": sum(each.n for each in own),
                "error": calibration_error(own),
                "sure": _weighted([(each.n, each.confidence) for each in own]),
                "right": _weighted([(each.n, each.accuracy) for each in own]),
            }
            for site, own in by_site.items()
        ],
        "reliability": draw_reliability(found),
    }


def _weighted(parts: list[tuple[int, float | None]]) -> float:
    return sum(n * value for n, value in parts if value is not None) / sum(n for n, _ in parts)
