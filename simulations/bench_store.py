"""What a sealed store costs a round of training: beside images that lie open in a mapped file, as stores once did."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from fl_client.data.rows import HeldRows
from fl_client.data.store_files import StoreSeal, open_rows
from fl_client.data.stored import StoredPart
from fl_client.simulated_host import simulated_site
from fl_client.site import Site
from fl_client.training import RoundPlan, train_round
from simulations.plan import Plan

MAPPED, OPENED, KEPT = "mapped", "opened a batch at a time", "kept in memory"


class Took(NamedTuple):
    """Seconds of rounds, by the clock and of the processor: the latter say more where other work goes on beside."""

    wall: list[float]
    cpu: list[float]


def store_rounds(plan: Plan, folder: Path, *, turns: int) -> dict[str, Took]:
    """What the same round of one site's training takes from each form of its store; they take turns.

    Parameters
    ----------
    plan
        An experiment; its first site trains.
    folder
        Where the mapped form is written.
    turns
        Rounds of each form.
    """
    site = simulated_site(plan.run, plan.sites, 0)
    parts = _forms(site, folder)
    model = site.bench.model
    # What a process does but once is no part of a round.
    for part in parts.values():
        _round(site, copy.deepcopy(model), part)
    took = {name: Took([], []) for name in parts}
    for _ in range(turns):
        for name, part in parts.items():
            wall, cpu = _round(site, copy.deepcopy(model), part)
            took[name].wall.append(wall)
            took[name].cpu.append(cpu)
    return took


def _forms(site: Site, folder: Path) -> dict[str, StoredPart]:
    kept = site.store.part("train")
    assert isinstance(kept, StoredPart)
    np.save(folder / "train.npy", kept.images.view(0)[:, None])
    mapped = HeldRows(np.load(folder / "train.npy", mmap_mode="r"))
    opened = open_rows(site.store.folder, "train", site.store.header, StoreSeal.of(site.setup.key), most=0)
    return {MAPPED: replace(kept, images=mapped), OPENED: replace(kept, images=opened), KEPT: kept}


def _round(site: Site, model: nn.Module, part: StoredPart) -> tuple[float, float]:
    plan = RoundPlan(round=1, rounds=1, seed=0, rng=np.random.default_rng(0))
    wall, cpu = time.perf_counter(), time.process_time()
    train_round(model, part, site.train_config, plan, trainable=site.trainable)
    return time.perf_counter() - wall, time.process_time() - cpu
