"""The documents of a sweep: ``sweep.json``, a tidy ``sweep.csv`` of runs (and Parquet), ``sweep.md`` and the page."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medveil.basis import DEALT
from medveil.files import new_file, write_json, write_text
from medveil.sheets import sheet_of
from medveil.versions import medveil_version
from simulations.config import ExperimentConfig
from simulations.folders import read_manifest
from simulations.paired import rows_of
from simulations.points import label_of
from simulations.side_by_side import Job

FORMAT, VERSION = "medveil-sweep", 1
DOCUMENT = "sweep.json"
_TESTED = ("accuracy", "balanced_accuracy", "auroc")
_JUDGED = ("loss", "accuracy", "auroc")
_SPENT = ("seconds", "bytes_up", "bytes_down")
_SHEETS = (list, dict)


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes
    ----------
    name
        Of its folder.
    values, settings
        What was asked for, and what it means.
    experiment
        The experiment, under no seed yet.
    jobs
        Its runs, one a seed.
    """

    name: str
    values: dict[str, Any]
    settings: dict[str, Any]
    experiment: ExperimentConfig
    jobs: list[Job] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What it is called."""
        return label_of(self.settings)


class Documents:
    """What is written anew after each run, and once more at the end.

    Parameters
    ----------
    folder
        Of the sweep.
    points
        In the order of the tables; the first is what the others are beside.
    about
        What the document says beside the rows.
    commands
        How each run is made again, by its name.
    """

    def __init__(
        self, folder: Path, points: Sequence[Point], about: dict[str, Any], commands: Mapping[str, str]
    ) -> None:
        self.folder, self.about = folder, about
        self.found: dict[str, dict[str, Any]] = {}
        self._points, self._commands = points, commands
        self._commits: set[str] = set()

    def note(self, job: Job, found: dict[str, Any], commits: Sequence[str]) -> None:
        """Take up what a run came to."""
        self.found[job.name] = found
        self._commits |= set(commits)
        self._write(self._rows(), {})

    def finish(self, failed: Mapping[str, str]) -> None:
        """Write all of it, test scores and the page too (errors as `simulations.report.measured`)."""
        from simulations.report.sweep_page import tested, write_sweep  # noqa: PLC0415 - what draws takes a while

        done = [point for point in self._points if any(job.name in self.found for job in point.jobs)]
        arms = tested([(each.label, [job.folder for job in each.jobs if job.name in self.found]) for each in done])
        rows = [{**row, "test": arms[row["point"]].scores} for row in self._rows()]
        document = self._write(rows, failed)
        write_text(self.folder / "sweep.md", as_markdown(rows))
        _write_parquet(self.folder / "sweep.parquet", document["runs"])
        write_sweep(self.folder, document, {name: arm.measured for name, arm in arms.items()})

    def _write(self, rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str]) -> dict[str, Any]:
        runs = [self._run(point, job, failed.get(job.name, "")) for point in self._points for job in point.jobs]
        document = {
            "format": FORMAT,
            "version": VERSION,
            **self.about,
            "medveil": medveil_version(),
            "commits": sorted(self._commits),
            "points": list(rows),
            "runs": runs,
        }
        write_json(self.folder / DOCUMENT, document)
        write_text(self.folder / "sweep.csv", sheet_of(map(flat, runs), list(runs[0])))
        return document

    def _rows(self) -> list[dict[str, Any]]:
        """A row of each point that has a run; gains over the first that has."""
        labelled = {point.label: point for point in self._points}
        found = {
            label: [self.found[job.name] for job in point.jobs if job.name in self.found]
            for label, point in labelled.items()
        }
        # What the others are beside comes first, whether or not it has finished.
        rows = rows_of(found)
        base = next(iter(labelled.values()))
        return [
            {
                "point": row.pop("switch"),
                "settings": labelled[label].settings,
                "folder": labelled[label].name,
                **row,
                "same_images": self._deal_alike(labelled[label], base),
            }
            for row, label in [(row, row["switch"]) for row in rows]
        ]

    def _deal_alike(self, point: Point, base: Point) -> bool | None:
        """Whether the runs of both dealt and split images alike, seed by seed; None where nothing says so."""
        pairs = [
            (_dealt(one.folder), _dealt(other.folder))
            for one, other in zip(point.jobs, base.jobs, strict=True)
            if one.name in self.found and other.name in self.found
        ]
        return all(a == b for a, b in pairs) if pairs and all(a and b for a, b in pairs) else None

    def _run(self, point: Point, job: Job, problem: str) -> dict[str, Any]:
        from fl_server.summary import read_summary  # noqa: PLC0415 - a door opens fast

        found = self.found.get(job.name)
        summary = read_summary(job.folder / "summary.json") if found else {}
        return {
            "point": point.label,
            **point.settings,
            "seed": job.experiment.seed,
            "status": "finished" if found else "failed" if problem else "waiting",
            **{f"validation_{name}": (found or {}).get(name) for name in _JUDGED},
            **{f"test_{name}": summary.get(name) for name in _TESTED},
            "training_seconds": (found or {}).get("seconds"),
            "cpu_seconds": (found or {}).get("cpu_seconds"),
            **{name: summary.get(name) for name in _SPENT},
            "folder": job.folder.relative_to(self.folder).as_posix(),
            "command": self._commands[job.name],
            "problem": problem or None,
        }


def flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as one line of a sheet: a list among its settings is text."""
    return {name: label_of({"": value})[1:] if isinstance(value, _SHEETS) else value for name, value in run.items()}


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of points: validation with the paired difference from the first, then test."""
    heads = ("point", "seeds", "validation accuracy", "gained", "AUROC", "gained", "test accuracy", "test AUROC", "s")
    lines = [_cells(heads), "|" + "---|" * len(heads)]
    for row in rows:
        test = row["test"]
        lines.append(
            _cells(
                (
                    row["point"],
                    len(row["seeds"]),
                    _number(row["accuracy"]),
                    _within(row["accuracy_gained"], row["accuracy_interval"], "+"),
                    _number(row["auroc"]),
                    _within(row["auroc_gained"], row["auroc_interval"], "+"),
                    _within(test["accuracy"]["mean"], test["accuracy"]["interval"]),
                    _within(test["auroc"]["mean"], test["auroc"]["interval"]),
                    _number(row["seconds"], digits=0),
                )
            )
        )
    return "\n".join(lines) + "\n"


def _cells(values: Sequence[object]) -> str:
    return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"


def _number(value: float | None, sign: str = "", digits: int = 3) -> str:
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _within(value: float | None, interval: Sequence[float] | None, sign: str = "") -> str:
    beside = "" if interval is None else f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"
    return _number(value, sign) + beside


def _dealt(run: Path) -> str:
    return str((read_manifest(run).get("basis") or {}).get(DEALT, ""))


def _write_parquet(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """The rows of the CSV, each column of its own type; nothing where pyarrow is not installed."""
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        path.unlink(missing_ok=True)
        return
    rows = [flat(run) for run in runs]
    columns = {name: _of_one_kind([row[name] for row in rows]) for name in rows[0]}
    with new_file(path) as stream:
        parquet.write_table(arrow.table(columns), stream)


def _of_one_kind(values: Sequence[Any]) -> list[Any]:
    """A column: of numbers where all are, else of text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return list(values)
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]
