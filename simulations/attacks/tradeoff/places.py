"""Where a consortium may stand: a policy, what of the model trains, and what protects updates besides."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from medveil.errors import ConfigError
from models.policy import POLICIES, Policy
from simulations.attacks.config import update_of
from simulations.attacks.situations.situation import DEPLOYMENT, DIAGNOSTIC, FULL, UpdateConfig
from simulations.config import ExperimentConfig

ALL = "all"
SCOPES = (FULL, "last-2-blocks", "head", "lora-core")
"""Of `train.scope`, unless others are asked for."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Layer:
    """What protects updates besides the policy.

    Attributes
    ----------
    name, text : str
        As typed, and what it is.
    summed : bool
        Whether the server reads sums under masks alone.
    epsilon : float
        What the whole run promises a training image; 0 for no promise.
    """

    name: str
    text: str
    summed: bool = False
    epsilon: float = 0.0


LAYERS: Mapping[str, Layer] = {
    each.name: each
    for each in (
        Layer("plain", "the server reads each site's update"),
        Layer("secagg", "the server reads sums of all sites", summed=True),
        Layer("epsilon-8", "sums, and epsilon 8 for a training image", summed=True, epsilon=8.0),
        Layer("epsilon-3", "sums, and epsilon 3", summed=True, epsilon=3.0),
        Layer("epsilon-1", "sums, and epsilon 1", summed=True, epsilon=1.0),
    )
}
"""From the least to the most."""


@dataclass(frozen=True)
class View:
    """How sites train where they are attacked, and what the attacker knows."""

    name: str
    text: str
    mode: str
    knows_weights: bool = True


VIEWS: Mapping[str, View] = {
    each.name: each
    for each in (
        View("deployment", "sites train as the experiment says", DEPLOYMENT),
        View("diagnostic", "one image, one step of plain SGD: what the literature attacks", DIAGNOSTIC),
        View(
            "deployment-blind", "deployment; the attacker does not know the public initial weights", DEPLOYMENT, False
        ),
        View(
            "diagnostic-blind", "diagnostic; the attacker does not know the public initial weights", DIAGNOSTIC, False
        ),
    )
}
"""The first two are measured unless others are asked for."""


@dataclass(frozen=True)
class Place:
    """One line of the table."""

    policy: Policy
    scope: str
    layer: Layer

    @property
    def label(self) -> str:
        """A name for files: ``per-site.adapted.local.full.secagg``."""
        policy = self.policy
        return ".".join((policy.keys, policy.init, policy.train, self.scope, self.layer.name))

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.policy}, {self.scope}, {self.layer.name}"

    @property
    def twin(self) -> Place | None:
        """The same on plaintext, which training here equals in theory; None where there is none, or it is this one."""
        twin = self.policy.twin
        return None if twin is None or twin == self.policy else replace(self, policy=twin)

    def chosen(self, config: ExperimentConfig, private: ExperimentConfig | None) -> ExperimentConfig:
        """Of an experiment and one for where a number is promised, if there is one, that of this place."""
        return private if self.layer.epsilon and private is not None else config

    def applied(self, config: ExperimentConfig) -> ExperimentConfig:
        """An experiment at this place; it is not changed itself."""
        made = copy.deepcopy(config)
        policy, layer = self.policy, self.layer
        made.keys.policy, made.stem.init, made.stem.train = policy.keys, policy.init, policy.train
        made.train.scope = self.scope
        if policy.keys == "none":
            made.cipher.scheme, made.cipher.negate = "none", False
        if policy.init != "secret" or layer.epsilon:
            made.stem.warmup = 0
        made.secagg.on = layer.summed
        if layer.summed:
            made.kind, made.server.min_updates = "delta", made.sites
        made.privacy.unit = "example" if layer.epsilon else "none"
        if layer.epsilon:
            made.privacy.epsilon = layer.epsilon
            # Made of a site's own counts of classes, which no noise covers.
            made.train.logit_adjustment = 0.0
            # Noise makes an update long: what it may be is bounded by clip and rate.
            made.server.max_change = 0.0
        # Nothing here looks at the rounds before the last, unless the server does.
        looks = bool(made.server.patience) or made.server.keep == "best"
        made.evaluate_first = looks and not layer.epsilon
        return made

    def update(self, config: ExperimentConfig, view: View) -> UpdateConfig:
        """The situation that attacks on updates meet here."""
        made = replace(update_of(self.applied(config)), knows_weights=view.knows_weights, mode=view.mode)
        if view.mode == DIAGNOSTIC:
            return replace(made, batch=None, epochs=None, optimizer=None, lr=None, wire=None)
        return made


BASELINE = Place(Policy("none", "public", "averaged"), FULL, LAYERS["plain"])
"""Plain FedAvg: what accuracy is compared with."""


def places(policies: Iterable[Policy], scopes: Iterable[str], layers: Iterable[Layer]) -> list[Place]:
    """Every place, scope by scope within a policy and layer by layer within a scope."""
    scopes, layers = list(scopes), list(layers)
    return [Place(policy, scope, layer) for policy in policies for scope in scopes for layer in layers]


def chosen_policies(text: str | None) -> list[Policy]:
    """Policies by their words, ``per-site.adapted.local`` by commas; None for the offered ones (ConfigError)."""
    known = {f"{each.keys}.{each.init}.{each.train}": each for each in POLICIES}
    return list(known.values()) if text is None else _named(text, known, "--policies")


def chosen_layers(text: str | None) -> list[Layer]:
    """Layers by name (ConfigError where there is none)."""
    return list(LAYERS.values()) if text is None else _named(text, LAYERS, "--layers")


def chosen_views(text: str) -> list[View]:
    """Views by name (ConfigError where there is none)."""
    return _named(text, VIEWS, "--views")


def chosen_scopes(text: str | None, config: ExperimentConfig) -> list[str]:
    """Scopes, as `train.scope` takes them (ConfigError where it does not)."""
    found = list(SCOPES) if text is None else list(dict.fromkeys(each.strip() for each in text.split(",")))
    for scope in found:
        train = replace(config.train, scope=scope)
        train.check(where="--scopes")
    return found


def _named(text: str, known: Mapping[str, _T], where: str) -> list[_T]:
    made: dict[str, _T] = {}
    for name in (each.strip() for each in text.split(",")):
        if name == ALL:
            made |= known
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"{name[:60]!a} is not known", where=where, cure=f"{guess}one of {', '.join(known)}")
        made[name] = known[name]
    return list(made.values())
