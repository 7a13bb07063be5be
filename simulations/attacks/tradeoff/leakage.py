"""What an attack recovers at a place: one measurement, by the same code and the same rule as everywhere else."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from crypto.config import CipherConfig, resolve
from medveil.errors import MedVeilError
from medveil.files import write_json
from medveil.shapes import read_document
from simulations.attacks.config import AttackConfig, Prepared, prepare
from simulations.attacks.registry import ATTACKS
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT
from simulations.attacks.situations.update_attack import UpdateAttack
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import Result
from simulations.attacks.tradeoff.places import Place, View
from simulations.config import ExperimentConfig

FAILED, VERSION = "medveil-unmeasured", 1
_SITE_IMAGES = 64
"""Images of a site in a round, at most."""
_LEFT_OUT = ("april",)
"""What is there to show that others work: it holds for a model of its own, which nobody trains."""


@dataclass(frozen=True)
class Effort:
    """How much a measurement takes: keys, images under each, seconds, and whether it is a trial."""

    keys: int = 3
    images: int = 24
    seconds: float = 180.0
    quick: bool = True


@dataclass
class Ground:
    """Images that all measurements share, opened once.

    Parameters
    ----------
    config
        The experiment.
    effort
        Of each measurement.
    private
        The experiment where a number is promised; None: the same.
    """

    config: ExperimentConfig
    effort: Effort
    private: ExperimentConfig | None = None

    @cached_property
    def prepared(self) -> Prepared:
        """The setting of plain images, and what a reader must know (ConfigError, DataError as `prepare`)."""
        config, effort = self.config, self.effort
        cipher = CipherConfig(scheme="none", block=config.cipher.block)
        asked = AttackConfig(data=config.data, cipher=cipher, keys=effort.keys, images=effort.images, seed=config.seed)
        asked.quick = effort.quick
        return prepare(asked)

    def setting(self, place: Place, view: View) -> UpdateSetting:
        """The setting of a place under a view."""
        config, plain = place.chosen(self.config, self.private), self.prepared.setting
        hides = place.policy.keys != "none"
        cipher = resolve(config.cipher) if hides else plain.config
        made = replace(plain, config=cipher, update=place.update(config, view))
        fitted = made.fitted(_SITE_IMAGES)
        # One image makes one update of the diagnostic view.
        return fitted if view.mode == DEPLOYMENT else replace(fitted, update=made.update)


def attackers() -> list[UpdateAttack]:
    """Every attack on updates and models that is no control of others, the cheapest first."""
    found = [kind() for kind in ATTACKS.values() if issubclass(kind, UpdateAttack)]
    return sorted((each for each in found if each.name not in _LEFT_OUT), key=lambda each: each.weight)


def measured_at(ground: Ground, place: Place, view: View, attack: UpdateAttack, *, device: str) -> Result:
    """Measure an attack at a place.

    Raises
    ------
    MedVeilError
        There are too few images, or the place cannot be built.
    """
    effort = ground.effort
    made = attack.quick() if effort.quick else attack
    made.device = device
    until = time.monotonic() + effort.seconds
    setting = ground.setting(place, view)
    return measure(made, setting, notes=ground.prepared.notes, enough=lambda: time.monotonic() > until).result


def write_failure(path: Path, error: MedVeilError) -> None:
    """Write down why a measurement failed; the next time it is tried again."""
    write_json(path, {"format": FAILED, "version": VERSION, "reason": str(error)})


def read_failure(path: Path) -> str:
    """Why a measurement failed; empty where it did not, or was not tried."""
    if not path.is_file():
        return ""
    return str(read_document(path, {"reason": str}, name=FAILED, newest=VERSION)["reason"])
