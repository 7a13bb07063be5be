"""The page about a search: ``search.html``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medveil.files import write_text
from simulations.points import label_of, said
from simulations.report import figures
from simulations.report.dots import dots_over
from simulations.report.links import links
from simulations.report.page import render
from simulations.report.record import number

_FILES = ("search.json", "search.csv")


def write_search(folder: Path, document: Mapping[str, Any], best: Mapping[str, Any]) -> Path:
    """Write ``search.html`` of what ``search.json`` holds.

    Returns
    -------
    Path
        The page: one file, without references to anything outside it.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    measure = str(document["measure"])
    scored = [each for each in document["trials"] if number(each[measure]) is not None]
    order = sorted(scored, key=lambda each: each[measure], reverse=measure != "loss")
    content = {
        "title": str(document["name"]),
        "document": document,
        "measure": measure,
        "best": {**best, "point": _label(document, best)},
        "rows": [{**each, "point": _label(document, each)} for each in order],
        "without": [each for each in document["trials"] if number(each[measure]) is None],
        "panels": [_course(scored, measure), *_along(document, scored, measure)],
        "axes": [
            (key, axis if isinstance(axis, str) else ", ".join(map(said, axis)))
            for key, axis in document["over"].items()
        ],
        "files": links(folder, _FILES),
    }
    path = folder / "search.html"
    write_text(path, render("search.html", **content))
    return path


def _label(document: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    return label_of({key: trial[key] for key in document["over"]})


def _course(scored: list[Mapping[str, Any]], measure: str) -> tuple[str, Markup]:
    """The best score so far, trial by trial."""
    values = accumulate((each[measure] for each in scored), min if measure == "loss" else max)
    points = [(float(each["trial"]), value) for each, value in zip(scored, values, strict=True)]
    label = f"Best validation {measure} so far over {len(points)} trials, {points[-1][1]:.3f} at the end"
    drawn = dots_over(points, name="course", label=label, titles=("trial", f"best validation {measure}"))
    return "Best so far", drawn


def _along(document: Mapping[str, Any], scored: list[Mapping[str, Any]], measure: str) -> list[tuple[str, Markup]]:
    """Every trial by the value of one setting."""
    made = []
    for place, (key, axis) in enumerate(document["over"].items()):
        name, label = f"along-{place}", f"Validation {measure} of {len(scored)} trials along {key}"
        found = [(each[key], each[measure]) for each in scored]
        if isinstance(axis, str):
            titles = (key, f"validation {measure}")
            steep = axis.startswith("log(")
            made.append((key, dots_over(found, name=name, label=label, titles=titles, logarithmic=steep)))
            continue
        by_value: dict[str, list[float]] = {}
        for value, score in found:
            by_value.setdefault(said(value), []).append(score)
        dots = [
            figures.Dot(value, (middle := sum(each) / len(each)), middle, middle, each=tuple(each))
            for value, each in by_value.items()
        ]
        made.append((key, figures.dots(dots, name=name, label=label, title=f"validation {measure}")))
    return made
