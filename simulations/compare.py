"""`medveil-sim compare`: arms of one experiment, run and put side by side."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fl_server.manifest import read_manifest
from medveil import plain
from medveil.claims import claimed
from medveil.config import load_config, to_mapping
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, MedVeilError, PartialError
from medveil.files import make_folder, read_json, write_text
from medveil.tied import end_all, run_tied
from medveil.yaml_core import written_yaml
from simulations.arms import ARMS, Arm, as_experiment, find_arm
from simulations.config import ExperimentConfig, refuse_pixels
from simulations.folders import LEFT_S
from simulations.progress import RunsProgress
from simulations.report.comparison import ArmResult, write_comparison

__all__ = ["ARMS", "Comparison", "compare"]
_LOCK = ".compare"
_FINISHED = {"finished", "stopped-early"}


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


@dataclass(frozen=True)
class _Job:
    arm: Arm
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.arm.name} seed {self.seed}"

    @property
    def settings(self) -> Path:
        return self.folder.with_suffix(".yaml")


def compare(config: ExperimentConfig, out: Path, *, jobs: int = 1) -> Comparison:
    """Run every arm under every seed, and write the comparison.

    Each run is a process of its own below ``out/ARM/seed-N``. A run finished earlier under the same settings is kept,
    so an interrupted comparison goes on where it was.

    Parameters
    ----------
    config
        The experiment; its ``compare`` section names arms and seeds.
    out
        Folder of the comparison.
    jobs
        Runs side by side; with 2 or more set ``threads`` so that they do not fight over cores.

    Raises
    ------
    BasisError
        A run that would be kept stands on other images, labels, groups, classes or weights than there are now.
    ConfigError
        There is no such arm, or nothing to compare.
    PartialError
        No run finished.
    StorageError
        Another process compares into this folder; which one and since when.
    """
    refuse_pixels(config, "compare")
    arms = [find_arm(name) for name in config.compare.arms]
    if not arms or not config.compare.seeds:
        raise ConfigError("names no arms or no seeds", where="compare", cure="see 'medveil-sim compare --list'")
    _refuse_minutes(config, arms)
    out = make_folder(out).resolve()
    # Two at once would run the same arms, each removing what the other wrote.
    with claimed(out / _LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another folder"):
        return _compared(config, arms, out, jobs=jobs)


def _compared(config: ExperimentConfig, arms: list[Arm], out: Path, *, jobs: int) -> Comparison:
    if config.data.source == "phantoms" and config.data.path is None:
        config.data.path = str(out / "phantoms")
    planned = [_Job(arm, seed, out / arm.name / f"seed-{seed}") for seed in config.compare.seeds for arm in arms]
    console = plain.stderr_console()
    # Before anything runs: a table is of one data set.
    for told in _refuse_other(config, planned):
        plain.say(console, told)
    progress = RunsProgress(len(planned), rounds=config.rounds, console=console)
    with progress, ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        running: list[Future[str | None]] = [pool.submit(_run, config, job, progress) for job in planned]
        try:
            errors = [each.result() for each in running]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all(running)
            raise
    failed = tuple(job.name for job, error in zip(planned, errors, strict=True) if error is not None)
    rows = [_row(arm, planned) for arm in arms]
    rows = [row for row in rows if row.runs]
    if not rows:
        raise PartialError(f"none of {len(planned)} runs finished: {errors[0]}", where=out)
    from simulations.standing import common  # noqa: PLC0415

    basis = common([run for row in rows for run in row.runs])
    page = write_comparison(out, rows, basis=basis)
    for told in read_json(out / "compare.json")["near"]:
        plain.say(console, told)
    return Comparison(folder=out, report=page, failed=failed)


def _refuse_minutes(config: ExperimentConfig, arms: list[Arm]) -> None:
    """Refuse to hold arms equal that no clock lets be equal (ConfigError)."""
    names = {arm.name for arm in arms}
    pair = next((arm for arm in arms if arm.twin in names), None)
    if config.train.minutes and pair is not None:
        problem = f"'{pair.name}' equals '{pair.twin}' in theory, and no two runs by train.minutes are equal"
        raise ConfigError(problem, where="train.minutes", cure="train.epochs, or leave one of the arms out")


def _refuse_other(config: ExperimentConfig, planned: list[_Job]) -> list[str]:
    """Refuse to keep a run over other data or weights than those of now (BasisError); says what cannot be compared."""
    from simulations.standing import Comparable  # noqa: PLC0415 - what reads images takes a while to import

    comparable, told = Comparable(), []
    for job in planned:
        experiment = as_experiment(config, job.arm, job.seed)
        if not _is_kept(experiment, job):
            continue
        unknown = comparable.check(job.folder, experiment)
        if unknown:
            told.append(f"{job.name}: {unknown}")
    return told


def _is_kept(experiment: ExperimentConfig, job: _Job) -> bool:
    return _is_finished(job.folder) and _was_run_as(experiment, job.settings)


def _run(config: ExperimentConfig, job: _Job, progress: RunsProgress) -> str | None:
    console, experiment = progress.console, as_experiment(config, job.arm, job.seed)
    if _is_kept(experiment, job):
        plain.say(console, f"{job.name}: kept")
        progress.kept()
        return None
    make_folder(job.folder.parent)
    write_text(job.settings, written_yaml(to_mapping(experiment), flow=False))
    plain.say(console, f"{job.name}: begins")
    program = str(Path(sys.executable).parent / "medveil-sim")
    command = [program, "run", str(job.settings), "--out", str(job.folder), "--replace"]
    with progress.running(job.name, job.folder):
        done = run_tied(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == EXIT_OK:
        plain.say(console, done.stdout.splitlines()[0])
        return None
    said: list[str] = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    error = next((line for line in said if line.startswith("error: ")), said[-1]).removeprefix("error: ")
    plain.say(console, f"{job.name}: failed: {error}")
    return error


def _was_run_as(experiment: ExperimentConfig, settings: Path) -> bool:
    """Whether a file holds these settings, whatever else it was compared with."""
    try:
        earlier = load_config(ExperimentConfig, settings)
    except MedVeilError:
        return False
    earlier.compare = experiment.compare
    return earlier == experiment


def _is_finished(folder: Path) -> bool:
    manifest = folder / "manifest.json"
    if not manifest.is_file() or not (folder / "report.html").is_file():
        return False
    return read_manifest(manifest).get("status") in _FINISHED


def _row(arm: Arm, planned: list[_Job]) -> ArmResult:
    runs = [job.folder for job in planned if job.arm is arm and _is_finished(job.folder)]
    return ArmResult(name=arm.name, policy=arm.text, twin=arm.twin, runs=runs, baseline=arm.is_baseline)
