"""Plans of tiny experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from planned_site import MakePlan

from simulations.arms import ARMS, as_experiment
from simulations.config import ExperimentConfig
from simulations.plan import Plan, make_plan

Tiny = Callable[..., ExperimentConfig]


@pytest.fixture
def planned(tiny: Tiny, tmp_path: Path) -> MakePlan:
    torch.set_num_threads(1)

    def made(*overrides: str, arm: str = "per-site-adapted") -> Plan:
        return make_plan(as_experiment(tiny(*overrides), ARMS[arm], 0), tmp_path / "run")

    return made
