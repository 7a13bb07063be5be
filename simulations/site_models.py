"""The models of a simulated run, as its sites would keep them: made from what the run left, when they are asked for.

A hospital keeps its model when a run ends (`fl_client.export.kept`); a simulation keeps none, because its checkpoint
and the stems in its folder make one. What is made once is kept beside them, sealed as a site's own is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.keys import Key, SimulatedKey
from fl_client.config import site_name
from fl_client.export.facts import facts_of
from fl_client.export.held import MODELS, SUFFIX
from fl_client.export.kept import KeptModel, keep, open_kept
from fl_client.personal import own_after
from fl_client.predicted import predicted
from fl_client.simulated_host import simulated_site
from fl_server.checkpoints import Checkpoint, load_newest, load_round
from fl_server.summary import read_summary
from medveil.config import from_mapping
from medveil.errors import ConfigError, KeyMaterialError
from medveil.pretraining import MASKED
from medveil.wire import Tensors
from models.light import plain_tensors
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, read_manifest, refuse_taken, resuming
from simulations.plan import make_plan


class OneKey:
    """A simulated site's ring: one key, never rotated."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def __iter__(self) -> Iterator[Key]:
        yield self._key

    def find(self, fingerprint: str) -> Key:
        """The key, if that is its fingerprint (KeyMaterialError if not)."""
        if fingerprint != self._key.fingerprint:
            raise KeyMaterialError(f"was made under the key {fingerprint}", cure="its run had another seed")
        return self._key


@dataclass(frozen=True)
class SimulatedKeys:
    """The keys of a simulated site: its own, and the one that all sites of the seed would share."""

    own: OneKey
    shared: OneKey


@dataclass(frozen=True)
class SiteModel:
    """What a site of a simulated run holds at its end."""

    site: str
    kept: KeptModel
    keys: SimulatedKeys


def model_of_run(run: Path, site: str | None = None) -> SiteModel:
    """The model of one site that a run of `medveil-sim` left, or has come to.

    The first time it is put together and measured on the site's validation and test images, which must be where they
    were; later it is read back.

    Parameters
    ----------
    run
        The run folder.
    site
        Name of the site; None is the first.

    Raises
    ------
    ConfigError
        It is no such run, came through no round, or has no such site.
    DataError, StorageError
        The images are gone or changed.
    """
    manifest = read_manifest(run)
    if manifest.get("experiment") is None:
        raise ConfigError("was not made by medveil-sim", where=run, cure="'medveil-site export' is for real sites")
    config = from_mapping(ExperimentConfig, manifest["experiment"], where=str(run / MANIFEST))
    if config.task == MASKED:
        cure = f"'medveil-sim export {shlex.quote(str(run))}' writes weights that another run begins with"
        raise ConfigError("learned pixels and no classes: it answers no question", where=run, cure=cure)
    if config.federation in BASELINES:
        raise ConfigError(f"is of the baseline {config.federation}, which leaves no Vision Transformer", where=run)
    names = [site_name(index) for index in range(config.sites)]
    chosen = names[0] if site is None else site
    if chosen not in names:
        raise ConfigError(f"no site is called {chosen[:80]!a}", where="--site", cure=f"one of {', '.join(names)}")
    refuse_taken(run)
    checkpoint = checkpoint_of(run, manifest["run"])
    if checkpoint is None:
        raise ConfigError("came through no round yet", where=run, cure=resuming(run))
    keys = SimulatedKeys(OneKey(SimulatedKey(config.seed, chosen)), OneKey(SimulatedKey(config.seed, "shared")))
    kept = _kept_before(run, chosen, manifest["run"], checkpoint.round, keys)
    if kept is None:
        kept = _made(config, run, manifest["run"], names.index(chosen), checkpoint)
    return SiteModel(chosen, kept, keys)


def checkpoint_of(run: Path, uuid: str) -> Checkpoint | None:
    """Of the round whose model the run left; of the newest where it has not ended."""
    summary = run / "summary.json"
    kept = read_summary(summary).get("kept") if summary.is_file() else None
    if kept is None:
        return load_newest(run / "checkpoints", run=uuid)
    return load_round(run / "checkpoints", kept["round"], run=uuid)


def _kept_before(run: Path, site: str, uuid: str, round_: int, keys: SimulatedKeys) -> KeptModel | None:
    path = run / "sites" / site / MODELS / f"{uuid}{SUFFIX}"
    if not path.is_file():
        return None
    kept = open_kept(path, keys.own)
    return kept if kept.facts["round"] == round_ else None


def _made(config: ExperimentConfig, run: Path, uuid: str, index: int, checkpoint: Checkpoint) -> KeptModel:
    plan = make_plan(config, run, run=uuid)
    site = simulated_site(plan.run, plan.sites, index)
    model = own_after(site, checkpoint.round, tensors_at(checkpoint, site.setup.name, list(site.travelling)))
    parts = {name: site.store.part(name) for name in ("validation", "test")}
    said = {name: predicted(site, model, name) for name in parts}
    leaving = site.setup.leaving
    metrics: dict[str, float] = {}
    for name, part in parts.items():
        metrics |= leaving.measured(name, part.labels, said[name])
    metrics |= leaving.majority(parts["test"].labels)
    facts: dict[str, Any] = facts_of(site, checkpoint.round, metrics, said)
    made = KeptModel(plain_tensors(model), {**facts, "simulated_sites": plan.sites.sites})
    keep(site.setup.folder / MODELS, site.setup.key, made)
    return made


def tensors_at(checkpoint: Checkpoint, site: str, names: list[str]) -> Tensors:
    """What travels, as it stood at a site; under ``local-only`` the checkpoint keeps each site's own."""
    own = {name: checkpoint.state[f"{site}/{name}"] for name in names if f"{site}/{name}" in checkpoint.state}
    return own if len(own) == len(names) else checkpoint.tensors
