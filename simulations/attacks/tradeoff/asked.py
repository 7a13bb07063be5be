"""A table of utility against leakage as it is asked for: what it is of, and carrying it out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medveil.errors import ConfigError

if TYPE_CHECKING:
    from simulations.attacks.situations.update_attack import UpdateAttack
    from simulations.attacks.study.result import Result
    from simulations.attacks.tradeoff.study import Study
    from simulations.attacks.tradeoff.table import Table
    from simulations.config import ExperimentConfig

MINUTES, CELL_SECONDS, KEYS, IMAGES = 150.0, 180.0, 3, 24
VIEWS = "deployment,diagnostic"
_LOCK = ".matrix"
_MAY_DIFFER = ("rounds", "train", "privacy", "secagg", "server", "compare")
"""Of an experiment, where a number is promised."""


class Tabled(NamedTuple):
    """What is done so far, as a table, and its page."""

    table: Table
    page: Path


def study_of(
    config: ExperimentConfig,
    folder: Path,
    *,
    policies: str | None = None,
    scopes: str | None = None,
    layers: str | None = None,
    views: str = VIEWS,
    attacks: str | None = None,
    seeds: Sequence[int] = (0,),
    keys: int = KEYS,
    images_per_key: int = IMAGES,
    cell_seconds: float = CELL_SECONDS,
    full: bool = False,
    private: ExperimentConfig | None = None,
) -> Study:
    """What is put into a table; names by commas, None for all.

    `private` is the experiment where a number is promised, which may train otherwise; None: the same.

    Raises
    ------
    ConfigError
        A number is none, there is no such name, or the experiment has no such table.
    """
    from simulations.attacks.tradeoff import places  # noqa: PLC0415
    from simulations.attacks.tradeoff.leakage import Effort  # noqa: PLC0415
    from simulations.attacks.tradeoff.study import Study  # noqa: PLC0415
    from simulations.config import refuse_pixels  # noqa: PLC0415

    above_zero(keys=keys, images_per_key=images_per_key, cell_seconds=cell_seconds)
    if not seeds:
        raise ConfigError("names no seed", where="matrix", cure="0, for example")
    for each in (config, private):
        if each is not None and each.data.source == "phantoms" and each.data.path is None:
            each.data.path = str(folder.resolve() / "phantoms")
    refuse_pixels(config, "matrix")
    for field, wanted, found in (
        ("federation", "federated", config.federation),
        ("engine", "inprocess", config.engine),
    ):
        if found != wanted:
            raise ConfigError(f"is {found}, which has no such table", where=field, cure=wanted)
    _refuse_apart(config, private)
    chosen = places.chosen_layers(layers)
    if private is not None and not any(each.epsilon for each in chosen):
        problem = "are settings for lines with a number, and no layer that was asked for has one"
        raise ConfigError(problem, where="private", cure="a layer such as epsilon-3, or leave them out")
    return Study(
        config=config,
        places=places.places(places.chosen_policies(policies), places.chosen_scopes(scopes, config), chosen),
        views=places.chosen_views(views),
        attacks=_chosen(attacks),
        seeds=sorted(set(seeds)),
        effort=Effort(keys=keys, images=images_per_key, seconds=cell_seconds, quick=not full),
        private=private,
    )


def _refuse_apart(config: ExperimentConfig, private: ExperimentConfig | None) -> None:
    """Refuse two experiments that are not of the same images, sites, cipher and model (ConfigError)."""
    from medveil.config import to_mapping  # noqa: PLC0415

    if private is None:
        return
    one, other = to_mapping(config), to_mapping(private)
    for name in one:
        if name not in _MAY_DIFFER and one[name] != other[name]:
            problem = "differs where a number is promised, and a table is of one experiment"
            raise ConfigError(problem, where=name, cure=f"only {', '.join(_MAY_DIFFER[:-1])} may")


def above_zero(**numbers: float) -> None:
    """Refuse numbers that are none (ConfigError)."""
    for name, value in numbers.items():
        if not value > 0:
            raise ConfigError(f"is {value:g}", where=f"--{name.replace('_', '-')}", cure="a number above 0")


def carried_out(
    study: Study,
    folder: Path,
    *,
    minutes: float,
    said: Callable[[str], None],
    helped: contextlib.AbstractContextManager[None] | None = None,
) -> Tabled:
    """Do what is missing, begin nothing after so many minutes, and write table and page of what there is.

    Raises
    ------
    ConfigError
        The folder holds another table, or minutes are below 0.
    StorageError
        Another process works in the folder; which one and since when.
    """
    from medveil.claims import claimed  # noqa: PLC0415
    from simulations.attacks.tradeoff import export  # noqa: PLC0415
    from simulations.attacks.tradeoff.page import write_page  # noqa: PLC0415 - matplotlib is slow to import
    from simulations.attacks.tradeoff.study import missing, refuse_other, work  # noqa: PLC0415
    from simulations.attacks.tradeoff.table import read_table  # noqa: PLC0415
    from simulations.folders import LEFT_S  # noqa: PLC0415

    if not minutes >= 0:
        raise ConfigError(f"is {minutes:g}", where="--minutes", cure="0 or more")
    with claimed(
        folder / _LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another folder"
    ):
        refuse_other(study, folder)
        left, every = len(missing(study, folder)), len(study.jobs())
        said(f"{every - left} of {every} done; nothing is begun after {minutes:g} minutes")
        if left and minutes:
            with helped or contextlib.nullcontext():
                work(study, folder, seconds=60 * minutes, said=said)
        table = read_table(study, folder, missing=len(missing(study, folder)))
        export.write(folder, table)
        return Tabled(table, write_page(folder, table, spent=_spent(study, minutes, table.results)))


def _chosen(text: str | None) -> list[UpdateAttack]:
    from simulations.attacks.tradeoff.leakage import attackers  # noqa: PLC0415

    known = {each.name: each for each in attackers()}
    if text is None:
        return list(known.values())
    names = [each.strip() for each in text.split(",")]
    wrong = next((each for each in names if each not in known), None)
    if wrong is not None:
        cure = f"of {', '.join(known)}"
        raise ConfigError(f"{wrong[:60]!a} is no attack on updates", where="--attacks", cure=cure)
    return [each for name, each in known.items() if name in names]


def _spent(study: Study, minutes: float, results: Sequence[Result]) -> dict[str, str]:
    seconds = sum(each.seconds for each in results)
    effort = study.effort
    how = "with the effort of a trial" if effort.quick else "with all their effort"
    return {
        "budget": f"{minutes:g} minutes a call, {effort.seconds:g} s a measurement before its last key",
        "measurements": f"{len(results)} with figures, {seconds / 60:.1f} minutes one after another",
        "attacks": f"{how}; {effort.keys} keys, {effort.images} images under each",
        "runs": f"{_rounds(study.config.rounds)}, {study.config.sites} sites, seeds {', '.join(map(str, study.seeds))}",
        **({} if study.private is None else {"where a number is promised": _otherwise(study.config, study.private)}),
    }


def _otherwise(config: ExperimentConfig, private: ExperimentConfig) -> str:
    """The settings of one experiment that another has not, as they are typed."""
    from medveil.config import to_mapping  # noqa: PLC0415
    from simulations.results import differing  # noqa: PLC0415

    return ", ".join(f"{name}={value}" for name, _, value in differing(to_mapping(config), to_mapping(private)))


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"
