"""What of a table would be run and measured, and about what that takes; nothing of it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from medveil.errors import ConfigError, PolicyError
from medveil.plain import tell
from simulations.attacks.tradeoff.leakage import Ground
from simulations.attacks.tradeoff.study import LeakJob, RunJob, Study, refuse_other
from simulations.config import ExperimentConfig
from simulations.dry_run import scratch, tell_estimate
from simulations.plan import make_plan
from simulations.run import check_model

_MOST_NAMED = 40


class Planned(NamedTuple):
    """What is left of a table.

    Attributes
    ----------
    runs
        Runs of the experiment, by name, as they would be carried out.
    refused
        Why MedVeil runs nothing of the kind at other places, by name.
    measured
        How many measurements of each attack are left, where it applies.
    not_applicable
        How many more are left that end in the reason why they do not.
    kept
        Runs and measurements that are done, by name.
    """

    runs: dict[str, ExperimentConfig]
    refused: dict[str, str]
    measured: dict[str, int]
    not_applicable: int
    kept: list[str]


def planned(study: Study, folder: Path, *, looked: Study, own: Path) -> Planned:
    """Look at everything that is not done as it would be carried out.

    Parameters
    ----------
    study, folder
        What is put into the table, and where that lies, or would.
    looked, own
        The same as it would lie in a folder for nothing else: images that have to be drawn are drawn there.

    Raises
    ------
    MedVeilError
        The folder holds another table, or the images cannot be opened.
    """
    if folder.exists():
        refuse_other(study, folder, remember=False)
    runs: dict[str, ExperimentConfig] = {}
    refused: dict[str, str] = {}
    applied: Counter[str] = Counter()
    kept: list[str] = []
    other = 0
    for job in study.jobs():
        if job.is_done(folder):
            kept.append(job.text)
        elif isinstance(job, RunJob):
            name = f"{job.place.text}, seed {job.seed}"
            try:
                runs[name] = _checked(job, looked.experiment(job.place), own / job.name)
            except (ConfigError, PolicyError) as error:
                refused[name] = str(error)
        elif _applies(job, looked.ground):
            applied[job.attack.name] += 1
        else:
            other += 1
    return Planned(runs, refused, dict(applied), other, kept)


def tell_planned_table(
    study_in: Callable[[Path], Study], folder: Path, *, minutes: float, jobs: int, aside: bool
) -> dict[str, Any]:
    """Say what of a table is left, and about what it takes.

    Parameters
    ----------
    study_in
        Makes what is put into the table of a folder.
    folder
        Where it lies, or would.
    minutes
        When nothing further is begun.
    jobs
        Processes side by side.
    aside
        Whether to say it on stderr, beside a result that is JSON.

    Returns
    -------
    dict
        The same as plain data.
    """
    from simulations.report.words import seconds  # noqa: PLC0415

    study = study_in(folder)
    with scratch() as own:
        found = planned(study, folder, looked=study_in(own), own=own)
        tell(
            f"would run {len(found.runs)} runs; {len(found.kept)} runs and measurements are kept from {folder}",
            error=aside,
        )
        for name, why in list(found.refused.items())[:_MOST_NAMED]:
            tell(f"  {name}: refused: {why}", error=aside)
        if len(found.refused) > _MOST_NAMED:
            tell(f"  and {len(found.refused) - _MOST_NAMED} more that are refused", error=aside)
        told = tell_estimate(list(found.runs.items()), own, jobs=jobs, aside=aside)
    many = sum(found.measured.values())
    tell(f"would measure {many} times, and {found.not_applicable} times why an attack does not apply", error=aside)
    for name, often in found.measured.items():
        tell(f"  {name}: {often}", error=aside)
    each = study.effort.seconds
    lines = [
        f"a measurement begins no further key after {seconds(each)}: if all of them need so much, "
        f"{seconds(each * many / jobs)}, and what a last key takes longer",
        f"nothing is begun after {seconds(60 * minutes)}; the same command goes on",
    ]
    for line in lines:
        tell(line, error=aside)
    return {
        **told,
        "kept": found.kept,
        "left_out": [],
        "refused": found.refused,
        "measurements": found.measured,
        "not_applicable": found.not_applicable,
    }


def _checked(job: RunJob, config: ExperimentConfig, running: Path) -> ExperimentConfig:
    made = job.place.applied(config)
    made.seed = job.seed
    check_model(make_plan(made, running))
    return made


def _applies(job: LeakJob, ground: Ground) -> bool:
    return job.attack.refusal(ground.setting(job.place, job.view)) is None
