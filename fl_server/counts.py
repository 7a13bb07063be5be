"""What sites counted, as a server may hear it: numbers of images, each bounded, and what is read from their sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Message

from fl_server.faults import reading
from medveil.contract import RunConfig
from medveil.counting import AGES, COUNTS, DECADES, EDGE, FLOOR, HISTOGRAMS, INTENSITIES, LEVELS, StatisticsConfig
from medveil.errors import FederationError, IntegrityError
from medveil.measures import MOST_IMAGES, Range
from medveil.shapes import read_document

FORMAT, VERSION = "medveil-statistics", 1
STATISTICS_FILE = "statistics.json"
PERCENTILES = (5, 50, 95)
FEWEST = 20
"""Fewest images of which percentiles are told: of fewer, one in twenty is none."""
_ROUNDING = 1e-3
_NUMBER = Range(-_ROUNDING, MOST_IMAGES, undefined=False)
_FLOOR = Range(1, MOST_IMAGES, whole=True, undefined=False)
_HISTOGRAM = {
    "cells": [str],
    "counts": [float],
    "total": float,
    "untold": [str],
    "percentiles": (dict, None),
}
_SHAPE = {
    "run": str,
    "name": str,
    "summed": bool,
    "sites": [str],
    "floors": {str: int},
    "missing": {str: str},
    "histograms": {str: _HISTOGRAM},
    "by_site": {str: {str: [float]}},
    "notes": [str],
}
Counts = dict[str, list[float]]
"""Numbers of images of each histogram, by its name."""


def counts_in(message: Message, cells: Mapping[str, Sequence[str]], *, site: str, summed: bool) -> tuple[int, Counts]:
    """The floor a site keeps to, and its histograms; none of them where they come as sums.

    Raises
    ------
    FederationError
        The reply is not what was asked for: the first fault, by its histogram.
    """
    with reading(site):
        content = message.content
        if content.array_records and not summed:
            raise FederationError("the reply carries tensors, and numbers are wanted")
        said: dict[str, Any] = dict(content.config_records.get(COUNTS) or {})
        wanted = {FLOOR, *(() if summed else cells)}
        if set(said) != wanted:
            raise FederationError(f"the reply counts other than {', '.join(sorted(wanted - {FLOOR})) or 'nothing'}")
        floor = said.pop(FLOOR)
        fault = _FLOOR.fault(floor)
        if fault is not None:
            raise FederationError(f"'{FLOOR}' {fault}")
        told = {} if summed else cells
        return int(floor), {name: _numbers(name, said[name], len(listed)) for name, listed in told.items()}


def checked_sums(sums: Sequence[float], cells: Mapping[str, Sequence[str]]) -> list[float]:
    """Sums as they are opened (FederationError where one cannot be, which no site alone is to blame for)."""
    count = sum(map(len, cells.values()))
    return _numbers("the sum", list(sums), count)


def _numbers(name: str, found: object, count: int) -> list[float]:
    if not isinstance(found, list | tuple) or len(found) != count:
        raise FederationError(f"'{name}' has not the {count} numbers that were asked for")
    for each in found:
        fault = _NUMBER.fault(each)
        if fault is not None:
            raise FederationError(f"'{name}' holds a number that {fault}")
    return [max(0.0, round(float(each), 3)) for each in found]


def statistics_of(
    run: RunConfig,
    asked: StatisticsConfig,
    counts: Counts,
    *,
    by_site: Mapping[str, Counts],
    sites: Sequence[str],
    floors: Mapping[str, int],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """What a run counted, as statistics.json holds it.

    Parameters
    ----------
    counts
        Of all sites together.
    by_site
        Of each; none where sums alone were opened.
    sites, floors, missing
        Whose images they are, what each floors at, and who was asked and why it is not among them.
    """
    cells = asked.cells(run.classes)
    return {
        "format": FORMAT,
        "version": VERSION,
        "run": run.run,
        "name": run.name,
        "summed": run.secagg.on,
        "sites": sorted(sites),
        "floors": {name: floors[name] for name in sorted(floors)},
        "missing": dict(sorted(missing.items())),
        "histograms": {name: _histogram(name, listed, counts[name]) for name, listed in cells.items()},
        "by_site": {name: by_site[name] for name in sorted(by_site)},
        "notes": _notes(run, floors, sites),
    }


def read_statistics(path: Path) -> dict[str, Any]:
    """Read statistics.json (StorageError, FormatError, IntegrityError where it is none)."""
    found: dict[str, Any] = read_document(path, _SHAPE, name=FORMAT, newest=VERSION)
    cells = {name: len(each["cells"]) for name, each in found["histograms"].items()}
    every = [{name: each["counts"] for name, each in found["histograms"].items()}, *found["by_site"].values()]
    whole = all({name: len(counts) for name, counts in each.items()} == cells for each in every)
    if not (whole and set(cells) <= {*HISTOGRAMS} and all(found["notes"])):
        raise IntegrityError("its histograms are not whole", where=path, cure="run it anew")
    return found


def total_of(by_site: Mapping[str, Counts], cells: Mapping[str, Sequence[str]]) -> Counts:
    """The sums over sites, cell by cell."""
    made = {name: [0.0] * len(listed) for name, listed in cells.items()}
    for counts in by_site.values():
        for name, listed in counts.items():
            made[name] = [round(a + b, 3) for a, b in zip(made[name], listed, strict=True)]
    return made


def percentile(cells: Sequence[tuple[float, float]], counts: Sequence[float], share: float) -> float:
    """The value below which a share of a histogram lies, even within a cell.

    Parameters
    ----------
    cells
        Lower and upper edge of each, in order.
    counts
        In each; together above 0.
    share
        0 to 1.
    """
    wanted, below = share * sum(counts), 0.0
    for (low, high), count in zip(cells, counts, strict=True):
        if count > 0 and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below += count
    return cells[-1][1]


def _histogram(name: str, cells: Sequence[str], counts: Sequence[float]) -> dict[str, Any]:
    return {
        "cells": list(cells),
        "counts": list(counts),
        "total": round(math.fsum(counts), 3),
        "untold": [cell for cell, count in zip(cells, counts, strict=True) if not count],
        "percentiles": _percentiles(name, counts),
    }


def _percentiles(name: str, counts: Sequence[float]) -> dict[str, float] | None:
    """Of what is measured in numbers, and of enough images; an age of 90 stands for 90 and above."""
    if name == AGES:
        counts = counts[: EDGE // DECADES + 1]
        edges = [(float(low), float(min(low + DECADES, EDGE))) for low in range(0, EDGE + DECADES, DECADES)]
    elif name == INTENSITIES:
        width = LEVELS // len(counts)
        edges = [(float(low), float(low + width)) for low in range(0, LEVELS, width)]
    else:
        return None
    if sum(counts) < FEWEST:
        return None
    return {f"p{each}": round(percentile(edges, counts, each / 100), 1) for each in PERCENTILES}


def _notes(run: RunConfig, floors: Mapping[str, int], sites: Sequence[str]) -> list[str]:
    known = sorted({floors[site] for site in sites if site in floors})
    if known == [1] and len(floors) == len(sites):
        return ["every image is counted: no site has a floor, as in a simulation of one person's"]
    most = " to ".join(dict.fromkeys(str(each) for each in (known[0], known[-1]))) if known else "its own floor of"
    most += ", site by site," if len(known) > 1 else ""
    order = " before its masks, so that a sum adds what sites would tell" if run.secagg.on else ""
    return [
        f"a site tells 0 of a number with fewer than {most} patients in it, and all others rounded down{order}: "
        "0 is none or too few, and every other number is a lower bound",
        "percentiles are read from the rounded numbers; the smallest and the largest value are not told",
    ]
