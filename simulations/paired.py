"""Arms run under the same seeds, and what they came to on validation images, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medveil import plain
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig
from simulations.side_by_side import Job, Way, run_all, ways_of

_MEASURES = ("accuracy", "auroc")


def in_order(planned: Mapping[str, Sequence[Job]]) -> list[Job]:
    """All arms of a seed before the next seed: a table that is looked at early has pairs."""
    most = max(len(own) for own in planned.values())
    return [own[place] for place in range(most) for own in planned.values() if place < len(own)]


def carry_out(
    planned: Mapping[str, Sequence[Job]],
    out: Path,
    *,
    at_once: int,
    console: Console,
    results: Sequence[Path] = (),
    look: ExperimentConfig | None = None,
    after: Callable[[Job], None] | None = None,
) -> dict[str, str]:
    """Take up what finished elsewhere, keep what finished here, and run the rest.

    Parameters
    ----------
    planned
        The runs of each arm by its name.
    out
        The folder that all share.
    at_once
        Runs side by side.
    console
        Where it is told how they get on.
    results
        Files of results, whose finished runs are taken up first.
    look
        An experiment over whose images it is looked once which look alike, where that is asked.
    after
        Called with each run that finished, or was kept.

    Returns
    -------
    dict
        Why runs failed, by their names.

    Raises
    ------
    BasisError
        A run that would be kept stands on other images, labels or weights than there are now.
    ConfigError
        A run to be taken up ran under other settings.
    """
    from simulations.results import take  # noqa: PLC0415 - what reads images takes a while to import
    from simulations.standing import Comparable  # noqa: PLC0415

    jobs, comparable = in_order(planned), Comparable(out)
    for each in take(jobs, results, comparable):
        plain.say(console, each)
    ways, told = ways_of(jobs, comparable)
    for each in told:
        plain.say(console, each)
    if look is not None and any(way is not Way.KEPT for way in ways.values()):
        comparable.look(look, out)
    return run_all(jobs, ways, at_once=at_once, console=console, shared=out, after=after)


def measured(job: Job) -> dict[str, Any]:
    """What a run came to on validation images, and what it took (ConfigError where it had none)."""
    from fl_server.metrics import read_lines  # noqa: PLC0415 - a door opens fast
    from fl_server.summary import read_summary  # noqa: PLC0415

    lines = [line for line in read_lines(job.folder / "metrics.jsonl") if line["site"] == "all"]
    judged = [line for line in lines if line["phase"] == "validation" and line["accuracy"] is not None]
    if not judged:
        raise ConfigError("measured nothing on validation images", where=job.folder, cure="data.validation above 0")
    summary = read_summary(job.folder / "summary.json")
    kept = (summary.get("kept") or {}).get("round")
    # Of a run that leaves its best round, that one is what it came to.
    last = next((line for line in judged if line["round"] == kept), judged[-1])
    spent = sum(line["seconds"] or 0.0 for line in lines if line["phase"] == "train")
    cpu = (summary.get("cpu_seconds") or {}).get("all")
    measures = {name: last[name] for name in (*_MEASURES, "loss")}
    return {"seed": job.experiment.seed, "seconds": spent, "cpu_seconds": cpu, **measures}


def commits(job: Job) -> list[str]:
    """The commits of MedVeil that made a run."""
    from simulations.folders import read_manifest  # noqa: PLC0415

    return [str(each) for each in read_manifest(job.folder).get("commits") or []]


def rows_of(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row of each arm that was measured; gains are over the first one's runs of the same seeds."""
    first = next(iter(found))
    base = {each["seed"]: each for each in found[first]}
    return [row_of(name, runs, {} if name == first else base) for name, runs in found.items() if runs]


def row_of(name: str, runs: list[dict[str, Any]], base: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Of one arm; without `base` it is what the others are beside."""
    row: dict[str, Any] = {"switch": name, "seeds": sorted(each["seed"] for each in runs)}
    for measure in _MEASURES:
        row[measure] = _mean([each[measure] for each in runs])
        gained = [_less(each[measure], base[each["seed"]][measure]) for each in runs if each["seed"] in base]
        row[f"{measure}_gained"] = _mean(gained) if gained else None
        row[f"{measure}_interval"] = _interval(gained) if gained else None
    return row | {name: _mean([each.get(name) for each in runs]) for name in ("seconds", "cpu_seconds")}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _interval(gained: list[float | None]) -> list[float] | None:
    """Of the mean paired difference, 95 %, Student's t over seeds; None of fewer than three."""
    from scipy import stats  # noqa: PLC0415

    known = [value for value in gained if value is not None]
    if len(known) < 3 or len(known) < len(gained):
        return None
    half = float(stats.t.ppf(0.975, len(known) - 1)) * float(np.std(known, ddof=1)) / math.sqrt(len(known))
    middle = float(np.mean(known))
    return [middle - half, middle + half]
