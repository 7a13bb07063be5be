"""`medveil-sim search`: settings that do best on validation images, suggested one after another by Optuna, an extra.

Test images choose nothing here and stand in no table of it. A trial is suggested from the trials before it and its own
number alone, so that a search that was interrupted goes on as it would have gone.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from medveil import plain
from medveil.bounded import word
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, PartialError
from medveil.files import read_json, write_json, write_text
from medveil.sheets import sheet_of
from medveil.versions import medveil_version
from simulations.config import check_seeds
from simulations.folders import many
from simulations.frames import frame
from simulations.paired import carry_out, measured
from simulations.points import Axis, Range, check_axes, label_of
from simulations.side_by_side import Job
from simulations.sweep import Again, Made, commands_of, jobs_of, point_of
from simulations.swept import Point

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT, VERSION = "medveil-search", 1
MEASURES = {"accuracy": "maximize", "auroc": "maximize", "loss": "minimize"}
"""What of validation images a search goes by, and which way."""
MOST_TRIALS = 1000
_DOCUMENT = "search.json"
_LOCK = ".search"


@dataclass(frozen=True)
class Search:
    """What a search left behind.

    Attributes
    ----------
    folder : Path
        The folder of the search.
    failed : tuple of str
        The trials without a score: of a run that did not finish, or of settings that cannot be.
    """

    folder: Path
    failed: tuple[str, ...] = ()

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "search.html"

    @property
    def exit_code(self) -> int:
        """0, or 6 where some trials have no score."""
        return EXIT_PARTIAL if self.failed else EXIT_OK

    def trials(self) -> list[dict[str, Any]]:
        """A row a trial, in their order: settings by their dotted names, scores on validation images, and the commands.

        Returns
        -------
        list of dict
            ``accuracy``, ``auroc`` and ``loss`` are means over seeds; None where a trial has no score.
        """
        found: list[dict[str, Any]] = read_json(self.folder / _DOCUMENT)["trials"]
        return found

    @property
    def best(self) -> dict[str, Any]:
        """The trial that did best on validation images (ConfigError where none has a score)."""
        document = read_json(self.folder / _DOCUMENT)
        found = _best(document["trials"], document["measure"])
        if found is None:
            raise ConfigError("has no trial with a score", where=self.folder)
        return found

    def table(self) -> DataFrame:
        """`trials` as a pandas DataFrame (ConfigError where pandas is not installed)."""
        return frame(self.trials(), cure="take 'trials()'")


def search(
    made: Made,
    axes: Mapping[str, Axis],
    out: Path,
    *,
    trials: int,
    measure: str = "accuracy",
    jobs: int = 1,
    command: str | None = None,
    again: Again | None = None,
    console: Console | None = None,
) -> Search:
    """Try settings one trial after another, each under every seed of the experiment's ``compare`` section.

    Each run is a process of its own below ``out/POINT/seed-N``, as in a sweep; a trial that was made is not made again,
    and with more trials the search goes on.

    Parameters
    ----------
    made
        Makes the experiment of some settings.
    axes
        What values and ranges settings have.
    out
        The folder.
    trials
        How many there are to be in all.
    measure
        Of validation images: accuracy, auroc or loss.
    jobs
        Runs of a trial side by side.
    command, again, console
        As for `simulations.sweep.sweep`.

    Raises
    ------
    ConfigError
        A value alone cannot be had, there is nothing to search, Optuna is not installed, or the folder is of another
        search.
    PartialError
        No trial has a score.
    StorageError
        Another process works in this folder; which one and since when.
    """
    _refuse(trials, measure)
    optuna = _optuna()
    base = made({})
    check_seeds(base)
    check_axes(axes)
    console = console or plain.stderr_console()
    with many(out, _LOCK, jobs=jobs) as folder:
        check_each(made, axes, folder)
        about = {
            "name": base.name,
            "over": {key: str(axis) if isinstance(axis, Range) else list(axis) for key, axis in axes.items()},
            "measure": measure,
            "seeds": list(base.compare.seeds),
            "seed": base.seed,
        }
        looking = _Looking(made, axes, folder, about, command=command, again=again, console=console, jobs=jobs)
        looking.take_up()
        while len(looking.trials) < trials:
            looking.next(optuna)
        return looking.finished()


def _refuse(trials: int, measure: str) -> None:
    if not 1 <= trials <= MOST_TRIALS:
        raise ConfigError(f"is {trials}", where="--trials", cure=f"1 to {MOST_TRIALS}")
    if measure not in MEASURES:
        raise ConfigError(f"is '{word(measure)}'", where="--measure", cure=f"one of {', '.join(MEASURES)}")


def first_point(made: Made, axes: Mapping[str, Axis], out: Path) -> Point:
    """The point of first values and lowest ends (ConfigError where a value cannot be had beside them)."""
    check_axes(axes)
    return check_each(made, axes, out)


def check_each(made: Made, axes: Mapping[str, Axis], out: Path) -> Point:
    """Refuse a value that cannot be had beside the first ones of the others (ConfigError); the point of those."""
    ends = {key: (axis.low, axis.high) if isinstance(axis, Range) else axis for key, axis in axes.items()}
    whole = {key for key, axis in axes.items() if isinstance(axis, Range) and axis.kind == "int"}
    ends = {key: tuple(map(int, values)) if key in whole else values for key, values in ends.items()}
    first = {key: values[0] for key, values in ends.items()}
    found = point_of(made, first, out)
    for key, values in ends.items():
        for value in values[1:]:
            point_of(made, {**first, key: value}, out)
    return found


@dataclass
class _Looking:
    """A search on its way."""

    made: Made
    axes: Mapping[str, Axis]
    out: Path
    about: dict[str, Any]
    command: str | None
    again: Again | None
    console: Console
    jobs: int
    trials: list[dict[str, Any]] = field(default_factory=list)

    def take_up(self) -> None:
        """Go on with what an earlier command left (ConfigError where that was another search)."""
        path = self.out / _DOCUMENT
        if not path.is_file():
            return
        earlier = read_json(path)
        differing = next((name for name, value in self.about.items() if earlier.get(name) != value), None)
        if differing is not None or earlier.get("medveil") != medveil_version():
            problem = f"holds a search with another '{differing or 'version of MedVeil'}'"
            raise ConfigError(problem, where=self.out, cure="the same settings again, or name another folder")
        self.trials = list(earlier["trials"])

    def next(self, optuna: Any) -> None:
        """Suggest a trial, run it, and write down what came of it."""
        number = len(self.trials)
        values = _suggested(optuna, self.axes, self.trials, seed=self.about["seed"], measure=self.about["measure"])
        trial: dict[str, Any] = {"trial": number + 1, **{f"asked {key}": value for key, value in values.items()}}
        try:
            point = point_of(self.made, values, self.out)
        except ConfigError as error:
            self._note({**trial, **values, **dict.fromkeys(MEASURES), "problem": str(error)})
            return
        planned = jobs_of([point], self.about["seeds"], self.out)
        found: dict[str, dict[str, Any]] = {}

        def after(job: Job) -> None:
            found[job.name] = measured(job)

        failed = carry_out(planned, self.out, at_once=self.jobs, console=self.console, after=after)
        self._note({**trial, **point.settings, **self._scored(point, planned[point.name], found, failed)})

    def _scored(
        self, point: Point, jobs: Sequence[Job], found: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]
    ) -> dict[str, Any]:
        runs = [found[job.name] for job in jobs if job.name in found]
        whole = len(runs) == len(jobs)
        means = {name: _mean([run[name] for run in runs]) if whole else None for name in MEASURES}
        made = commands_of([point], {point.name: list(jobs)}, self.again)
        commands = "; ".join(made[job.name] for job in jobs)
        seconds = sum(run["seconds"] for run in runs)
        problem = next(iter(failed.values()), None)
        return {**means, "seconds": seconds, "folder": point.name, "command": commands, "problem": problem}

    def _note(self, trial: dict[str, Any]) -> None:
        self.trials.append(trial)
        measure = self.about["measure"]
        best = _best(self.trials, measure)
        said = {key: value for key, value in trial.items() if key in self.axes}
        score = trial[measure]
        told = trial["problem"] if score is None else f"{measure} {score:.3f}"
        beside = "" if best is None else f"; best so far {best[measure]:.3f} (trial {best['trial']})"
        plain.say(self.console, f"trial {trial['trial']}: {label_of(said)}: {told}{beside}")
        self.write()

    def write(self) -> dict[str, Any]:
        """Write the documents anew, and return the first."""
        medveil = medveil_version()
        document = {"format": FORMAT, "version": VERSION, **self.about, "command": self.command, "medveil": medveil}
        document["trials"] = self.trials
        write_json(self.out / _DOCUMENT, document)
        heads = ["trial", *self.axes, *MEASURES, "seconds", "folder", "command", "problem"]
        write_text(self.out / "search.csv", sheet_of(self.trials, heads))
        return document

    def finished(self) -> Search:
        """Write the page (PartialError where no trial has a score)."""
        from simulations.report.search_page import write_search  # noqa: PLC0415 - what draws takes a while to import

        document = self.write()
        best = _best(self.trials, self.about["measure"])
        if best is None:
            raise PartialError(f"no trial has a score: {self.trials[0]['problem']}", where=self.out)
        write_search(self.out, document, best)
        lacking = tuple(f"trial {each['trial']}" for each in self.trials if each[self.about["measure"]] is None)
        return Search(self.out, lacking)


def _best(trials: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any] | None:
    known = [dict(each) for each in trials if each[measure] is not None]
    sign = 1 if MEASURES[measure] == "maximize" else -1
    return max(known, key=lambda each: sign * each[measure], default=None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("needs Optuna", where="a search", cure="pip install 'medveil[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _suggested(
    optuna: Any, axes: Mapping[str, Axis], trials: Sequence[Mapping[str, Any]], *, seed: int, measure: str
) -> dict[str, Any]:
    """The next trial's settings, by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011)."""
    distributions = {key: _distribution(optuna, axis) for key, axis in axes.items()}
    sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + len(trials)) % 2**32)
    study = optuna.create_study(direction=MEASURES[measure], sampler=sampler)
    for each in trials:
        params, score = {key: each[f"asked {key}"] for key in axes}, each[measure]
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score, state=state))
    found: dict[str, Any] = copy.deepcopy(study.ask(distributions).params)
    return {key: _rounded(axes[key], value) for key, value in found.items()}


def _distribution(optuna: Any, axis: Axis) -> Any:
    if not isinstance(axis, Range):
        return optuna.distributions.CategoricalDistribution(axis)
    if axis.kind == "int":
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high))
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.kind == "log")


def _rounded(axis: Axis, value: Any) -> Any:
    return axis.rounded(value) if isinstance(axis, Range) and axis.kind != "int" else value
