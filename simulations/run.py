"""Running one experiment from configuration to report.

What takes long to import comes in where it is needed: an experiment that cannot be run is refused before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medveil.config import from_mapping, to_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, MedVeilError
from medveil.log import logger
from medveil.paths import weights_file
from medveil.plain import working
from medveil.predicting import PredictConfig
from medveil.training import TrainConfig
from simulations.baselines.names import BASELINES, DETERMINISTIC
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, begun, held, read_manifest, refuse_taken
from simulations.heard import Heard, RunHeard
from simulations.left_out import LeftOut, read_left_out
from simulations.plan import Plan, make_plan
from simulations.progress import RunProgress

__all__ = ["MANIFEST", "Finished", "read_manifest", "resume_experiment", "run_experiment"]
_log = logger("run")


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


Report = Callable[[Path], Path]
"""Writes the page of a run folder."""


def _plain_report(run: Path) -> Path:
    from simulations.report.page import write_report  # noqa: PLC0415

    return write_report(run)


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    *,
    replace: bool = False,
    progress: bool | Heard = True,
    report: Report = _plain_report,
    shared: Path | None = None,
) -> Finished:
    """Run an experiment and leave a run folder.

    Parameters
    ----------
    config
        The experiment.
    out
        The run folder: new or empty, unless `replace`.
    replace
        Remove an earlier run at `out` first. Nothing but a run folder is ever removed.
    progress
        Whether a terminal is told how it gets on; or who hears its measures instead, as they come.
    report
        Writes its page.
    shared
        A folder that several runs over these images share.

    Raises
    ------
    MedVeilError
        The experiment cannot be run, or did not finish.
    """
    from simulations.standing import begins  # noqa: PLC0415

    with begun(out, replace=replace) as folder:
        with working("looking at the images and the model") if progress is True else nullcontext():
            plan = make_plan(config, out, shared=shared)
            check_model(plan)
        if replace:
            # Phantoms were drawn anew just now, or found to be the ones that are wanted.
            folder.replace(but_phantoms=plan.experiment.data.source == "phantoms")
        return _carried_out(begins(plan), resume=False, progress=progress, report=report)


def resume_experiment(
    out: Path,
    *,
    rounds: int | None = None,
    progress: bool | Heard = True,
    report: Report = _plain_report,
    shared: Path | None = None,
) -> Finished:
    """Go on with a run from its newest good checkpoint.

    Parameters
    ----------
    out
        The run folder.
    rounds
        Rounds that the run is to have in all, if more than it had; it may have ended then. Learning rates follow a
        schedule over all rounds: those that were made stay as they were scheduled.
    progress
        As for `run_experiment`.
    report
        Writes its page: with the attacks on it, where they are to stay there.
    shared
        As for `run_experiment`.

    Raises
    ------
    ConfigError
        `out` holds no run, or one of more rounds.
    """
    manifest = read_manifest(out)
    if manifest.get("experiment") is None:
        raise ConfigError("was not made by medveil-sim", where=out, cure="resume it where it was started")
    with held(out):
        return _resumed(manifest, out, rounds=rounds, progress=progress, report=report, shared=shared)


def _resumed(
    manifest: dict[str, Any],
    out: Path,
    *,
    rounds: int | None,
    progress: bool | Heard,
    report: Report,
    shared: Path | None,
) -> Finished:
    from simulations.standing import goes_on  # noqa: PLC0415

    config = from_mapping(ExperimentConfig, manifest["experiment"], where=str(out / MANIFEST))
    if rounds is not None:
        if rounds < config.rounds:
            cure = f"{config.rounds} or more; a new run can have fewer"
            raise ConfigError(f"'rounds' is {rounds}, and the run has {config.rounds}", where=out, cure=cure)
        if config.federation in DETERMINISTIC:
            raise ConfigError(f"is a baseline {config.federation}, which has no rounds", where=out)
        refuse_taken(out)
        config = replace(config, rounds=rounds)
    plan = goes_on(make_plan(config, out, run=manifest["run"], shared=shared), manifest)
    recorded = _recorded(manifest, where=str(out / MANIFEST))
    if replace(recorded, rounds=recorded.rounds if rounds is None else rounds) != plan.run:
        raise ConfigError("the data or this MedVeil changed since the run began", where=out, cure="start a new run")
    return _carried_out(plan, resume=True, progress=progress, report=report)


def _recorded(manifest: dict[str, Any], *, where: str) -> RunConfig:
    """The run as its manifest has it; settings that this MedVeil added are what a run before them did."""
    from models.config import ModelConfig  # noqa: PLC0415

    run = from_mapping(RunConfig, manifest["run_config"], where=where)
    run.train = to_mapping(from_mapping(TrainConfig, run.train, where=where))
    run.model = to_mapping(from_mapping(ModelConfig, run.model, where=where))
    run.predict = to_mapping(from_mapping(PredictConfig, run.predict, where=where))
    return run


def check_model(plan: Plan) -> None:
    """Refuse here, before an earlier run is removed and images are hidden, what no server could build (ConfigError)."""
    if plan.run.counted is not None:
        return
    if plan.experiment.federation in BASELINES:
        from simulations.baselines.limits import check_baseline  # noqa: PLC0415

        check_baseline(plan)
        return
    from models.autoencoder import outline  # noqa: PLC0415 - torch and timm load here
    from models.config import ModelConfig  # noqa: PLC0415
    from models.light import lighten  # noqa: PLC0415
    from models.policy import Policy  # noqa: PLC0415
    from models.trains import check_training  # noqa: PLC0415

    run, train = plan.run, plan.experiment.train
    model = outline(from_mapping(ModelConfig, run.model, where="model"), run.masked)
    lighten(model, train.scope, train.rank, seed=run.seed)
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    check_training(model, policy, train, masked=run.masked)
    check_weights(run)


def check_weights(run: RunConfig) -> None:
    """Read the weights a run begins with, where they are a file: what cannot be is refused by what is wrong with it."""
    from models.autoencoder import build_model  # noqa: PLC0415

    named = str(run.model["pretrained"]).strip()
    if named.lower() not in {"true", "false"}:
        build_model(replace(run, model={**run.model, "pretrained": weights_file(named)}))


def _carried_out(plan: Plan, *, resume: bool, progress: bool | Heard, report: Report) -> Finished:
    from simulations.made import commit, note_commit  # noqa: PLC0415
    from simulations.near import note_near, tell_near  # noqa: PLC0415

    if plan.run.counted is not None:
        return _counted(plan, resume=resume)

    # Now: hours later the checkout may be another.
    made_by = commit()
    engine = _engine(plan.experiment)
    near = tell_near(plan, aloud=progress is True)
    try:
        with _followed(plan, progress) as follower:
            engine(plan, resume)
    except (MedVeilError, KeyboardInterrupt):
        with working("writing the report of what there is") if progress is True else nullcontext():
            _report_what_there_is(plan.out, report)
        raise
    from fl_server.summary import read_summary  # noqa: PLC0415
    from simulations.examples import write_examples  # noqa: PLC0415
    from simulations.loaded import unmeant  # noqa: PLC0415
    from simulations.looked import write_looked  # noqa: PLC0415
    from simulations.standing import note_split  # noqa: PLC0415
    from simulations.statistics import add_intervals  # noqa: PLC0415

    note_split(plan.out)
    note_commit(plan.out, made_by)
    write_examples(plan)
    write_looked(plan)
    add_intervals(plan.out)
    note_near(plan.out, near)
    page = report(plan.out)
    if isinstance(follower, RunHeard):
        follower.check()
    summary = read_summary(plan.out / "summary.json")
    partial = unmeant(read_manifest(plan.out))
    return Finished(folder=plan.out, summary=summary, report=page, left_out=read_left_out(plan.out), partial=partial)


def _counted(plan: Plan, *, resume: bool) -> Finished:
    """A run that counts leaves a page of its own; nothing was trained that another could show."""
    _engine(plan.experiment)(plan, resume)
    from fl_server.summary import read_summary  # noqa: PLC0415

    summary = read_summary(plan.out / "summary.json")
    left = read_left_out(plan.out)
    return Finished(plan.out, summary, report=plan.out / summary["statistics"], left_out=left, partial=bool(left))


def _followed(plan: Plan, progress: bool | Heard) -> AbstractContextManager[object]:
    """What follows a run's measures while it goes on."""
    if callable(progress):
        return RunHeard(plan.out, progress)
    if not progress:
        return nullcontext()
    return RunProgress(plan.out, rounds=plan.run.rounds, sites=_trained_at(plan), pixels=plan.run.masked is not None)


def _trained_at(plan: Plan) -> int:
    """At how many places something trains."""
    return 1 if plan.experiment.federation in BASELINES else plan.sites.sites


def _engine(experiment: ExperimentConfig) -> Callable[[Plan, bool], None]:
    if experiment.federation in BASELINES:
        from simulations.baselines.run import run_baseline  # noqa: PLC0415

        return lambda plan, resume: run_baseline(plan, resume=resume)
    if experiment.engine == "flower":
        from simulations.engines.flower import run_flower  # noqa: PLC0415 - Ray is an extra

        return lambda plan, resume: run_flower(plan, resume=resume)
    from simulations.engines.inprocess import run_inprocess  # noqa: PLC0415 - torch loads only where it is needed

    return lambda plan, resume: run_inprocess(plan, resume=resume)


def _report_what_there_is(out: Path, report: Report) -> None:
    if not (out / MANIFEST).is_file():
        return
    try:
        report(out)
    except MedVeilError as error:
        # The error that stopped the run is the one to tell.
        _log.info("no report: %s", error)
