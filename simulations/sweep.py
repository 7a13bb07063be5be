"""`medveil-sim sweep`: one experiment under many settings, all combinations or some drawn, every point under each seed.

Points of one seed share data, split and batches as far as their settings let them, so that differences are paired. The
points are beside the first one, and ordered by validation images: what is chosen by this table may still be tested.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console

from medveil import plain
from medveil.config import from_mapping, to_mapping
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, PartialError
from medveil.files import read_json
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig, check_seeds, refuse_pixels
from simulations.folders import many
from simulations.frames import frame
from simulations.paired import carry_out, commits, measured
from simulations.plan import make_plan
from simulations.points import Axis, Range, check_axes, drawn, folder_of, grid, label_of
from simulations.side_by_side import Job
from simulations.swept import DOCUMENT, Documents, Point
from simulations.switches import as_it_is, with_recipe

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Axis", "Range", "Sweep", "laid_over", "sweep"]
_LOCK = ".sweep"
_RECIPE = "train.recipe"
Made: TypeAlias = Callable[[Mapping[str, Any]], ExperimentConfig]
"""Makes the experiment of some settings, over what all points share (ConfigError where there is none)."""
Again: TypeAlias = Callable[[Mapping[str, Any], ExperimentConfig], Sequence[str]]
"""The words that ask for a point's run again, from its settings and its experiment under a seed."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep left behind.

    Attributes
    ----------
    folder : Path
        The folder of the sweep.
    failed : tuple of str
        The runs that did not finish.
    left_out : tuple of str
        The points that cannot be had, each with the reason; only where it was asked to leave them out.
    """

    folder: Path
    failed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "sweep.html"

    @property
    def text(self) -> Path:
        """The table of points as Markdown."""
        return self.folder / "sweep.md"

    @property
    def sheet(self) -> Path:
        """The runs as CSV; beside it ``sweep.parquet``, where pyarrow is installed."""
        return self.folder / "sweep.csv"

    @property
    def exit_code(self) -> int:
        """0, or 6 where some runs failed."""
        return EXIT_PARTIAL if self.failed else EXIT_OK

    def records(self) -> list[dict[str, Any]]:
        """A row a run: its point, seed and settings, validation and test scores, times, bytes, folder and command.

        Returns
        -------
        list of dict
            Settings have their dotted names (``"train.lr"``). None where a number is not defined, or a run failed.
        """
        found: list[dict[str, Any]] = read_json(self.folder / DOCUMENT)["runs"]
        return found

    def points(self) -> list[dict[str, Any]]:
        """A row a point, in the order they were asked for: means over seeds, and paired differences from the first.

        Returns
        -------
        list of dict
            ``accuracy`` and ``auroc`` are of validation images, with ``_gained`` over the first point and its 95 %
            ``_interval`` (Student's t over seeds; None of fewer than three); ``test`` has those of test images.
        """
        found: list[dict[str, Any]] = read_json(self.folder / DOCUMENT)["points"]
        return found

    def table(self) -> DataFrame:
        """`records` as a pandas DataFrame (ConfigError where pandas is not installed)."""
        return frame(self.records(), cure="take 'records()'")


def sweep(
    made: Made,
    axes: Mapping[str, Axis],
    out: Path,
    *,
    random: int | None = None,
    leave_out: bool = False,
    results: Sequence[Path] = (),
    jobs: int = 1,
    command: str | None = None,
    again: Again | None = None,
    console: Console | None = None,
) -> Sweep:
    """Run every point under every seed of the experiment's ``compare`` section, and write the tables and the page.

    Each run is a process of its own below ``out/POINT/seed-N``. A run that finished under the same settings is kept,
    also where more values are asked for, and one that was cut off goes on.

    Parameters
    ----------
    made
        Makes the experiment of a point.
    axes
        What values settings take.
    out
        The folder.
    random
        How many points are drawn; None runs all combinations.
    leave_out
        Leave out points that cannot be had, and say why; else the first of them is refused.
    results
        Files of results (`simulations.results`), whose finished runs are taken up first.
    jobs
        Runs side by side.
    command
        What was typed for it, for the documents it leaves.
    again
        How a run is asked for again; None: by the file of its settings.
    console
        Where it is told how it gets on; None is stderr.

    Raises
    ------
    BasisError
        A run that would be kept stands on other images, labels or weights than there are now.
    ConfigError
        A point cannot be had, before anything is run; two are one; or there is nothing to sweep.
    PartialError
        No run finished.
    StorageError
        Another process works in this folder; which one and since when.
    """
    base = made({})
    values = asked_points(base, axes, random=random)
    console = console or plain.stderr_console()
    with many(out, _LOCK, jobs=jobs) as folder:
        points, left = points_of(made, values, folder, leave_out=leave_out)
        for each in left:
            plain.say(console, each)
        planned = jobs_of(points, base.compare.seeds, folder)
        about = {
            "name": base.name,
            "over": {key: str(axis) if isinstance(axis, Range) else list(axis) for key, axis in axes.items()},
            "random": random,
            "left_out": left,
            "command": command,
        }
        documents = Documents(folder, points, about, commands_of(points, planned, again))
        return _swept(planned, documents, results=results, at_once=jobs, console=console)


def planned(
    made: Made, axes: Mapping[str, Axis], out: Path, *, random: int | None, leave_out: bool
) -> tuple[dict[str, list[Job]], list[str]]:
    """The runs of a sweep below a folder, and what is left out and why; errors as `sweep`, before it runs."""
    base = made({})
    points, left = points_of(made, asked_points(base, axes, random=random), out, leave_out=leave_out)
    return jobs_of(points, base.compare.seeds, out), left


def asked_points(base: ExperimentConfig, axes: Mapping[str, Axis], *, random: int | None) -> list[dict[str, Any]]:
    """The settings of each point, before any is looked at (ConfigError)."""
    check_seeds(base)
    seeds = base.compare.seeds
    check_axes(axes)
    if random is None:
        return grid(axes, seeds=len(seeds))
    return drawn(axes, random, seed=base.seed, seeds=len(seeds))


def points_of(
    made: Made, values: Sequence[Mapping[str, Any]], out: Path, *, leave_out: bool
) -> tuple[list[Point], list[str]]:
    """The points, each looked at as a run would be before it begins; and which cannot be had, and why."""
    found: dict[str, Point] = {}
    left = []
    for each in values:
        try:
            point = point_of(made, each, out)
        except ConfigError as error:
            if not leave_out:
                raise
            left.append(f"left out: {error}")
            continue
        if point.name in found or any(point.label == other.label for other in found.values()):
            raise ConfigError("stands there twice", where=point.label, cure="each value once")
        found[point.name] = point
    if not found:
        raise ConfigError("no point is left", where="sweep", cure=left[0] if left else "name more values")
    return list(found.values()), left


def laid_over(config: ExperimentConfig) -> Made:
    """What makes points over an experiment that is there: a recipe replaces its settings, other values stand on top."""

    def made(values: Mapping[str, Any]) -> ExperimentConfig:
        below = with_recipe(config, str(values[_RECIPE])) if _RECIPE in values else as_it_is(config)
        settings = to_mapping(below)
        for key, value in values.items():
            _set(settings, key, value)
        return from_mapping(ExperimentConfig, settings, where="a point of the sweep")

    return made


def point_of(made: Made, values: Mapping[str, Any], out: Path) -> Point:
    """A point, looked at as a run would be before it begins (ConfigError where it cannot be had)."""
    said = label_of(values)
    try:
        experiment = made(values)
        settings = {key: _get(experiment, key) for key in values}
        name = folder_of(settings)
        own = any(key.startswith("data.phantoms.") for key in values)
        if experiment.data.source == "phantoms" and experiment.data.path is None and not own:
            experiment.data.path = str(out / "phantoms")
        _check(experiment, out / name)
    except ConfigError as error:
        told = f"{error.problem}, in the point {said}"
        raise type(error)(told, where=error.where, cure=error.cure) from error
    return Point(name, dict(values), settings, experiment)


def _check(experiment: ExperimentConfig, folder: Path) -> None:
    """Refuse here what would be refused hours later."""
    from simulations.run import check_model  # noqa: PLC0415 - torch loads here

    refuse_pixels(experiment, "sweep")
    if experiment.federation in BASELINES:
        cure = "compare has it as an arm"
        raise ConfigError(
            "is a baseline, which chooses for itself", where=f"federation {experiment.federation}", cure=cure
        )
    if experiment.data.validation <= 0 and experiment.data.split != "official":
        raise ConfigError("leaves nothing to compare by", where="data.validation", cure="above 0")
    check_model(make_plan(experiment, folder, shared=folder.parent))


def jobs_of(points: Sequence[Point], seeds: Sequence[int], out: Path) -> dict[str, list[Job]]:
    """The runs of points below a folder, by the points' names; each point is told of its own."""
    for point in points:
        for seed in seeds:
            seeded = copy.deepcopy(point.experiment)
            seeded.seed = seed
            point.jobs.append(Job(f"{point.label} seed {seed}", seeded, out / point.name / f"seed-{seed}"))
    return {point.name: point.jobs for point in points}


def commands_of(points: Sequence[Point], planned: Mapping[str, Sequence[Job]], again: Again | None) -> dict[str, str]:
    """How each run is made again, by its name."""
    made = {}
    for point in points:
        for job in planned[point.name]:
            words = [str(job.settings)] if again is None else again(point.values, job.experiment)
            target = f"{point.name}-{job.folder.name}"
            made[job.name] = shlex.join(["medveil-sim", "run", *words, "--out", target])
    return made


def _swept(
    planned: Mapping[str, Sequence[Job]],
    documents: Documents,
    *,
    results: Sequence[Path],
    at_once: int,
    console: Console,
) -> Sweep:
    out = documents.folder

    def after(job: Job) -> None:
        found = measured(job)
        documents.note(job, found, commits(job))
        plain.say(console, f"{job.name}: validation accuracy {found['accuracy']:.3f}")

    failed = carry_out(planned, out, at_once=at_once, console=console, results=results, after=after)
    if not documents.found:
        raise PartialError(f"none of the runs finished: {next(iter(failed.values()))}", where=out)
    documents.finish(failed)
    return Sweep(out, tuple(failed), tuple(documents.about["left_out"]))


def _get(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for part in sections:
        found = settings.get(part)
        if not isinstance(found, dict):
            # The settings' own check names the nearest key there is.
            found = settings[part] = {}
        settings = found
    settings[name] = value
