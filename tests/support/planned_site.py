"""A site of a planned experiment: what it brings, and what its server would send first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crypto.keys import SimulatedKey
from fl_client.leaving import EVERYTHING, Leaving
from fl_client.site import Site
from fl_client.site_setup import SiteSetup
from fl_client.workbench import pick_device
from medveil.wire import Tensors
from simulations.plan import Plan

MakePlan = Callable[..., Plan]


def setup(plan: Plan, folder: Path, *, index: int = 0, seed: int = 0, **changes: Any) -> SiteSetup:
    name = f"site-{index + 1}"
    key = SimulatedKey(seed, name)
    made = SiteSetup(
        name=name,
        index=index,
        sites=plan.sites.sites,
        key=key,
        cipher_key=None if plan.run.keys == "none" else key,
        thief_key=SimulatedKey(seed, "thief"),
        data=plan.sites.data,
        folder=folder,
        device=pick_device("cpu"),
        leaving=Leaving(EVERYTHING),
    )
    return replace(made, **changes)


def incoming(site: Site) -> Tensors:
    return {name: site.bench.public[name].numpy().copy() for name in site.travelling}
