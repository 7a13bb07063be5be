"""What a situation may lack of what an attacker could have, each by a rule that says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medveil.training import CORE, LIGHT
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.situation import FULL, Situation

HEAD = "head"
_DEPTH = 12
"""Blocks of the default model."""


def _single_site(here: Situation) -> str | None:
    return None if here.sites == 1 else f"secure aggregation shows the server sums of {here.sites} sites only"


def _several_models(here: Situation) -> str | None:
    if here.sites == 1:
        return "each update is read by itself, whatever others were sent"
    return "under masks a site refuses the offers of sites that were sent another model" if here.one_model else None


def _frozen(here: Situation) -> str | None:
    return None if here.server_weights else "frozen weights are taken to be built from the settings, or a publisher's"


def _stem_update(here: Situation) -> str | None:
    if not here.policy.stem_travels:
        return f"the stem stays at the site (stem.train is {here.policy.train})"
    return None if here.train.scope == FULL else f"scope {here.train.scope} sends no patch or position embedding"


def _block_update(here: Situation) -> str | None:
    scope = here.train.scope
    if scope in (HEAD, *LIGHT):
        kind = "a small core" if scope == CORE else "no matrix"
        return f"scope {scope} sends {kind} of the first block"
    if scope != FULL and int(scope.split("-")[1]) < (here.model.depth or _DEPTH):
        return f"scope {scope} does not reach the first block"
    return None


def _whole_model(here: Situation) -> str | None:
    if here.policy.init == "secret":
        return "the stem is secret: it was drawn from the key, and never sent"
    if here.stem_travels and here.train.scope == FULL:
        return None
    return None if here.knows_weights else "the attacker does not know the public initial weights of what is not sent"


def _one_image(here: Situation) -> str | None:
    if here.images * here.sites == 1:
        return None
    return f"{here.images} images of each of {here.sites} sites made the update"


def _linear(here: Situation) -> str | None:
    train = here.train
    return None if train.optimizer == "sgd" else f"{train.optimizer} scales every number of a gradient by itself"


def _plain_candidates(here: Situation) -> str | None:
    if here.policy.keys == "none" or here.policy.init == "adapted":
        return _whole_model(here)
    return "the model reads images hidden under a key that the attacker does not have"


RULES: Mapping[Capability, Callable[[Situation], str | None]] = {
    Capability.SINGLE_SITE: _single_site,
    Capability.SEVERAL_SITES: lambda here: None if here.sites > 1 else "one site sends one update",
    Capability.SEVERAL_MODELS: _several_models,
    Capability.FROZEN: _frozen,
    Capability.INITIAL: lambda here: None if here.knows_weights else "the attacker does not know them",
    Capability.STEM_UPDATE: _stem_update,
    Capability.BLOCK_UPDATE: _block_update,
    Capability.BLOCK_SPAN: lambda here: None if here.train.scope == CORE else _block_update(here),
    Capability.WHOLE_MODEL: _whole_model,
    Capability.ONE_IMAGE: _one_image,
    Capability.ONE_STEP: lambda here: None if here.steps == 1 else f"the round has {here.steps} steps",
    Capability.LINEAR: _linear,
    Capability.PLAIN_CANDIDATES: _plain_candidates,
}
"""What a situation may lack. The rest is had by whoever reads updates and the run's contract, or is the attacker's own
choice: to hold public images, or to break the protocol.
"""


def lacking_in(here: Situation) -> dict[Capability, str]:
    """What no attacker has in a situation, each with the reason."""
    return {what: reason for what, rule in RULES.items() if (reason := rule(here)) is not None}
