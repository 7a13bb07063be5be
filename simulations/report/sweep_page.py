"""The page about a sweep: ``sweep.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medveil.files import write_text
from simulations.points import said
from simulations.report import figures, words
from simulations.report.dots import dots_over
from simulations.report.links import links, relative
from simulations.report.measured import ArmResult, Measured, Pair, Score, measure_arms
from simulations.report.page import render
from simulations.report.record import number

_MOST_DRAWN = 30
_FILES = ("sweep.json", "sweep.csv", "sweep.parquet", "sweep.md")
_SCORED = ("accuracy", "balanced_accuracy", "auroc")


@dataclass(frozen=True)
class Tested:
    """A point on test images: scores as plain data, and all that was measured."""

    scores: dict[str, dict[str, Any]]
    measured: Measured


def tested(points: Sequence[tuple[str, list[Path]]]) -> dict[str, Tested]:
    """Measure points by their names from their run folders, each beside the first (errors as `measure_arms`)."""
    first = points[0][0]
    arms = [
        ArmResult(name=name, policy="", twin=first if name != first else None, runs=folders) for name, folders in points
    ]
    return {
        each.arm.name: Tested({metric: _plain(each.scores[metric]) for metric in _SCORED}, each)
        for each in measure_arms(arms)
    }


def write_sweep(folder: Path, document: Mapping[str, Any], measured: Mapping[str, Measured]) -> Path:
    """Write ``sweep.html`` of what ``sweep.json`` holds, and of what was measured of each point.

    Returns
    -------
    Path
        The page: one file, without references to anything outside it.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    rows = sorted(document["points"], key=lambda row: -_known(row["accuracy"], -1.0))
    done = [run for run in document["runs"] if run["status"] == "finished"]
    content = {
        "title": str(document["name"]),
        "rows": rows,
        "first": document["points"][0]["point"],
        "best": rows[0],
        "axes": [(key, axis if isinstance(axis, str) else ", ".join(map(said, axis))) for key, axis in _over(document)],
        "document": document,
        "panels": _panels(rows),
        "along": _along(document, done),
        "pairs": {name: _pair(each.pair) for name, each in measured.items()},
        "note": next(iter(measured.values())).note,
        "runs": [(run, relative(folder, folder / run["folder"] / "report.html")) for run in document["runs"]],
        "shown": min(len(rows), _MOST_DRAWN),
        "files": links(folder, _FILES),
    }
    path = folder / "sweep.html"
    write_text(path, render("sweep.html", **content))
    return path


def _over(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(document["over"].items())


def _panels(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """The best points: what each gained on validation images, paired by seed, and its AUROC on test images."""
    best = rows[:_MOST_DRAWN]
    made: list[tuple[str, Markup]] = []
    for measure, heading in (("accuracy", "Validation accuracy gained"), ("auroc", "Validation AUROC gained")):
        dots = [_dot(row["point"], row[f"{measure}_gained"], row[f"{measure}_interval"]) for row in best]
        _add(made, heading, dots, name=f"gained-{measure}", title="over the first point, paired by seed", reference=0.0)
    dots = [_dot(row["point"], row["test"]["auroc"]["mean"], row["test"]["auroc"]["interval"]) for row in best]
    _add(made, "Test AUROC", dots, name="test-auroc", title="area under the ROC curve", reference=0.5)
    return made


def _add(
    made: list[tuple[str, Markup]],
    heading: str,
    dots: Sequence[figures.Dot | None],
    *,
    name: str,
    title: str,
    reference: float | None = None,
) -> None:
    known = [dot for dot in dots if dot is not None]
    if known:
        label = f"{heading}: " + ", ".join(f"{dot.name} {dot.value:.3f}" for dot in known)
        made.append((heading, figures.dots(known, name=name, label=label, reference=reference, title=title)))


def _dot(name: str, value: Any, interval: Any, each: tuple[float, ...] = ()) -> figures.Dot | None:
    if number(value) is None:
        return None
    low, high = interval or (value, value)
    return figures.Dot(name, value, low, high, each=each)


def _along(document: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """Validation accuracy of all runs along each setting, whatever the others were."""
    made: list[tuple[str, Markup]] = []
    for place, (key, axis) in enumerate(_over(document)):
        found = [(run[key], run["validation_accuracy"]) for run in runs if number(run["validation_accuracy"])]
        if not found:
            continue
        name, title = f"along-{place}", "validation accuracy"
        label = f"Validation accuracy of {len(found)} runs along {key}"
        if all(number(value) is not None and not isinstance(value, bool) for value, _ in found):
            steep = isinstance(axis, str) and axis.startswith("log(")
            steep = steep or (not isinstance(axis, str) and _is_steep([value for value, _ in found]))
            made.append((key, dots_over(found, name=name, label=label, titles=(key, title), logarithmic=steep)))
            continue
        by_value: dict[str, list[float]] = {}
        for value, score in found:
            by_value.setdefault(said(value), []).append(score)
        dots = [_dot(value, sum(each) / len(each), None, tuple(each)) for value, each in by_value.items()]
        _add(made, key, dots, name=name, title=title)
    return made


def _is_steep(values: Sequence[float]) -> bool:
    """Whether numbers that were named span decades, so that their ratios tell them apart."""
    return min(values) > 0 and max(values) / min(values) >= 10


def _pair(pair: Pair | None) -> tuple[str, str, str]:
    """The accuracy on test images less the first point's, image by image: points, interval, or why there is none."""
    if pair is None:
        return "", "", ""
    test = pair.equivalence
    if test is None:
        return "", "", pair.reason
    return words.points(test.difference), words.points_between(test.wide), ""


def _plain(score: Score) -> dict[str, Any]:
    bounds = [number(bound) for bound in score.interval]
    return {"mean": number(score.mean), "interval": None if None in bounds else bounds}


def _known(value: Any, otherwise: float) -> float:
    found = number(value)
    return otherwise if found is None else found
