"""All runs and measurements of a table: which there are, and carrying them out, by one process or by several.

Each leaves a file of its own as soon as it is done, and whoever works on one holds a lock of the kernel's. So processes
share the work without talking to each other, a killed one loses what it was at, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medveil.config import to_mapping
from medveil.errors import ConfigError, MedVeilError, StorageError
from medveil.files import locked, make_folder, read_json, write_json
from medveil.log import each_line_once
from simulations.attacks.situations.update_attack import UpdateAttack
from simulations.attacks.study.result import read_result
from simulations.attacks.tradeoff.leakage import Effort, Ground, measured_at, write_failure
from simulations.attacks.tradeoff.places import BASELINE, Place, View
from simulations.attacks.tradeoff.utility import FAILED, read_utility, run_at
from simulations.config import ExperimentConfig

RUNS, LEAKS, CLAIMS, RUNNING, SETTINGS = "runs", "leaks", "claims", "running", "settings.json"
FORMAT, VERSION = "medveil-tradeoff", 1


@dataclass(frozen=True)
class RunJob:
    """One run of the experiment at a place."""

    place: Place
    seed: int

    @property
    def name(self) -> str:
        """Of its claim."""
        return f"{RUNS}.{self.place.label}.{self.seed}"

    @property
    def text(self) -> str:
        """What it is, in words."""
        return f"run: {self.place.text}, seed {self.seed}"

    def path(self, folder: Path) -> Path:
        """Where its outcome lies."""
        return folder / RUNS / f"{self.place.label}.{self.seed}.json"

    def is_done(self, folder: Path) -> bool:
        """Whether there is an outcome; a run that failed is tried again."""
        path = self.path(folder)
        return path.is_file() and _reads(lambda: read_utility(path).state != FAILED)

    def carry_out(self, study: Study, folder: Path) -> str:
        """Run it; what it came to, in words."""
        make_folder(self.path(folder).parent)
        running = folder / RUNNING / str(os.getpid())
        made = run_at(study.experiment(self.place), self.place, seed=self.seed, running=running)
        made.write(self.path(folder))
        return made.reason or f"accuracy {made.accuracy:.3f}, {made.seconds:.0f} s"


@dataclass(frozen=True)
class LeakJob:
    """One attack at a place under a view."""

    place: Place
    view: View
    attack: UpdateAttack

    @property
    def name(self) -> str:
        """Of its claim."""
        return f"{LEAKS}.{self.view.name}.{self.place.label}.{self.attack.name}"

    @property
    def text(self) -> str:
        """What it is, in words."""
        return f"{self.attack.name}: {self.place.text}, {self.view.name}"

    def folder(self, folder: Path) -> Path:
        """Where its result lies, as ``NAME.json``."""
        return folder / LEAKS / self.view.name / self.place.label

    def path(self, folder: Path) -> Path:
        """Its result."""
        return self.folder(folder) / f"{self.attack.name}.json"

    def failure(self, folder: Path) -> Path:
        """Why it failed, where it did."""
        return self.folder(folder) / f"{self.attack.name}.failed"

    def is_done(self, folder: Path) -> bool:
        """Whether there is a result."""
        path = self.path(folder)
        return path.is_file() and _reads(lambda: bool(read_result(path).verdict))

    def carry_out(self, study: Study, folder: Path) -> str:
        """Measure it; what it came to, in words."""
        make_folder(self.folder(folder))
        try:
            made = measured_at(study.ground, self.place, self.view, self.attack, device=study.config.device)
        except MedVeilError as error:
            write_failure(self.failure(folder), error)
            return f"failed: {error}"
        made.write(self.folder(folder))
        self.failure(folder).unlink(missing_ok=True)
        return f"{made.verdict}{f' ({made.reason})' if made.reason else f', {made.seconds:.0f} s'}"


Job = RunJob | LeakJob


@dataclass(frozen=True)
class Study:
    """What is put into a table.

    Attributes
    ----------
    config : ExperimentConfig
        The experiment; its images have a path.
    places, views, attacks, seeds : sequence
        What is run and measured.
    effort : Effort
        Of a measurement.
    private : ExperimentConfig or None
        The experiment where a number is promised, which asks for other rates and batches; None: the same.
    """

    config: ExperimentConfig
    places: Sequence[Place]
    views: Sequence[View]
    attacks: Sequence[UpdateAttack]
    seeds: Sequence[int]
    effort: Effort
    private: ExperimentConfig | None = None

    @cached_property
    def ground(self) -> Ground:
        """The images of all measurements."""
        return Ground(self.config, self.effort, self.private)

    def experiment(self, place: Place) -> ExperimentConfig:
        """What is run at a place, before it is put there."""
        return place.chosen(self.config, self.private)

    def jobs(self) -> list[Job]:
        """Runs first, all places of a seed before the next; then attacks, the cheapest at all places first."""
        beside = [BASELINE, *(each.twin for each in self.places if each.twin is not None)]
        wanted = list(dict.fromkeys([*beside, *self.places]))
        runs = [RunJob(place, seed) for seed in self.seeds for place in wanted]
        leaks = [LeakJob(p, view, attack) for attack in self.attacks for view in self.views for p in self.places]
        return [*runs, *leaks]

    def settings(self) -> dict[str, Any]:
        """What everything in one table shares."""
        effort = {name: value for name, value in asdict(self.effort).items() if name != "seconds"}
        private = None if self.private is None else to_mapping(self.private)
        parts = {"experiment": to_mapping(self.config), "private": private, "effort": effort}
        made: dict[str, Any] = json.loads(json.dumps(parts))
        for each in (made["experiment"], made["private"] or {}):
            each.pop("compare", None)
        return made


def missing(study: Study, folder: Path) -> list[Job]:
    """What is not done yet."""
    return [job for job in study.jobs() if not job.is_done(folder)]


def work(study: Study, folder: Path, *, seconds: float | None, said: Callable[[str], None]) -> None:
    """Carry out what nobody else is at, one after another.

    Parameters
    ----------
    study
        What there is to do.
    folder
        Where it lies.
    seconds
        When nothing further is begun; None for never.
    said
        Hears of each.

    Raises
    ------
    MedVeilError
        The disk refuses, or the images cannot be opened.
    """
    with each_line_once():
        _work_through(study, folder, until=None if seconds is None else time.monotonic() + seconds, said=said)


def _work_through(study: Study, folder: Path, *, until: float | None, said: Callable[[str], None]) -> None:
    for job in study.jobs():
        if until is not None and time.monotonic() > until:
            return
        with _claimed(folder / CLAIMS / job.name) as is_mine:
            if is_mine and not job.is_done(folder):
                said(f"{job.text}: {job.carry_out(study, folder)}")


def refuse_other(study: Study, folder: Path, *, remember: bool = True) -> None:
    """Refuse a folder that holds another experiment, or measurements of another effort (ConfigError).

    Parameters
    ----------
    study
        What is to be done there.
    folder
        The folder.
    remember
        Whether one that holds none is to hold this one.
    """
    path, now = folder / SETTINGS, study.settings()
    if not path.is_file():
        if remember:
            write_json(path, {"format": FORMAT, "version": VERSION, **now})
        return
    before = read_json(path)
    for part, values in now.items():
        other = before.get(part)
        if other != values:
            mine, theirs = (each if isinstance(each, dict) else {} for each in (values, other))
            differs = [name for name in mine or theirs if mine.get(name) != theirs.get(name)]
            problem = f"holds a table of another {part}: '{differs[0] if differs else part}' differs"
            raise ConfigError(problem, where=folder, cure="repeat the settings, or name another folder")


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether this process has a thing to itself; never waits."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=False))
        except StorageError:
            yield False
            return
        yield True


def _reads(read: Callable[[], bool]) -> bool:
    try:
        return read()
    except MedVeilError:
        return False
