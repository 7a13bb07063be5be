"""A study of bad hospitals: the runs it takes, one after another, resumable, within a budget of time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medveil.config import to_mapping
from medveil.errors import ConfigError, MedVeilError
from medveil.files import make_folder, read_json, write_json
from simulations.attacks.poisoning.attacks import Poisoning
from simulations.attacks.poisoning.rules import Rule
from simulations.attacks.poisoning.table import Cell, cells, not_applicable, twin_bad
from simulations.attacks.poisoning.trial import HONEST, Trial, file_name, read_trial, tried
from simulations.config import ExperimentConfig

RUNS, SETTINGS, RESULTS = "runs", "settings.json", "poisoning.json"
FORMAT, VERSION = "medveil-poisoning", 1


@dataclass(frozen=True)
class Job:
    """One run that a study takes."""

    attack: Poisoning | None
    rule: Rule
    bad: int
    seed: int

    @property
    def file(self) -> str:
        """What its trial is called."""
        return file_name(HONEST if self.attack is None else self.attack.name, self.rule.name, self.bad, self.seed)

    @property
    def text(self) -> str:
        """What it is, in words."""
        who = "all honest" if self.attack is None else f"{self.attack.name} by {self.bad}"
        return f"{who}, {self.rule.name}, seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """What is tried.

    Attributes
    ----------
    config : ExperimentConfig
        The experiment, good sites alone.
    attacks, rules : sequence
        What bad sites do, and what stands against them.
    bad, seeds : sequence of int
        Numbers of bad sites, and seeds.
    """

    config: ExperimentConfig
    attacks: Sequence[Poisoning]
    rules: Sequence[Rule]
    bad: Sequence[int]
    seeds: Sequence[int]

    def check(self) -> None:
        """Refuse what cannot be poisoned here (ConfigError)."""
        for number in self.bad:
            if not 1 <= number < self.config.sites:
                cure = f"at least 1, and fewer than the {self.config.sites} sites of the run"
                raise ConfigError(f"{number} bad sites", where="--bad", cure=cure)
        for field, wanted, is_ in (
            ("federation", "federated", self.config.federation),
            ("engine", "inprocess", self.config.engine),
            ("task", "single-label", self.config.task),
            ("privacy.unit", "none", "none" if not self.config.privacy.on else self.config.privacy.unit),
        ):
            if is_ != wanted:
                raise ConfigError(f"is {is_}, which is not poisoned here", where=field, cure=wanted)

    def jobs(self) -> Iterator[Job]:
        """Every run it takes: a whole table of one seed before the next one's, honest twins before what they judge."""
        seen = set()
        for job in self._jobs():
            if job.file not in seen:
                seen.add(job.file)
                yield job

    def _jobs(self) -> Iterator[Job]:
        for seed in self.seeds:
            for bad in self.bad:
                for rule in self.rules:
                    wanted = [each for each in self.attacks if not not_applicable(each, rule, self.config, bad)]
                    if wanted:
                        yield Job(None, rule, twin_bad(rule, self.config, bad), seed)
                    yield from (Job(each, rule, bad, seed) for each in wanted)


def carried_out(
    study: Study, folder: Path, *, seconds: float | None, said: Callable[[str], None]
) -> tuple[list[Cell], int]:
    """Run what is missing, and put everything into a table.

    Parameters
    ----------
    study
        What is tried.
    folder
        Where it lies; what an earlier study of the same experiment left there is taken as it is.
    seconds
        When no further run is begun; None for never.
    said
        Hears of each run.

    Returns
    -------
    tuple
        The table, and how many runs are missing.

    Raises
    ------
    ConfigError
        The folder is of another experiment.
    MedVeilError
        As `tried`.
    """
    study.check()
    runs = folder / RUNS
    make_folder(runs)
    _refuse_other(study.config, folder)
    began, jobs = time.monotonic(), list(study.jobs())
    missing = [job for job in jobs if _read(runs / job.file) is None]
    for at, job in enumerate(missing):
        if seconds is not None and time.monotonic() - began > seconds:
            break
        trial = tried(study.config, job.attack, job.rule, bad=job.bad, seed=job.seed, folder=folder)
        trial.write(runs)
        took = trial.ended or f"{trial.seconds:.1f} s"
        said(f"{len(jobs) - len(missing) + at + 1} of {len(jobs)}: {job.text}: {took}")
    found = [each for job in jobs if (each := _read(runs / job.file)) is not None]
    made = cells(study.config, found, bad=study.bad)
    chosen = {each.name for each in study.attacks}, {each.name for each in study.rules}
    made = [cell for cell in made if cell.attack in chosen[0] and cell.rule in chosen[1]]
    return made, len(jobs) - len(found)


def _read(path: Path) -> Trial | None:
    """A trial that is there and whole; what is not is run anew."""
    if not path.is_file():
        return None
    try:
        return read_trial(path)
    except MedVeilError:
        return None


def _refuse_other(config: ExperimentConfig, folder: Path) -> None:
    now: dict[str, Any] = json.loads(json.dumps(to_mapping(config)))
    path = folder / SETTINGS
    if not path.is_file():
        write_json(path, {"format": FORMAT, "version": VERSION, "experiment": now})
        return
    before = read_json(path).get("experiment")
    if before != now:
        differs = [name for name in now if not isinstance(before, dict) or before.get(name) != now[name]]
        problem = f"holds runs of another experiment: '{differs[0] if differs else 'name'}' differs"
        raise ConfigError(problem, where=folder, cure="name another --out")
