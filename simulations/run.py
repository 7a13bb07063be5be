"""Running one experiment from configuration to report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.config import FIRST_DERIVATION
from fl_server.manifest import read_manifest as read_whole
from fl_server.summary import read_summary
from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, FormatError, MedVeilError
from medveil.files import locked, make_folder, storage_error
from medveil.log import logger
from simulations.config import ExperimentConfig, Plan, make_plan
from simulations.examples import write_examples
from simulations.left_out import LeftOut, read_left_out
from simulations.progress import RunProgress
from simulations.report.page import write_report
from simulations.statistics import add_intervals

_log = logger("run")
MANIFEST = "manifest.json"
_LOCK = ".run"
_DRAWN = {"phantoms", "phantoms.lock", f"{_LOCK}.lock"}
_DRAWING = ".phantoms."
"""What a run that was refused or killed before it began may leave in its folder."""


@dataclass(frozen=True)
class Finished:
    """A run that came to its end.

    Attributes
    ----------
    folder, report : Path
        The run folder and the page in it.
    summary : dict
        What ``summary.json`` holds.
    left_out : list of LeftOut
        Files that could not be read, each with the reason.
    partial : bool
        Whether a site was left out of a round or of the evaluation.
    """

    folder: Path
    summary: dict[str, Any]
    report: Path
    left_out: list[LeftOut]
    partial: bool


def run_experiment(config: ExperimentConfig, out: Path, *, replace: bool = False, progress: bool = True) -> Finished:
    """Run an experiment and leave a run folder.

    Parameters
    ----------
    config
        The experiment.
    out
        The run folder: new or empty, unless `replace`.
    replace
        Remove an earlier run at `out` first. Nothing but a run folder is ever removed.

    Raises
    ------
    MedVeilError
        The experiment cannot be run, or did not finish.
    """
    make_folder(out)
    with locked(out / _LOCK, wait=False):
        _claim(out, replace=replace)
        plan = make_plan(config, out)
        return _carried_out(plan, resume=False, progress=progress)


def resume_experiment(out: Path, *, progress: bool = True) -> Finished:
    """Go on with an interrupted run from its newest good checkpoint.

    Raises
    ------
    ConfigError
        `out` holds no run.
    """
    manifest = read_manifest(out)
    if manifest.get("experiment") is None:
        raise ConfigError("was not made by medveil-sim", where=out, cure="resume it where it was started")
    with locked(out / _LOCK, wait=False):
        return _resumed(manifest, out, progress=progress)


def _resumed(manifest: dict[str, Any], out: Path, *, progress: bool) -> Finished:
    config = from_mapping(ExperimentConfig, manifest["experiment"], where=str(out / MANIFEST))
    plan = make_plan(config, out, run=manifest["run"])
    recorded = from_mapping(RunConfig, manifest["run_config"], where=str(out / MANIFEST))
    if recorded != plan.run:
        raise ConfigError("the data or this MedVeil changed since the run began", where=out, cure="start a new run")
    return _carried_out(plan, resume=True, progress=progress)


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises
    ------
    ConfigError
        There is none: `run` is not a run folder.
    """
    path = run / MANIFEST
    if not path.is_file():
        raise ConfigError("is not a run folder", where=run, cure=f"a run folder holds {MANIFEST}")
    document = read_whole(path)
    for section in ("experiment", "run_config"):
        # A run that names no derivation was made before there were two.
        if isinstance(document.get(section), dict) and isinstance(document[section].get("cipher"), dict):
            document[section]["cipher"].setdefault("derivation", FIRST_DERIVATION)
    return document


def _carried_out(plan: Plan, *, resume: bool, progress: bool) -> Finished:
    engine = _engine(plan.experiment.engine)
    try:
        if progress:
            with RunProgress(plan.out, rounds=plan.run.rounds, sites=plan.sites.sites):
                engine(plan, resume)
        else:
            engine(plan, resume)
    except (MedVeilError, KeyboardInterrupt):
        _report_what_there_is(plan.out)
        raise
    write_examples(plan)
    add_intervals(plan.out)
    report = write_report(plan.out)
    summary = read_summary(plan.out / "summary.json")
    partial = bool(read_manifest(plan.out).get("left_out"))
    return Finished(folder=plan.out, summary=summary, report=report, left_out=read_left_out(plan.out), partial=partial)


def _engine(name: str) -> Callable[[Plan, bool], None]:
    if name == "flower":
        from simulations.engines.flower import run_flower  # noqa: PLC0415 - Ray is an extra

        return lambda plan, resume: run_flower(plan, resume=resume)
    from simulations.engines.inprocess import run_inprocess  # noqa: PLC0415 - torch loads only where it is needed

    return lambda plan, resume: run_inprocess(plan, resume=resume)


def _report_what_there_is(out: Path) -> None:
    if not (out / MANIFEST).is_file():
        return
    try:
        write_report(out)
    except MedVeilError as error:
        # The error that stopped the run is the one to tell.
        _log.info("no report: %s", error)


def _claim(out: Path, *, replace: bool) -> None:
    if all(each.name in _DRAWN or each.name.startswith(_DRAWING) for each in out.iterdir()):
        return
    if not replace:
        raise ConfigError(
            "is not empty", where=out, cure="name another folder, or use --replace, or go on with --resume"
        )
    try:
        read_manifest(out)
    except FormatError as error:
        raise ConfigError("holds something that is not a run", where=out, cure="name another folder") from error
    _empty(out)


def _empty(out: Path) -> None:
    """Remove a run but for the lock this process holds, the manifest last: until then it still is a run."""
    kept = {f"{_LOCK}.lock": 2, MANIFEST: 1}
    for each in sorted(out.iterdir(), key=lambda path: kept.get(path.name, 0)):
        if each.name == f"{_LOCK}.lock":
            continue
        try:
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
        except OSError as error:
            raise storage_error(error, each, "remove the earlier run") from error
