"""What each switch of training brings on validation images: one experiment, run once for each switch and seed.

Every arm is the experiment with one switch more than it has, beside the experiment itself and whole recipes; or a
recipe with one of its settings less, beside the whole of it. Runs of one seed share data, split and batches, so that
differences are paired. Test images are measured by the runs, as ever, and not read here: what is chosen by this table
may still be tested.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from medveil import plain
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, PartialError
from medveil.files import write_json, write_text
from medveil.log import each_line_once
from medveil.versions import medveil_version
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig, check_seeds, refuse_pixels
from simulations.folders import many
from simulations.frames import frame
from simulations.paired import carry_out, commits, measured, rows_of
from simulations.plan import make_plan
from simulations.side_by_side import Job
from simulations.switches import AS_IT_IS, all_names, as_it_is, switched

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT, VERSION = "medveil-ablation", 1
LOCK = ".ablation"


@dataclass(frozen=True)
class Ablation:
    """The folder of an ablation, and the table in it; `failed` are runs that the table lacks."""

    folder: Path
    rows: list[dict[str, Any]]
    failed: tuple[str, ...] = ()

    @property
    def text(self) -> Path:
        """The table as Markdown."""
        return self.folder / "ablation.md"

    @property
    def table_json(self) -> Path:
        """The same as JSON, with what it is of."""
        return self.folder / "ablation.json"

    @property
    def exit_code(self) -> int:
        """0, or 6 where some runs failed."""
        return EXIT_PARTIAL if self.failed else EXIT_OK

    def table(self) -> DataFrame:
        """`rows` as a pandas DataFrame (ConfigError where pandas is not installed)."""
        return frame(self.rows, cure="take 'rows'")


@dataclass(frozen=True)
class _Table:
    """What is written anew after each run."""

    out: Path
    jobs: dict[str, list[Job]]
    about: dict[str, Any]

    def write(self, found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Of what was measured, by the names of the runs; the rows."""
        done = {name: [found[job.name] for job in own if job.name in found] for name, own in self.jobs.items()}
        rows = rows_of(done)
        write_json(self.out / "ablation.json", {"format": FORMAT, "version": VERSION, **self.about, "rows": rows})
        write_text(self.out / "ablation.md", as_markdown(rows))
        return rows


def ablate(
    config: ExperimentConfig,
    out: Path,
    *,
    switches: Sequence[str] | None = None,
    recipe: str = "",
    results: Sequence[Path] = (),
    jobs: int = 1,
    command: str | None = None,
    console: Console | None = None,
) -> Ablation:
    """Run the experiment as it is and with each switch, under every seed of its ``compare`` section.

    Each run is a process of its own below ``out/SWITCH/seed-N``; those that finished under the same settings are kept,
    and one that was cut off goes on, so that an ablation that was interrupted does.

    Parameters
    ----------
    config, out
        The experiment, and the folder.
    switches
        Names of arms (`simulations.switches`). None: all there are; those that this experiment cannot have are left
        out, and it is told why.
    recipe
        What the arms are beside instead of the experiment as it is; `switches` are then what it is without.
    results
        Files of results (`simulations.results`), whose finished runs are taken up first.
    jobs
        Runs side by side.
    command
        What was typed for it, for the documents it leaves.
    console
        Where it is told how it gets on; None is the terminal.

    Raises
    ------
    BasisError
        A run that would be kept stands on other images, labels or weights than there are now.
    ConfigError
        There is no such switch, no seed, or a switch and the experiment cannot be had together; or it measures nothing
        on validation images.
    PartialError
        What the others are beside did not finish.
    StorageError
        Another process works in this folder; which one and since when.
    """
    names = _named(config, switches, recipe)
    with many(out, LOCK, jobs=jobs) as folder:
        with each_line_once():
            arms, told = _arms(config, folder, names, recipe=recipe, lenient=switches is None)
        for each in told:
            plain.tell(each, error=True) if console is None else plain.say(console, each)
        about = {"name": config.name, "told": told, "command": command, "medveil": medveil_version()}
        return measured_in(
            _planned(arms, config.compare.seeds, folder), folder, about, results=results, jobs=jobs, console=console
        )


def _named(config: ExperimentConfig, switches: Sequence[str] | None, recipe: str) -> list[str]:
    """The names of the arms (ConfigError where this experiment cannot be ablated)."""
    refuse_pixels(config, "ablate")
    check_seeds(config)
    if config.federation in BASELINES:
        raise ConfigError("is a baseline, which has none of the switches", where=f"federation {config.federation}")
    names = all_names(recipe)
    if switches is None:
        return names
    return list(dict.fromkeys(each if not recipe else _within(recipe, each, names) for each in switches))


def _within(recipe: str, switch: str, own: Sequence[str]) -> str:
    """The name of a recipe without a switch that it has, or with one it has not; the name of such an arm is its own."""
    if switch.startswith((f"{recipe} without ", f"{recipe} with ")):
        return switch
    without = f"{recipe} without {switch}"
    return without if without in own else f"{recipe} with {switch}"


def _arms(
    config: ExperimentConfig, out: Path, names: Sequence[str], *, recipe: str, lenient: bool
) -> tuple[dict[str, ExperimentConfig], list[str]]:
    """The experiments by their names, what the others are beside first; and what was left out and why.

    What cannot be is refused here: hours later it would be too.
    """
    if config.data.source == "phantoms" and config.data.path is None:
        config.data.path = str(out / "phantoms")
    if recipe:
        arms = {recipe: _one(config, out, recipe)}
    else:
        _check(config, out / _folder(AS_IT_IS))
        arms = {AS_IT_IS: as_it_is(config)}
    told: list[str] = []
    for name in names:
        try:
            arms[name] = _one(config, out, name)
        except ConfigError as error:
            if not lenient:
                raise
            why = str(error).removeprefix(f"'{name}': ")
            told.append(f"'{name}' is left out: {why}.")
    return arms, told


def _one(config: ExperimentConfig, out: Path, name: str) -> ExperimentConfig:
    """The experiment of a name; a refusal says that it is of that name."""
    made = switched(config, name)
    try:
        _check(made, out / _folder(name))
    except ConfigError as error:
        told = f"with switch '{name}' {error.problem}"
        raise ConfigError(
            told, where=error.where, cure=error.cure or "leave the switch out, by naming the others"
        ) from error
    return made


def _check(experiment: ExperimentConfig, folder: Path) -> None:
    from simulations.run import check_model  # noqa: PLC0415 - torch loads here

    # The folder of the ablation, above it, keeps which images look alike.
    check_model(make_plan(experiment, folder, shared=folder.parent))


def planned(
    config: ExperimentConfig, out: Path, *, switches: Sequence[str] | None = None, recipe: str = ""
) -> tuple[dict[str, list[Job]], list[str]]:
    """The runs of an ablation below a folder, and what is left out and why; errors as `ablate`, before it runs."""
    names = _named(config, switches, recipe)
    arms, told = _arms(config, out, names, recipe=recipe, lenient=switches is None)
    return _planned(arms, config.compare.seeds, out), told


def _planned(arms: dict[str, ExperimentConfig], seeds: Sequence[int], out: Path) -> dict[str, list[Job]]:
    return {name: [_job(experiment, name, seed, out) for seed in seeds] for name, experiment in arms.items()}


def measured_in(
    planned: dict[str, list[Job]],
    out: Path,
    about: dict[str, Any],
    *,
    jobs: int,
    results: Sequence[Path] = (),
    spent: Mapping[str, float] | None = None,
    console: Console | None = None,
) -> Ablation:
    """Run what is to be run, and write the table after each.

    Parameters
    ----------
    planned
        The runs of each arm by its name; what the others are beside first.
    out, about
        The folder, and what the document says beside the rows.
    jobs
        Runs side by side.
    results
        Files of results, whose finished runs are taken up first.
    spent
        Seconds of processor time that runs had cost before they began, by their names.
    console
        Where it is told how they get on; None is stderr.

    Raises
    ------
    BasisError, ConfigError, PartialError
        As `ablate`.
    """
    table, found = _Table(out, planned, about), {}
    console = console or plain.stderr_console()

    def after(job: Job) -> None:
        found[job.name] = measured(job)
        if spent and job.name in spent and found[job.name]["cpu_seconds"] is not None:
            found[job.name]["cpu_seconds"] += spent[job.name]
        about["commits"] = sorted({*about.get("commits", []), *commits(job)})
        plain.say(console, f"{job.name}: validation accuracy {found[job.name]['accuracy']:.3f}")
        table.write(found)

    failed = carry_out(planned, out, at_once=jobs, console=console, results=results, after=after)
    first = next(iter(planned.values()))
    if not any(job.name in found for job in first):
        problem = f"none of the runs that the others are beside finished: {failed.get(first[0].name)}"
        raise PartialError(problem, where=out)
    return Ablation(out, table.write(found), tuple(failed))


def _job(experiment: ExperimentConfig, name: str, seed: int, out: Path) -> Job:
    seeded = copy.deepcopy(experiment)
    seeded.seed = seed
    # Runs of an older MedVeil have no page each.
    return Job(f"{name} seed {seed}", seeded, out / _folder(name) / f"seed-{seed}", paged=False)


def _folder(name: str) -> str:
    return name.replace(" ", "-")


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table: validation accuracy and AUROC, what a switch gained beside the first row, and seconds."""
    names = ("switch", "seeds", "validation accuracy", "gained", "AUROC", "gained", "training, s", "CPU, s")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"
    return head + "".join(
        f"| {row['switch']} | {len(row['seeds'])} | {_number(row['accuracy'])} | {_gained(row, 'accuracy')} | "
        f"{_number(row['auroc'])} | {_gained(row, 'auroc')} | {row['seconds']:.0f} | {_whole(row['cpu_seconds'])} |\n"
        for row in rows
    )


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _gained(row: dict[str, Any], measure: str) -> str:
    interval = row[f"{measure}_interval"]
    beside = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return _number(row[f"{measure}_gained"], "+") + beside
