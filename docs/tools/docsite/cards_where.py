"""Where an attack applies, asked of the program: of every scheme or policy, and a setting in which it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import yaml

if TYPE_CHECKING:
    from crypto.config import CipherConfig
    from simulations.attacks.situations.update_attack import UpdateAttack
    from simulations.attacks.study.attack import Attack

SCHEME, SIDE, BLOCK = "block-pixel", 64, 8
"""Of policies, and of the grey images that are asked about; what depends on sizes is said for these."""
_SHARED = "update.keys=shared update.stem_init=public update.stem_train=averaged"
_SETTINGS = ("", "update.mode=deployment", "update.mode=deployment update.sites=4", _SHARED)
"""Settings of attacks on updates, from the one that says least: a card's command has the first that fits."""
_OWN = {
    "key-from-weights": f"update.mode=deployment {_SHARED}",
    "planted-within": "update.sites=4",
    "loki": "update.sites=4 update.one_model=false",
    "peft-leak": "update.scope=bias update.server_weights=true",
}
"""Settings of attacks that would find next to nothing with less, or that have a setting of their own."""
_VARIED = {
    "only sums of four sites are read": "update.sites=4",
    "sites train an epoch of AdamW over batches of 32": "update.mode=deployment",
    "only the classifier travels": "update.scope=head",
    "the attacker does not know the public initial weights": "update.knows_weights=false",
}


class Where(NamedTuple):
    """What is said of one scheme or policy: why the attack does not apply, or nothing where it does."""

    name: str
    why: str


def by_scheme(attack: Attack) -> list[Where]:
    """What an attack says to each scheme, those that may negate both ways."""
    from crypto.base import Geometry  # noqa: PLC0415
    from simulations.attacks.study.attack import Target  # noqa: PLC0415

    shape = Geometry(channels=1, height=SIDE, width=SIDE, block=BLOCK)
    return [Where(name, attack.applies_to(Target(config, shape)) or "") for name, config in _schemes()]


def _schemes() -> Iterator[tuple[str, CipherConfig]]:
    from crypto.cipher import SCHEMES  # noqa: PLC0415
    from crypto.config import CipherConfig, resolve  # noqa: PLC0415

    for name in SCHEMES.names():
        yield name, resolve(CipherConfig(scheme=name, block=BLOCK))
        if SCHEMES[name].may_negate:
            yield f"{name}+negate", resolve(CipherConfig(scheme=name, block=BLOCK, negate=True))


def by_policy(attack: UpdateAttack, settings: str) -> list[Where]:
    """What an attack says to each policy under block-pixel, everything else as in some settings."""
    from models.policy import POLICIES  # noqa: PLC0415

    told = [each for each in settings.split() if not each.startswith(("update.keys", "update.stem"))]
    found = []
    for policy in POLICIES:
        own = [f"update.keys={policy.keys}", f"update.stem_init={policy.init}", f"update.stem_train={policy.train}"]
        found.append(Where(str(policy), _refusal(attack, [*told, *own])))
    return found


def by_change(attack: UpdateAttack, settings: str) -> list[Where]:
    """What it says where one thing more is changed in some settings."""
    return [Where(name, _refusal(attack, [*settings.split(), more])) for name, more in _VARIED.items()]


def settings_for(attack: UpdateAttack) -> str:
    """The settings of the card's command (ValueError where the attack applies in none that is known here)."""
    for tried in (_OWN[attack.name],) if attack.name in _OWN else _SETTINGS:
        if not _refusal(attack, tried.split()):
            return tried
    raise ValueError(f"'{attack.name}' applies in no setting that {__file__} knows: add one to _SETTINGS")


def _refusal(attack: UpdateAttack, settings: list[str]) -> str:
    from crypto.base import Geometry  # noqa: PLC0415
    from simulations.attacks.situations.situation import UpdateConfig, situation_of  # noqa: PLC0415

    given = dict(each.removeprefix("update.").split("=") for each in settings)
    config = UpdateConfig(**{name: yaml.safe_load(value) for name, value in given.items()})
    here = situation_of(config, scheme="none" if config.keys == "none" else SCHEME)
    shape = Geometry(channels=1, height=SIDE, width=SIDE, block=BLOCK)
    return attack.lacking(here) or attack.unfit(here, shape) or ""
