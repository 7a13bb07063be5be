"""How long attacks would take: one key of the lightest of them is measured, and the others by their weights."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simulations.attacks.asked import fitted
from simulations.attacks.config import AttackConfig, prepare
from simulations.attacks.study.attack import Attack
from simulations.attacks.study.measure import measure


class Pace(NamedTuple):
    """What was found before anything runs.

    Attributes
    ----------
    apply
        Names of the attacks that apply, with the share of all their time that each takes.
    refused
        Why the others do not, by name.
    probe
        The attack of which one key was measured; empty where none applies.
    seconds
        Of all that apply, one after another; None where none does.
    memory
        Bytes that this process held at most.
    """

    apply: dict[str, float]
    refused: dict[str, str]
    probe: str
    seconds: float | None
    memory: int


def pace(attacks: Sequence[Attack], config: AttackConfig, *, run: Path | None, device: str) -> Pace:
    """Look at attacks as they would be measured (errors as `simulations.attacks.config.prepare`)."""
    setting = prepare(config, run=run).setting
    own = [fitted(each, config, device=device) for each in attacks]
    refused = {each.name: why for each in own if (why := each.refusal(setting)) is not None}
    left = [each for each in own if each.name not in refused]
    whole = sum(each.weight for each in left)
    shares = {each.name: each.weight / whole for each in left}
    for each in sorted(left, key=lambda attack: attack.weight):
        began = time.perf_counter()
        result = measure(each, dataclasses.replace(setting, keys=1)).result
        took = time.perf_counter() - began
        if result.applicable:
            return Pace(shares, refused, each.name, took / each.weight * whole * setting.keys, _memory())
    return Pace(shares, refused, "", None, _memory())


def _memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
