"""Several runs of a folder, each a process of its own: kept if they finished, gone on with if they were cut off.

Beside the folder of each run lies a file of its settings. It is written once nothing of a run under other settings is
left in the folder, so whatever is there was made by these settings, wherever a command was killed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fl_server.manifest import read_manifest
from medveil import plain
from medveil.config import load_config, to_mapping
from medveil.errors import EXIT_OK, BasisError, ConfigError, MedVeilError
from medveil.files import make_folder, write_text
from medveil.tied import end_all, run_tied
from medveil.yaml_core import written_yaml
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, empty, held
from simulations.progress import RunsProgress

if TYPE_CHECKING:
    from simulations.standing import Comparable

ENDED = {"finished", "stopped-early"}
_PAGE = "report.html"


@dataclass(frozen=True)
class Job:
    """One run: what it is called, what it is and where it lies.

    Attributes
    ----------
    paged
        Whether it has finished only once its page is written.
    """

    name: str
    experiment: ExperimentConfig
    folder: Path
    paged: bool = True

    @property
    def settings(self) -> Path:
        """The file of its settings."""
        return self.folder.with_suffix(".yaml")

    @property
    def has_finished(self) -> bool:
        """Whether a run lies there that came to its end, under whatever settings."""
        return _status(self.folder) in ENDED and ((self.folder / _PAGE).is_file() or not self.paged)

    @property
    def is_kept(self) -> bool:
        """Whether it finished under these settings."""
        return self.has_finished and _was_run_as(self)


class Way(Enum):
    """What is done about a run."""

    KEPT = "kept"
    GOES_ON = "goes on"
    BEGINS = "begins"


def ways_of(jobs: Sequence[Job], comparable: Comparable) -> tuple[dict[str, Way], list[str]]:
    """What is to be done about each run, by its name, and what is to be told of it.

    Raises
    ------
    BasisError
        A run that finished under these settings stands on other images, labels, groups, classes or weights than there
        are now.
    MedVeilError
        The images cannot be read now.
    """
    ways, told = {}, []
    for job in jobs:
        ways[job.name] = _way(job)
        if ways[job.name] is Way.BEGINS:
            continue
        try:
            unknown = comparable.check(job.folder, job.experiment)
        except BasisError as error:
            if ways[job.name] is Way.KEPT:
                raise
            ways[job.name], unknown = Way.BEGINS, f"begins anew: {error.problem}"
        if unknown:
            told.append(f"{job.name}: {unknown}")
    return ways, told


def run_all(
    jobs: Sequence[Job],
    ways: dict[str, Way],
    *,
    at_once: int,
    console: Console,
    shared: Path | None = None,
    after: Callable[[Job], None] | None = None,
) -> dict[str, str]:
    """Run what is to be run.

    Parameters
    ----------
    jobs, ways
        The runs, and `ways_of` them.
    at_once
        How many side by side.
    console
        Where it is told how they get on.
    shared
        A folder that keeps what is known of the images of all.
    after
        Called in this thread with each run that finished, or was kept.

    Returns
    -------
    dict
        Why runs failed, by their names.
    """
    if at_once > 1 and any(not job.experiment.threads for job in jobs):
        plain.say(console, f"{at_once} runs side by side with threads=0 take all cores each; threads=1 is one")
    rounds = max((job.experiment.rounds for job in jobs), default=1)
    progress = RunsProgress(len(jobs), rounds=rounds, console=console)
    failed: dict[str, str] = {}
    runner = _Runner(progress, shared, threading.Event())
    with progress, ThreadPoolExecutor(max_workers=max(1, at_once)) as pool:
        running: dict[Future[str | None], Job] = {pool.submit(runner.run, job, ways[job.name]): job for job in jobs}
        try:
            for each in as_completed(running):
                error, job = each.result(), running[each]
                if error is not None:
                    failed[job.name] = error
                elif after is not None:
                    after(job)
        except BaseException:
            runner.ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            end_all(list(running))
            raise
    return {job.name: failed[job.name] for job in jobs if job.name in failed}


def _way(job: Job) -> Way:
    if job.is_kept:
        return Way.KEPT
    if not _was_run_as(job):
        return Way.BEGINS
    # One that ended without its page has it written.
    begun = _status(job.folder) in ENDED or any((job.folder / "checkpoints").glob("*"))
    return Way.GOES_ON if begun and (job.folder / MANIFEST).is_file() else Way.BEGINS


@dataclass(frozen=True)
class _Runner:
    """What carries one run out."""

    progress: RunsProgress
    shared: Path | None
    ending: threading.Event
    """Set where the command itself is ended: what ends with it did not fail."""

    def run(self, job: Job, way: Way) -> str | None:
        """Why it failed; None where it did not."""
        self._say(job, way.value)
        if way is Way.KEPT:
            self.progress.kept()
            return None
        with self.progress.running(job.name, job.folder):
            error = self._carried_out(job, way)
        if error is not None and not self.ending.is_set():
            self._say(job, f"failed: {error}")
        return error

    def _carried_out(self, job: Job, way: Way) -> str | None:
        if way is Way.GOES_ON:
            code, error = self._started(["--resume", str(job.folder)])
            if code != ConfigError.exit_code:
                return error
            # A run that this MedVeil cannot go on with is of no use to anyone.
            self._say(job, f"begins anew: {error}")
        try:
            _make_way(job)
        except MedVeilError as refused:
            return str(refused)
        return self._started([str(job.settings), "--out", str(job.folder), "--replace"])[1]

    def _started(self, words: Sequence[str]) -> tuple[int, str | None]:
        """The exit code of a run, and why it failed."""
        program = str(Path(sys.executable).parent / "medveil-sim")
        known = [] if self.shared is None else ["--shared", str(self.shared)]
        command = [program, "run", *words, *known]
        done = run_tied(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == EXIT_OK:
            plain.say(self.progress.console, done.stdout.splitlines()[0])
            return done.returncode, None
        said: list[str] = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        error = next((line for line in said if line.startswith("error: ")), said[-1]).removeprefix("error: ")
        return done.returncode, error

    def _say(self, job: Job, told: str) -> None:
        plain.say(self.progress.console, f"{job.name}: {told}")


def _make_way(job: Job) -> None:
    """Leave the file of its settings beside a folder that holds nothing made by others."""
    make_folder(job.folder.parent)
    if (job.folder / MANIFEST).is_file() and not _was_run_as(job):
        # Refused settings cost nobody the run that lies there.
        _check(job)
        with held(job.folder):
            empty(job.folder, but_phantoms=False)
    write_text(job.settings, written_yaml(to_mapping(job.experiment), flow=False))


def _check(job: Job) -> None:
    from simulations.plan import make_plan  # noqa: PLC0415
    from simulations.run import check_model  # noqa: PLC0415 - torch loads here

    check_model(make_plan(job.experiment, job.folder))


def _was_run_as(job: Job) -> bool:
    """Whether its file holds these settings, whatever else it was compared with."""
    try:
        earlier = load_config(ExperimentConfig, job.settings)
    except MedVeilError:
        return False
    earlier.compare = job.experiment.compare
    return earlier == job.experiment


def _status(folder: Path) -> str:
    manifest = folder / MANIFEST
    return str(read_manifest(manifest).get("status")) if manifest.is_file() else ""
