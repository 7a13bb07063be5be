"""Measuring an attack: on its target, on a control that must fall, against chance, and under a wrong key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from crypto.base import ImageCipher
from fl_client.data.rng import generator
from medveil.versions import medveil_version
from simulations.attacks.study.attack import Attack, Chance, Metric, Picture, Scores, best
from simulations.attacks.study.bootstrap import cluster_interval
from simulations.attacks.study.result import ARMS, FEWEST_IMAGES, FEWEST_KEYS, Measured, Result, bounds, verdict_of
from simulations.attacks.study.setting import Setting

Progress = Callable[[], None]


class Outcome(NamedTuple):
    """A result and the images of its figure."""

    result: Result
    pictures: list[Picture]


def measure(
    attack: Attack,
    setting: Setting,
    *,
    notes: Iterable[str] = (),
    progress: Progress | None = None,
    enough: Callable[[], bool] | None = None,
) -> Outcome:
    """Run an attack under every key of a setting, with its control, chance and the wrong key.

    Parameters
    ----------
    attack
        The attack.
    setting
        Images, target cipher and keys.
    notes
        Sentences for the result.
    progress
        Called when a key is done.
    enough
        Asked when a key is done; where it says so, the keys that are left are left out, and the result says that.
    """
    began = time.perf_counter()
    reason = attack.refusal(setting) or _lacking(attack, setting)
    if reason is not None:
        return Outcome(_result(attack, setting, reason=reason, notes=notes), [])
    arms = _Arms(attack, setting)
    for key in range(setting.keys):
        arms.measure(key)
        if progress is not None:
            progress()
        if enough is not None and key + 1 < setting.keys and enough():
            notes = [*notes, f"Stopped by its budget after {key + 1} of {setting.keys} keys."]
            setting = replace(setting, keys=key + 1)
            break
    result = _result(
        attack,
        setting,
        reason=None,
        notes=notes,
        metrics={each.name: _measured(each, arms.scores) for each in attack.metrics},
        reasons=arms.reasons,
        n=arms.attacked,
        attack_seconds=float(np.mean(arms.seconds)),
        seconds=time.perf_counter() - began,
    )
    return Outcome(result, arms.pictures)


def _lacking(attack: Attack, setting: Setting) -> str | None:
    """Why an attack cannot be scored on so few images; None where it can."""
    had = setting.capped(setting.images)
    return None if had >= attack.fewest else f"needs {attack.fewest} images under each key, and may have {had}"


class _Arms:
    """The arms of one measurement, and the scores of each key in them."""

    def __init__(self, attack: Attack, setting: Setting) -> None:
        self.attack, self.setting = attack, setting
        self.control = None if attack.control is None else setting.under(attack.control)
        self.scores: dict[str, list[Scores]] = {arm: [] for arm in ARMS}
        self.reasons = self._reasons()
        self.seconds: list[float] = []
        self.attacked = 0
        self.pictures: list[Picture] = []

    def measure(self, key: int) -> None:
        attack = self.attack
        case = attack.case(self.setting, key)
        began = time.perf_counter()
        found = attack.recover(case.seen(attack.known_in(self.setting)), self._rng("target", key))
        self.seconds.append(time.perf_counter() - began)
        self.scores["target"].append(attack.score(found, case))
        self.scores["chance"].append(best(attack.metrics, attack.guesses(case, self._rng("chance", key))))
        self.attacked += len(case.targets.labels)
        if key == 0:
            self.pictures = attack.pictures(found, case)
        if "wrong_key" not in self.reasons:
            self.scores["wrong_key"].append(attack.run(case, self._rng("wrong key", key), wrong_key=True))
        if self.control is not None:
            control = attack.case(self.control, key)
            self.scores["control"].append(attack.run(control, self._rng("control", key)))

    def _reasons(self) -> dict[str, str]:
        made = {}
        if self.control is None:
            made["control"] = "a diagnostic has no control"
        wrong = self.attack.no_wrong_key
        if not self.setting.cipher(0).needs_key:
            wrong = f"the scheme {self.setting.config.scheme} has no key"
        if wrong is not None:
            made["wrong_key"] = wrong
        if all(metric.chance is Chance.NONE for metric in self.attack.metrics):
            made["chance"] = "no metric has a chance level"
        return made

    def _rng(self, arm: str, key: int) -> np.random.Generator:
        return generator(self.setting.seed + key, "attack", self.attack.name, arm)


def _measured(metric: Metric, scores: dict[str, list[Scores]]) -> Measured:
    values = {arm: [_finite(each.get(metric.name)) for each in keys] for arm, keys in scores.items() if keys}
    if metric.chance is Chance.NONE:
        values.pop("chance", None)
    means = {arm: _mean(each) for arm, each in values.items()}
    intervals = {arm: bounds(cluster_interval([np.nan if v is None else v for v in values[arm]])) for arm in values}
    return Measured(
        **{arm: means.get(arm) for arm in ARMS},
        ci95=intervals,
        unit=metric.unit,
        direction=metric.direction,
        chance_rule=str(metric.chance),
        text=metric.text,
        values=values,
        series=metric.series,
        at=metric.at,
        along=metric.along,
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _mean(values: list[float | None]) -> float | None:
    defined = [each for each in values if each is not None]
    return float(np.mean(defined)) if defined else None


def _result(
    attack: Attack,
    setting: Setting,
    *,
    reason: str | None,
    notes: Iterable[str],
    metrics: dict[str, Measured] | None = None,
    reasons: dict[str, str] | None = None,
    n: int = 0,
    attack_seconds: float | None = None,
    seconds: float = 0.0,
) -> Result:
    made = metrics or {}
    return Result(
        attack=attack.name,
        kind=attack.kind,
        text=attack.text,
        knowledge=sorted(map(str, attack.known_in(setting))),
        papers=list(attack.papers),
        applicable=reason is None,
        reason=reason,
        verdict=verdict_of(kind=attack.kind, reason=reason, main=made.get(attack.main), margin=attack.margin),
        target=attack.described(setting),
        control=control_name(attack.control),
        # Where the scheme is why it does not apply, more images would change nothing.
        data=_data(setting) | (_short_of(attack, setting) if reason in {None, _lacking(attack, setting)} else {}),
        n=n,
        images_per_key=n // setting.keys,
        keys=setting.keys if n else 0,
        seeds=setting.seeds if n else [],
        main=attack.main,
        margin=attack.margin,
        metrics=made,
        reasons=reasons or {},
        notes=[*notes, *(_notes(attack, setting, n=n) if n else [])],
        attack_seconds=attack_seconds,
        seconds=seconds,
        environment={"medveil": medveil_version(), "numpy": np.__version__},
    )


def _short_of(attack: Attack, setting: Setting) -> dict[str, object]:
    """How many images under each key the attack would have taken, where it was given fewer."""
    wanted = max(attack.wanted, attack.fewest)
    return {"images_wanted": wanted} if setting.at_most is not None and setting.at_most < wanted else {}


def _notes(attack: Attack, setting: Setting, *, n: int) -> list[str]:
    made = [*attack.notes(setting), *_too_few(setting.keys, n // setting.keys)]
    short = _short_of(attack, setting)
    if short:
        made.append(
            f"Made for {short['images_wanted']} images under each key, and held to {setting.at_most}: "
            "with more it may recover more."
        )
    return made


def _data(setting: Setting) -> dict[str, object]:
    material = setting.material
    return {
        "source": material.source.name,
        "path": str(material.source.path),
        "classes": list(material.source.classes),
        "images": len(material.items),
        "attacked_pool": len(material.attacked),
        "public_pool": len(material.public),
        "grouped": material.grouped,
        "unreadable": len(material.skipped),
    }


def control_name(control: str | type[ImageCipher] | None) -> str | None:
    """How a control is called."""
    return control if control is None or isinstance(control, str) else control.scheme


def _too_few(keys: int, images: int) -> list[str]:
    made = []
    if keys < FEWEST_KEYS:
        made.append(
            f"Only {keys} keys: a finding takes at least {FEWEST_KEYS}, and with fewer intervals are too narrow."
        )
    if images < FEWEST_IMAGES:
        made.append(f"Only {images} images under each key: a finding takes at least {FEWEST_IMAGES}.")
    return made
