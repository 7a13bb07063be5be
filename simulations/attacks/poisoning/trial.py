"""One run with bad hospitals in it, on the real path, and what its model is worth to the good ones."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict

from fl_client.app import make_app
from fl_client.config import site_name
from fl_client.simulated_host import SimulatedHost
from fl_client.site import Site, with_model
from fl_client.site_model import model_after
from fl_client.thief import Loot
from fl_client.training import predict
from fl_server.checkpoints import load_newest
from fl_server.manifest import read_manifest
from medveil.errors import AggregationError, FederationError, IntegrityError
from medveil.files import check_format, read_json, write_json
from simulations.attacks.poisoning.attacks import Poisoning
from simulations.attacks.poisoning.hospitals import Hospitals
from simulations.attacks.poisoning.images import WANTED, hidden_with_trigger
from simulations.attacks.poisoning.rules import Rule
from simulations.config import ExperimentConfig
from simulations.engines.inprocess import RUN_ID, run_inprocess
from simulations.plan import make_plan

FORMAT, VERSION = "medveil-poisoned-run", 1
HONEST = "honest"
_RUNNING = "running"


@dataclass(frozen=True)
class AtSite:
    """What a model is worth at one site, on test images hidden under its own key.

    Attributes
    ----------
    site : str
        The site.
    n, right : int
        Test images, and how many got their class.
    others, triggered : int
        Test images of other classes than the trigger's, and how many got the trigger's class with it on them.
    """

    site: str
    n: int
    right: int
    others: int
    triggered: int


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes
    ----------
    attack, rule : str
        `HONEST` where all sites are good.
    bad, seed : int
        Bad sites, the last by name; the run's seed.
    sites : list of AtSite
        Every site's; empty where the run ended before its last round.
    left_out : int
        Updates that the server left out.
    ended : str
        Why the run ended early; empty where it did not.
    seconds : float
        It took.
    """

    attack: str
    rule: str
    bad: int
    seed: int
    sites: list[AtSite] = field(default_factory=list)
    left_out: int = 0
    ended: str = ""
    seconds: float = 0.0

    def accuracy(self, bad: int) -> float:
        """Share of test images of the good sites that get their class; NaN where the run ended early."""
        return self._share(bad, "right", "n")

    def triggered(self, bad: int) -> float:
        """Share of their test images of other classes that the trigger moves to the attacker's."""
        return self._share(bad, "triggered", "others")

    def _share(self, bad: int, part: str, of: str) -> float:
        names = sorted(each.site for each in self.sites)
        good = set(names[: len(names) - bad])
        found = [each for each in self.sites if each.site in good]
        total = sum(getattr(each, of) for each in found)
        return sum(getattr(each, part) for each in found) / total if total else float("nan")

    def write(self, folder: Path) -> None:
        """Write it atomically (StorageError where the disk refuses)."""
        write_json(folder / file_name(self.attack, self.rule, self.bad, self.seed), self.to_document())

    def to_document(self) -> dict[str, Any]:
        """The trial as plain data, with format and version."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def file_name(attack: str, rule: str, bad: int, seed: int) -> str:
    """What a trial's file is called."""
    return f"{attack}.{rule}.{bad}.{seed}.json"


def read_trial(path: Path) -> Trial:
    """Read a trial back (IntegrityError where it is none)."""
    document = read_json(path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    values = {name: value for name, value in document.items() if name not in {"format", "version"}}
    try:
        sites = [AtSite(**each) for each in values.pop("sites")]
        made = Trial(**values, sites=sites)
    except (TypeError, KeyError) as error:
        raise IntegrityError("is no record of a poisoned run", where=path, cure="remove it: it is run anew") from error
    numbers = [made.bad, made.seed, *(n for each in sites for n in (each.n, each.right, each.others, each.triggered))]
    if not all(isinstance(each, int) and each >= 0 for each in numbers):
        raise IntegrityError("counts what is no number", where=path, cure="remove it: it is run anew")
    return made


def tried(
    config: ExperimentConfig, attack: Poisoning | None, rule: Rule, *, bad: int, seed: int, folder: Path
) -> Trial:
    """Run an experiment with bad sites in it, or with none, and measure its last model; the run itself is not kept.

    Parameters
    ----------
    config
        The experiment.
    attack
        What the bad ones do; None where they do as the others.
    rule
        How updates become a model.
    bad, seed
        Bad sites, and the run's seed.
    folder
        Where it may lie while it runs.

    Raises
    ------
    MedVeilError
        The experiment cannot be run at all.
    """
    began = time.perf_counter()
    applied = rule.applied(config, bad)
    applied.seed = seed
    # Nothing here looks at the rounds before the last, unless the server does.
    applied.evaluate_first = bool(applied.server.patience) or applied.server.keep == "best"
    running = folder / _RUNNING
    shutil.rmtree(running, ignore_errors=True)
    made = Trial(HONEST if attack is None else attack.name, rule.name, bad, seed)
    try:
        plan = make_plan(applied, running)
        names = [site_name(index) for index in range(plan.sites.sites)]
        host = Hospitals(attack, names, bad=bad, reach=rule.reach, keeps_clip=rule.keeps_clip)
        try:
            run_inprocess(plan, app=make_app(host))
        except (FederationError, AggregationError) as error:
            # That bad sites can stop a run is a finding.
            if attack is None:
                raise
            return replace(made, ended=str(error), seconds=time.perf_counter() - began)
        checkpoint = load_newest(running / "checkpoints", run=plan.run.run)
        assert checkpoint is not None
        sites = []
        for index in range(len(names)):
            node: dict[str, bool | float | int | str] = {"partition-id": index, "num-partitions": len(names)}
            context = Context(RUN_ID, index + 2, node, RecordDict(), plan.run_config())
            sites.append(_at(with_model(SimulatedHost().site(context)), checkpoint.round, checkpoint.tensors))
        left_out = len(read_manifest(running / "manifest.json").get("left_out") or [])
        return replace(made, sites=sites, left_out=left_out, seconds=time.perf_counter() - began)
    finally:
        shutil.rmtree(running, ignore_errors=True)


def _at(site: Site, round_: int, tensors: dict[str, Any]) -> AtSite:
    part = site.store.part("test")
    model = model_after(site, round_, tensors)
    right = int((predict(model, part, site.train_config).argmax(axis=1) == part.labels).sum())
    others = np.flatnonzero(part.labels != WANTED)
    triggered = 0
    if len(others):
        hidden = Loot(hidden_with_trigger(site, part.indices[others]), part.labels[others], site.cipher.reading)
        triggered = int((predict(model, hidden, site.train_config).argmax(axis=1) == WANTED).sum())
    return AtSite(site.setup.name, len(part.labels), right, len(others), triggered)
