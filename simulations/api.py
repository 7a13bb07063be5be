"""A researcher's door from Python: experiments, comparisons, attacks, and what they left.

What `__all__` names is public: it stays as it is, and what changes of it is named in the changelog. Everything else of
``simulations`` may change at any time.

Nothing is printed unless ``quiet=False`` asks for what the command would print of its progress. Every error is a
`medveil.errors.MedVeilError`: what was wrong, where, and what would be right.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_server.checkpoints import Checkpoint
from medveil import plain, plugins
from medveil.errors import ConfigError
from medveil.log import unheard
from simulations.ablation import Ablation
from simulations.ablation import ablate as _ablate
from simulations.attack_calls import Attacked, attack, attacks
from simulations.compare import Comparison
from simulations.compare import compare as _compare
from simulations.config import ExperimentConfig
from simulations.experiments import load_experiment
from simulations.heard import Heard
from simulations.loaded import Run, load_run
from simulations.model_calls import Answers, export, load_model, predict
from simulations.points import Range
from simulations.predictions import Predictions
from simulations.pretraining import Pretrained
from simulations.pretraining import pretrain as _pretrain
from simulations.reported import report_of
from simulations.run import resume_experiment, run_experiment
from simulations.search import Search
from simulations.search import search as _search
from simulations.sweep import Sweep, laid_over
from simulations.sweep import sweep as _sweep

__all__ = [
    "Ablation",
    "Answers",
    "Attacked",
    "Checkpoint",
    "Comparison",
    "ExperimentConfig",
    "Predictions",
    "Pretrained",
    "Range",
    "Run",
    "Search",
    "Sweep",
    "ablate",
    "arms",
    "attack",
    "attacks",
    "compare",
    "experiment",
    "export",
    "load_model",
    "load_run",
    "others",
    "predict",
    "pretrain",
    "report",
    "resume",
    "run",
    "search",
    "sweep",
]
unheard()
plugins.simulating()


def experiment(named: str | Path | None = None, /, **settings: Any) -> ExperimentConfig:
    """An experiment: one of MedVeil's own by name, a YAML file, or the defaults, with settings in place of its own.

    Parameters
    ----------
    named
        A name of ``medveil-sim init --list``, a YAML file, or None.
    settings
        Top settings by name, sections as dicts: ``experiment("demo", rounds=2, data={"image_size": 32})``.

    Returns
    -------
    ExperimentConfig
        A dataclass, whose fields may be set as well.

    Raises
    ------
    ConfigError
        There is no such experiment or setting (the nearest name is given), or a value is of another type.
    """
    return load_experiment(named, values=_plain(settings))


def run(
    config: ExperimentConfig,
    out: str | Path,
    *,
    replace: bool = False,
    quiet: bool = True,
    progress: Heard | None = None,
) -> Run:
    """Run an experiment and leave a run folder.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        The run folder: new or empty, unless `replace`.
    replace
        Remove an earlier run at `out` first. Nothing but a run folder is ever removed.
    quiet
        False shows on stderr what the command shows.
    progress
        Called with each record of `Run.records` as it comes, in a thread of its own. An error it raises ends the calls
        and not the run, and is raised once the run is over.

    Raises
    ------
    ConfigError, PolicyError
        The experiment cannot be run, or there is something at `out`.
    DataError, StorageError
        Its images cannot be used, or the disk refuses.
    FederationError
        The run did not finish; `resume` goes on with it.
    """
    done = run_experiment(
        _as_run(config), Path(out), replace=replace, progress=_told(quiet, progress), report=report_of
    )
    return load_run(done.folder)


def resume(folder: str | Path, *, rounds: int | None = None, quiet: bool = True, progress: Heard | None = None) -> Run:
    """Go on with a run from its newest good checkpoint: bit for bit what it would have been without the break.

    Parameters
    ----------
    folder
        The run folder.
    rounds
        Rounds that the run is to have in all, if more than it had.
    quiet, progress
        As for `run`.

    Raises
    ------
    ConfigError
        It is no run, or one of more rounds; or settings or data changed.
    DataError, StorageError, FederationError
        As for `run`.
    """
    done = resume_experiment(Path(folder), rounds=rounds, progress=_told(quiet, progress), report=report_of)
    return load_run(done.folder)


def compare(
    config: ExperimentConfig,
    out: str | Path,
    *,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    results: Sequence[str | Path] = (),
    quiet: bool = True,
) -> Comparison:
    """Run arms of one experiment, paired by seed, and put them side by side.

    Each run is a process of its own; finished ones are kept, and an interrupted comparison goes on where it was.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder of the comparison.
    arms
        By name (`arms`); None for those of ``config.compare``.
    seeds
        None for those of ``config.compare``.
    jobs
        Runs side by side; with 2 or more set ``threads``, so that they do not fight over cores.
    results
        Files of ``medveil-sim pack``, whose finished runs are taken up first.
    quiet
        As for `run`.

    Raises
    ------
    ConfigError
        There is no such arm, or nothing to compare.
    BasisError
        A run that would be kept stands on other images than there are now.
    PartialError
        No run finished; where some did, `Comparison.failed` names the others.
    """
    config = _as_run(config)
    if arms is not None:
        config.compare.arms = list(arms)
    if seeds is not None:
        config.compare.seeds = list(seeds)
    taken = [Path(each) for each in results]
    return _compare(config, Path(out), results=taken, jobs=jobs, console=plain.console_unless(quiet))


def arms() -> dict[str, str]:
    """What can be compared: the names of arms, and what each is."""
    from simulations.arms import ARMS  # noqa: PLC0415

    return {arm.name: arm.text for arm in ARMS.values()}


def ablate(
    config: ExperimentConfig,
    out: str | Path,
    *,
    switches: Sequence[str] | None = None,
    recipe: str = "",
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    results: Sequence[str | Path] = (),
    quiet: bool = True,
) -> Ablation:
    """Run an experiment with one switch of training more at a time; what each brings on validation images.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder for it.
    switches
        Names of ``medveil-sim ablate --list``; None for all that the experiment can have.
    recipe
        Begin with a recipe, and leave out one switch at a time.
    seeds, jobs, results, quiet
        As for `compare`.

    Raises
    ------
    ConfigError, BasisError
        There is no such switch or seed, or nothing is measured on validation images; or as for `compare`.
    PartialError
        What the others are beside did not finish.
    """
    config = copy.deepcopy(config)
    if seeds is not None:
        config.compare.seeds = list(seeds)
    asked: dict[str, Any] = {"switches": switches, "recipe": recipe, "jobs": jobs}
    return _ablate(
        config, Path(out), **asked, results=[Path(each) for each in results], console=plain.console_unless(quiet)
    )


def sweep(
    config: ExperimentConfig,
    out: str | Path,
    *,
    over: Mapping[str, Sequence[Any] | Range],
    random: int | None = None,
    leave_out: bool = False,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    results: Sequence[str | Path] = (),
    quiet: bool = True,
) -> Sweep:
    """Run an experiment under many settings, every point under each seed, and put the points side by side.

    Finished runs are kept, and an interrupted sweep goes on where it was.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder for it.
    over
        Values of settings by their dotted names: ``{"train.lr": [1e-3, 3e-3], "keys.policy": ["none", "per-site"]}``.
        A `Range` is drawn from, where `random` says how often. A ``train.recipe`` replaces what it sets of `config`.
    random
        How many points are drawn; None runs all combinations.
    leave_out
        Leave out combinations that cannot be had (`Sweep.left_out`); else the first of them is refused.
    seeds, jobs, results, quiet
        As for `compare`.

    Raises
    ------
    ConfigError
        A point cannot be had, or there is nothing to sweep; before anything is run.
    BasisError
        A run that would be kept stands on other images than there are now.
    PartialError
        No run finished; where some did, `Sweep.failed` names the others.
    """
    config = copy.deepcopy(config)
    if seeds is not None:
        config.compare.seeds = list(seeds)
    axes = _axes(over)
    asked: dict[str, Any] = {"random": random, "leave_out": leave_out, "jobs": jobs}
    taken = [Path(each) for each in results]
    return _sweep(laid_over(config), axes, Path(out), **asked, results=taken, console=plain.console_unless(quiet))


def search(
    config: ExperimentConfig,
    out: str | Path,
    *,
    over: Mapping[str, Sequence[Any] | Range],
    trials: int = 20,
    measure: str = "accuracy",
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    quiet: bool = True,
) -> Search:
    """Look for settings that do best on validation images, one trial after another; test images choose nothing.

    A trial is suggested by Optuna from those before it: the extra ``medveil[search]``. An interrupted search goes on as
    it would have gone, and one that is given more trials goes on too.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        Folder for it.
    over
        Values and ranges of settings by their dotted names, as for `sweep`.
    trials
        How many there are to be in all.
    measure
        Of validation images: ``"accuracy"``, ``"auroc"`` or ``"loss"``.
    seeds, jobs, quiet
        As for `compare`; `jobs` are the seeds of a trial side by side.

    Raises
    ------
    ConfigError
        A value alone cannot be had, the folder is of another search, or Optuna is not installed.
    PartialError
        No trial has a score; where some have none, `Search.failed` names them.
    """
    config = copy.deepcopy(config)
    if seeds is not None:
        config.compare.seeds = list(seeds)
    asked: dict[str, Any] = {"trials": trials, "measure": measure, "jobs": jobs}
    return _search(laid_over(config), _axes(over), Path(out), **asked, console=plain.console_unless(quiet))


def pretrain(
    config: ExperimentConfig,
    out: str | Path,
    *,
    licence: str = "",
    quiet: bool = True,
    progress: Heard | None = None,
) -> Pretrained:
    """Pre-train a model on plain images in one place; called again after it was cut off, it goes on.

    Parameters
    ----------
    config
        The experiment, whose ``pretrain`` section says how; it is not changed.
    out
        The weights, a new ``.safetensors``: another experiment begins with them by ``model={"pretrained": ...}``.
    licence
        Of the images, in a line for the card beside the weights.
    quiet, progress
        As for `run`.

    Raises
    ------
    ConfigError
        There are such weights, or the run beside them was begun with other settings.
    DataError, StorageError, FederationError
        As for `run`.
    """
    told = _told(quiet, progress)
    return _pretrain(_as_run(config), Path(out), licence=licence, progress=told, report=report_of)


def others() -> list[dict[str, str]]:
    """What other installed packages add to MedVeil, whether or not it can be taken; nothing of it is imported.

    Returns
    -------
    list of dict
        ``group`` (``"medveil.schemes"``, ``"medveil.attacks"``, ``"medveil.sources"``, ``"medveil.strategies"``),
        ``name``, ``package`` and ``version``.
    """
    return [
        {"group": each.group, "name": each.name, "package": each.package, "version": each.version}
        for each in plugins.installed()
    ]


def report(folder: str | Path) -> Path:
    """Write a run's page anew, also of an unfinished run, and return it.

    Raises
    ------
    ConfigError
        It is no run folder.
    StorageError, IntegrityError, FormatError
        A file of it cannot be read, or the page not be written.
    """
    return report_of(load_run(folder).folder)


def _axes(over: Mapping[str, Sequence[Any] | Range]) -> dict[str, Range | tuple[Any, ...]]:
    return {key: axis if isinstance(axis, Range) else tuple(_plain(list(axis))) for key, axis in over.items()}


def _as_run(config: ExperimentConfig) -> ExperimentConfig:
    """A copy that has taken its recipe: what is written down of a run says everything in its own place."""
    made = copy.deepcopy(config)
    made.without_recipe = {}
    return made


def _told(quiet: bool, progress: Heard | None) -> bool | Heard:
    if progress is not None and not quiet:
        raise ConfigError("cannot both be told", where="quiet=False, progress", cure="leave one out")
    return not quiet if progress is None else progress


def _plain(value: Any) -> Any:
    """Settings as plain data: paths as text, and tuples as lists."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
