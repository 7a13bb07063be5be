"""The attacks that a site's disclosure tries: all on updates and stolen models, cheapest first, each in its share.

A result is written as soon as there is one, so that a budget that ends leaves what was found until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crypto.config import config_of_run
from fl_client.data.config import DataConfig
from fl_client.disclosure.document import FAILED, INAPPLICABLE, JSON, UNFINISHED
from fl_client.disclosure.make import MODEL, PLANNED, REQUEST, RESULTS
from medveil import plugins
from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import MedVeilError
from medveil.files import make_folder, read_json, write_json
from medveil.pretraining import SINGLE_LABEL
from models.config import ModelConfig
from simulations.attacks.config import AttackConfig, Prepared, prepare
from simulations.attacks.registry import ATTACKS
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig
from simulations.attacks.situations.update_attack import UpdateAttack
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import Measured, Result
from simulations.disclosure import disaggregation, own_model

_IMAGES = 64
"""Images of a site in a round, at most: fewer than most sites have, which is easier for whoever attacks."""
_SITES = 2
"""Fewest sites of a sum: a run with masks opens none of fewer."""
_FIGURES = ("target", "control", "chance")


@dataclass(frozen=True)
class Request:
    """What a site asks for (`fl_client.disclosure.make`)."""

    run: RunConfig
    data: DataConfig
    minutes: float
    keys: int
    short: bool
    device: str
    threads: int
    plugins: list[str]
    missing: str
    server_weights: bool


def read_request(folder: Path) -> Request:
    """Read a request, and take the packages that the site's own file names and no other, for good.

    Raises
    ------
    MedVeilError
        It cannot be read, or names what there is not.
    """
    path = folder / REQUEST
    found = read_json(path)
    plugins.restrict(found["plugins"])
    run = from_mapping(RunConfig, found["run"], where=str(path))
    data = from_mapping(DataConfig, found["data"], where=str(path))
    rest = {each.name: found[each.name] for each in fields(Request) if each.name not in {"run", "data"}}
    return Request(run=run, data=data, **rest)


def attacks() -> list[UpdateAttack]:
    """Every attack on what leaves a site, the cheapest first."""
    found = [attack() for attack in ATTACKS.values() if issubclass(attack, UpdateAttack)]
    return sorted(found, key=lambda each: each.weight)


def update_of(run: RunConfig, *, server_weights: bool) -> UpdateConfig:
    """The situation that a run's contract makes: its first round, read by its server.

    Parameters
    ----------
    run
        The run.
    server_weights
        Whether the server may have made the weights it begins from: the site's limits do not name them.
    """
    train = run.train
    return UpdateConfig(
        mode=DEPLOYMENT,
        keys=run.keys,
        stem_init=run.stem_init,
        stem_train=run.stem_train,
        scope=str(train["scope"]),
        rank=int(train["rank"]),
        batch=int(train["batch_size"]),
        epochs=int(train["epochs"]),
        optimizer=str(train["optimizer"]),
        lr=float(train["lr"]),
        wire=run.wire,
        kind=run.kind,
        sites=max(_SITES, run.least_sites) if run.secagg.on else 1,
        rounds=run.rounds,
        epsilon=0.0 if run.private is None else run.private.epsilon,
        task=run.task,
        server_weights=server_weights,
        model=from_mapping(ModelConfig, run.model, where="model"),
    )


def measure_all(folder: Path, *, said: Callable[[str], None]) -> None:
    """Try every attack that a request is about, and leave what came of each.

    Parameters
    ----------
    folder
        Holds the request; ``planned.json`` and ``results/NAME.json`` go there.
    said
        Hears a line for each.

    Raises
    ------
    MedVeilError
        The images cannot be opened.
    """
    began = time.monotonic()
    asked = read_request(folder)
    if asked.threads:
        import torch  # noqa: PLC0415

        torch.set_num_threads(asked.threads)
    results, trying = make_folder(folder / RESULTS), attacks()
    prepared = None if asked.run.task != SINGLE_LABEL else _prepared(asked)
    setting = None if prepared is None else prepared.setting
    situation = f"a run of {asked.run.task}" if setting is None else setting.situation.text
    planned = [_told(each, setting) for each in trying]
    asks = (own_model, disaggregation)
    write_json(folder / PLANNED, {"situation": situation, "attacks": [*planned, *(each.told() for each in asks)]})
    # First the model that is there: the rest asks what others like it would give away.
    for each in asks:
        found = each.entry(folder / MODEL, asked.data, seed=asked.run.seed, missing=asked.missing)
        write_json(results / f"{each.NAME}{JSON}", {**each.told(), **found})
        said(f"{each.NAME}: {found.get('verdict') or found['reason']}")
    for place, attack in enumerate(trying):
        left = 60 * asked.minutes - (time.monotonic() - began)
        entry = _entry(attack, prepared, asked, seconds=left / (len(trying) - place))
        write_json(results / f"{attack.name}{JSON}", {**planned[place], **entry})
        said(f"{attack.name}: {entry.get('verdict') or entry['reason']}")


def _prepared(asked: Request) -> Prepared:
    update = update_of(asked.run, server_weights=asked.server_weights)
    config = AttackConfig(data=asked.data, cipher=config_of_run(asked.run.cipher), keys=asked.keys, update=update)
    made = prepare(config)
    setting = made.setting.fitted(_IMAGES)
    images = setting.situation.images
    told = f"Sites of these measurements train on {images} images each; this site may have more, which hide each other."
    return Prepared(setting, [*made.notes, told])


def _told(attack: UpdateAttack, setting: UpdateSetting | None) -> dict[str, Any]:
    known = attack.knowledge if setting is None else attack.known_in(setting)
    has = [*sorted(map(str, known)), *sorted(map(str, attack.needs))]
    return {"attack": attack.name, "text": attack.text, "has": has}


def _entry(attack: UpdateAttack, prepared: Prepared | None, asked: Request, *, seconds: float) -> dict[str, Any]:
    """What came of an attack within its share of the time."""
    if prepared is None:
        return {"kind": INAPPLICABLE, "reason": f"attacks on updates of {asked.run.task} are not built"}
    setting = prepared.setting
    if attack.refusal(setting) is None and seconds <= 0:
        return {"kind": UNFINISHED, "reason": f"the budget of {asked.minutes:g} minutes was spent"}
    made = attack.quick() if asked.short else attack
    made.device = asked.device
    until = time.monotonic() + seconds
    try:
        result = measure(made, setting, notes=prepared.notes, enough=lambda: time.monotonic() > until).result
    except MedVeilError as error:
        return {"kind": FAILED, "reason": str(error)}
    if not result.applicable:
        return {"kind": INAPPLICABLE, "reason": str(result.reason)}
    return {**_measured(result), "model": made.threat_model}


def _measured(result: Result) -> dict[str, Any]:
    """A result without what is nobody's business outside the site: where images lie, and what came of single keys."""
    return {
        "verdict": result.verdict,
        "main": result.main,
        "margin": result.margin,
        "figures": {name: _figure(each) for name, each in result.metrics.items()},
        "keys": result.keys,
        "n": result.n,
        "notes": result.notes,
        "seconds": result.seconds,
    }


def _figure(measured: Measured) -> dict[str, Any]:
    arms = {arm: getattr(measured, arm) for arm in _FIGURES}
    within = {arm: measured.ci95.get(arm) for arm in _FIGURES}
    return {
        **arms,
        "ci95": within,
        "unit": measured.unit,
        "direction": measured.direction,
        "text": measured.text,
    }
