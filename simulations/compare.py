"""`medveil-sim compare`: arms of one experiment, run and put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from medveil import plain
from medveil.called import typed
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, MedVeilError, PartialError
from medveil.files import read_json
from simulations.arms import ARMS, Arm, as_experiment, chosen_arms
from simulations.config import ExperimentConfig, refuse_pixels
from simulations.folders import many
from simulations.frames import frame
from simulations.paired import carry_out
from simulations.plan import Plan
from simulations.report.comparison import ArmResult, write_comparison
from simulations.side_by_side import Job

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ARMS", "Comparison", "compare"]
_LOCK = ".compare"


@dataclass(frozen=True)
class Comparison:
    """What a comparison left behind."""

    folder: Path
    report: Path
    failed: tuple[str, ...]

    @property
    def table_json(self) -> Path:
        """The table as JSON."""
        return self.folder / "compare.json"

    @property
    def table_text(self) -> Path:
        """The table as Markdown."""
        return self.folder / "compare.md"

    @property
    def exit_code(self) -> int:
        """0, or 6 where some runs failed."""
        return EXIT_PARTIAL if self.failed else EXIT_OK

    def records(self) -> list[dict[str, Any]]:
        """A row an arm as plain data: its name, policy and seeds, and of each score mean and 95 % interval.

        Returns
        -------
        list of dict
            ``accuracy`` and so on are means over seeds; ``accuracy_low`` and ``accuracy_high`` bound them, None where
            there are too few images for an interval.
        """
        return [_flat(each) for each in read_json(self.table_json)["arms"]]

    def table(self) -> DataFrame:
        """`records` as a pandas DataFrame (ConfigError where pandas is not installed)."""
        return frame(self.records(), cure="take 'records()'")

    @typed
    def runs(self, arm: str) -> list[Path]:
        """The run folders of an arm, one a seed (ConfigError where there is no such arm)."""
        arms = read_json(self.table_json)["arms"]
        found = [each["runs"] for each in arms if each["name"] == arm]
        if not found:
            cure = f"one of {', '.join(each['name'] for each in arms)}"
            raise ConfigError(f"has no arm {arm[:80]!a}", where=self.folder, cure=cure)
        return [Path(each) for each in found[0]]


def _flat(arm: dict[str, Any]) -> dict[str, Any]:
    made = {"arm": arm["name"], "policy": arm["policy"], "seeds": len(arm["seeds"])}
    for name, score in arm["scores"].items():
        low, high = score["interval"] or (None, None)
        made |= {name: score["mean"], f"{name}_low": low, f"{name}_high": high}
    return {**made, "majority_rate": arm["majority_rate"], "seconds": arm["seconds"]}


def compare(
    config: ExperimentConfig,
    out: Path,
    *,
    results: Sequence[Path] = (),
    jobs: int = 1,
    command: str | None = None,
    console: Console | None = None,
) -> Comparison:
    """Run every arm under every seed, and write the comparison.

    Each run is a process of its own below ``out/ARM/seed-N``. A run finished earlier under the same settings is kept,
    and one that was cut off goes on from its newest checkpoint: an interrupted comparison goes on where it was.

    Parameters
    ----------
    config
        The experiment; its ``compare`` section names arms and seeds.
    out
        Folder of the comparison.
    results
        Files of results (`simulations.results`), whose finished runs are taken up first.
    jobs
        Runs side by side; with 2 or more set ``threads`` so that they do not fight over cores.
    command
        What was typed for it, for the documents it leaves.
    console
        Where it is told how it gets on; None is stderr.

    Raises
    ------
    BasisError
        A run that would be kept stands on other images, labels, groups, classes or weights than there are now.
    ConfigError
        There is no such arm, or nothing to compare; or a run to be taken up ran under other settings.
    PartialError
        No run finished.
    StorageError
        Another process compares into this folder; which one and since when.
    """
    refuse_pixels(config, "compare")
    arms = chosen_arms(config.compare)
    _refuse_minutes(config, arms)
    # Two at once would run the same arms, each removing what the other wrote.
    with many(out, _LOCK, jobs=jobs) as folder:
        return _compared(config, arms, folder, results=results, at_once=jobs, command=command, console=console)


def _compared(
    config: ExperimentConfig,
    arms: list[Arm],
    out: Path,
    *,
    results: Sequence[Path],
    at_once: int,
    command: str | None,
    console: Console | None,
) -> Comparison:
    planned = _planned(config, arms, out)
    _check_models(config, arms, out)
    console = console or plain.stderr_console()
    from simulations.standing import common  # noqa: PLC0415 - what reads images takes a while to import

    # Before anything runs it is looked whether all would be of one data set: a table is.
    failed = carry_out(planned, out, at_once=at_once, console=console, results=results, look=config)
    # What lies in the folder of a run that failed was made by other settings, or is not whole.
    rows = [_row(arm, [job for job in planned[arm.name] if job.name not in failed]) for arm in arms]
    rows = [row for row in rows if row.runs]
    if not rows:
        raise PartialError(f"none of {len(failed)} runs finished: {next(iter(failed.values()))}", where=out)
    basis = common([run for row in rows for run in row.runs])
    page = write_comparison(out, rows, basis=basis, command=command)
    for each in read_json(out / "compare.json")["near"]:
        plain.say(console, each)
    return Comparison(folder=out, report=page, failed=tuple(failed))


def planned(config: ExperimentConfig, out: Path) -> dict[str, list[Job]]:
    """The runs of a comparison below a folder, which is not made; what `compare` refuses before it runs is refused."""
    refuse_pixels(config, "compare")
    arms = chosen_arms(config.compare)
    _refuse_minutes(config, arms)
    found = _planned(config, arms, out)
    _check_models(config, arms, out)
    return found


def _planned(config: ExperimentConfig, arms: list[Arm], out: Path) -> dict[str, list[Job]]:
    if config.data.source == "phantoms" and config.data.path is None:
        config.data.path = str(out / "phantoms")
    return {
        arm.name: [
            Job(f"{arm.name} seed {seed}", as_experiment(config, arm, seed), out / arm.name / f"seed-{seed}")
            for seed in config.compare.seeds
        ]
        for arm in arms
    }


def _refuse_minutes(config: ExperimentConfig, arms: list[Arm]) -> None:
    """Refuse to hold arms equal that no clock lets be equal (ConfigError)."""
    names = {arm.name for arm in arms}
    pair = next((arm for arm in arms if arm.twin in names), None)
    if config.train.minutes and pair is not None:
        problem = f"'{pair.name}' equals '{pair.twin}' in theory, and no two runs by train.minutes are equal"
        raise ConfigError(problem, where="train.minutes", cure="train.epochs, or leave one of the arms out")


def _check_models(config: ExperimentConfig, arms: list[Arm], out: Path) -> None:
    """Refuse weights, or a scope that the model has nothing for, before anything is run (ConfigError, FormatError)."""
    from simulations.run import check_model, check_weights  # noqa: PLC0415 - torch loads here

    named = config.model.pretrained.strip().lower() not in {"true", "false"}
    own = [arm for arm in arms if not arm.is_baseline]
    if not own or not (named or config.compare.scopes):
        return
    # The model and its weights are the same in every arm; so are the images, which are looked at once.
    plan = _first_plan(config, own, out)
    check_weights(plan.run)
    for scope in config.compare.scopes:
        plan.experiment.train.scope = scope
        plan.experiment.train.check()
        check_model(plan)


def _first_plan(config: ExperimentConfig, arms: list[Arm], out: Path) -> Plan:
    """The plan of the first arm that can be run; where none can, the error of the first."""
    from simulations.plan import make_plan  # noqa: PLC0415 - what reads images takes a while to import

    refused: list[MedVeilError] = []
    for arm in arms:
        try:
            return make_plan(as_experiment(config, arm, config.compare.seeds[0]), out / arm.name)
        except MedVeilError as error:
            refused.append(error)
    raise refused[0]


def _row(arm: Arm, jobs: list[Job]) -> ArmResult:
    runs = [job.folder for job in jobs]
    return ArmResult(
        name=arm.name, policy=arm.text, twin=arm.twin, runs=runs, baseline=arm.is_baseline, whole=_whole(arm)
    )


def _whole(arm: Arm) -> str | None:
    """The arm that trains all where this one trains less."""
    return None if arm.scope in (None, "full") else f"{arm.name.removesuffix(str(arm.scope))}full"
