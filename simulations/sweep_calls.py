"""Many runs asked for from Python: see `simulations.api`, which has these names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medveil import plain
from medveil.called import typed
from medveil.config_objects import as_plain, own_copy
from medveil.errors import ConfigError
from simulations.ablation import Ablation
from simulations.ablation import ablate as _ablate
from simulations.compare import Comparison
from simulations.compare import compare as _compare
from simulations.config import ExperimentConfig
from simulations.experiments import as_run
from simulations.points import Range
from simulations.results import Packed
from simulations.results import pack as _pack
from simulations.search import Search
from simulations.search import search as _search
from simulations.sweep import Sweep, laid_over
from simulations.sweep import sweep as _sweep


@typed
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
    config = _seeded(as_run(config), seeds)
    if arms is not None:
        config.compare.arms = list(arms)
    return _compare(config, Path(out), results=_paths(results), jobs=jobs, console=plain.console_unless(quiet))


def arms() -> dict[str, str]:
    """What can be compared: the names of arms, and what each is."""
    from simulations.arms import ARMS  # noqa: PLC0415

    return {arm.name: arm.text for arm in ARMS.values()}


@typed
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
    if switches is not None and not switches:
        raise ConfigError("names no switch", where="ablate(switches=...)", cure="one or more, or None for all")
    asked: dict[str, Any] = {"switches": switches, "recipe": recipe, "jobs": jobs, "results": _paths(results)}
    return _ablate(_seeded(config, seeds), Path(out), **asked, console=plain.console_unless(quiet))


@typed
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
    laid, axes = laid_over(_seeded(config, seeds)), _axes(over)
    asked: dict[str, Any] = {"random": random, "leave_out": leave_out, "jobs": jobs, "results": _paths(results)}
    return _sweep(laid, axes, Path(out), **asked, console=plain.console_unless(quiet))


@typed
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
    laid, axes = laid_over(_seeded(config, seeds)), _axes(over)
    asked: dict[str, Any] = {"trials": trials, "measure": measure, "jobs": jobs}
    return _search(laid, axes, Path(out), **asked, console=plain.console_unless(quiet))


@typed
def pays(
    config: ExperimentConfig,
    out: str | Path,
    *,
    trunks: Sequence[str] = ("masked-autoencoding",),
    share: float = 0.5,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
) -> Ablation:
    """Train for some minutes, and from pre-trained trunks for the rest of them: what pre-training gains at equal time.

    Parameters
    ----------
    config
        The experiment, whose ``train.minutes`` are those of each arm; it is not changed.
    out
        Folder for it; what finished there is kept.
    trunks
        What is pre-trained, as WAY on the experiment's own images or WAY:FILE on those of another experiment; ways are
        ``masked-autoencoding`` and ``supervised``.
    share
        Of the minutes, what pre-training takes.
    seeds, jobs
        As for `compare`. What trains is told on stderr.

    Raises
    ------
    ConfigError
        There are no minutes or seeds, or a trunk or experiment that cannot be.
    PartialError
        Nothing was trained alone to its end; where some trunk was not, `Ablation.failed` names it.
    """
    from simulations.pays import pays as _pays  # noqa: PLC0415 - as slow to import as what it starts
    from simulations.pays import trunk_of  # noqa: PLC0415

    config = _seeded(config, seeds)
    return _pays(config, Path(out), trunks=[trunk_of(each) for each in trunks], share=share, jobs=jobs)


@typed
def pack(folder: str | Path, out: str | Path) -> Packed:
    """Write what tables need of the finished runs of a comparison or an ablation into one small file.

    Parameters
    ----------
    folder
        Of a comparison or an ablation; another process may be at work in it.
    out
        The file; an older one of results is replaced. `compare` and others take it as `results`.

    Raises
    ------
    ConfigError
        Nothing that can be packed finished there, or `out` is something else.
    StorageError, DataError, IntegrityError, FormatError
        A run cannot be read, or `out` not be written.
    """
    return _pack(Path(folder), Path(out))


def _seeded(config: ExperimentConfig, seeds: Sequence[int] | None) -> ExperimentConfig:
    """A copy with these seeds, where any are named."""
    made = own_copy(config)
    if seeds is not None:
        made.compare.seeds = list(seeds)
    return made


def _paths(results: Sequence[str | Path]) -> list[Path]:
    return [Path(each) for each in results]


def _axes(over: Mapping[str, Sequence[Any] | Range]) -> dict[str, Range | tuple[Any, ...]]:
    return {key: axis if isinstance(axis, Range) else _values(axis) for key, axis in over.items()}


def _values(axis: Any) -> tuple[Any, ...]:
    """The values of a setting; what has one value holds for all points, as on a command line."""
    return tuple(as_plain(list(axis) if isinstance(axis, Iterable) and not isinstance(axis, str | Mapping) else [axis]))
