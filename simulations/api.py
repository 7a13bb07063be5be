"""A researcher's door from Python: experiments, comparisons, attacks, and what they left.

What `__all__` names is public: it stays as it is, and what changes of it is named in the changelog. Everything else of
``simulations`` may change at any time.

Nothing is printed unless ``quiet=False`` asks for what the command would print of its progress. Every error is a
`medveil.errors.MedVeilError`: what was wrong, where, and what would be right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fl_server.checkpoints import Checkpoint
from medveil import plugins
from medveil.bounded import word
from medveil.called import typed
from medveil.config_objects import as_plain
from medveil.errors import ConfigError
from medveil.log import unheard
from simulations.ablation import Ablation
from simulations.attack_calls import Attacked, Matrix, attack, attacks, matrix
from simulations.compare import Comparison
from simulations.config import ExperimentConfig
from simulations.experiments import as_run, load_experiment
from simulations.heard import Heard
from simulations.loaded import Run, load_run
from simulations.model_calls import Answers, export, load_model, predict
from simulations.points import Range
from simulations.predictions import Predictions
from simulations.pretraining import Pretrained
from simulations.pretraining import pretrain as _pretrain
from simulations.reported import report_of
from simulations.results import Packed
from simulations.run import resume_experiment, run_experiment
from simulations.search import Search
from simulations.sweep import Sweep
from simulations.sweep_calls import ablate, arms, compare, pack, pays, search, sweep

__all__ = [
    "Ablation",
    "Answers",
    "Attacked",
    "Checkpoint",
    "Comparison",
    "ExperimentConfig",
    "Matrix",
    "Packed",
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
    "bench",
    "compare",
    "experiment",
    "export",
    "load_model",
    "load_run",
    "matrix",
    "others",
    "pack",
    "pays",
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


@typed
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
    for name in settings:
        section, dot, key = name.partition(".")
        if dot:
            raise ConfigError(
                f"'{word(name)}' is in a section", where="settings", cure=f"{word(section)}={{'{word(key)}': ...}}"
            )
    return load_experiment(named, values=as_plain(settings))


@typed
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
    done = run_experiment(as_run(config), Path(out), replace=replace, progress=_told(quiet, progress), report=report_of)
    return load_run(done.folder)


@typed
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


@typed
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
    return _pretrain(as_run(config), Path(out), licence=licence, progress=told, report=report_of)


@typed
def bench(*, device: str = "auto") -> dict[str, Any]:
    """Measure speed on this machine, as ratios within one run: cipher, engine, a round on ciphertext, a sealed store.

    Parameters
    ----------
    device
        Where the rounds train: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.

    Returns
    -------
    dict
        Figures by name: a time or a rate with its unit behind it, ratios with ``_over_``; and ``environment``.
    """
    from simulations.bench import bench as _bench  # noqa: PLC0415 - what it measures is slow to import

    return _bench(device=device)


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


@typed
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


def _told(quiet: bool, progress: Heard | None) -> bool | Heard:
    if progress is not None and not quiet:
        raise ConfigError("cannot both be told", where="quiet=False, progress", cure="leave one out")
    return not quiet if progress is None else progress
