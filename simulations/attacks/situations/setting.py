"""Where attacks on updates are measured: images, a cipher and keys as for hidden images, and a situation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crypto.base import ImageCipher
from crypto.keys import SimulatedKey
from simulations.attacks.situations.situation import Situation, UpdateConfig, situation_of
from simulations.attacks.study.cases import Case, Hidden, Images, Knowledge
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from medveil.wire import Tensors
    from models.vits import VisionTransformer
    from simulations.attacks.situations.making import Federation, Hospital

GUESS = 2**31
"""What an attacker without the public initial weights draws its own from lies so far from any run's seed."""


@dataclass(frozen=True)
class UpdateSetting(Setting):
    """A setting whose images train a model.

    Attributes
    ----------
    update : UpdateConfig
        How sites train and what is read.
    unprotected : bool
        Whether this is the control: nothing hidden, nothing held back.
    attacked : str
        The scheme of the setting that this is a control of; empty where it is none.
    """

    update: UpdateConfig = field(default_factory=UpdateConfig)
    unprotected: bool = False
    attacked: str = ""

    @cached_property
    def situation(self) -> Situation:
        """The situation that is attacked, also a control's (ConfigError, PolicyError where there can be none)."""
        return situation_of(self.update, scheme=self.attacked or self.config.scheme)

    def under(self, scheme: str | type[ImageCipher]) -> UpdateSetting:
        """As `Setting.under`; without a cipher, the control."""
        made = super().under(scheme)
        assert isinstance(made, UpdateSetting)
        return replace(made, unprotected=scheme == "none", attacked=self.attacked or self.config.scheme)

    def fitted(self, most: int) -> UpdateSetting:
        """The same setting with sites of as many images as there are, at most so many, and as many that none has."""
        half = max(1, len(self.material.attacked) // 2)
        images = max(1, min(most, half // self.update.sites))
        return replace(self, at_most=half, update=replace(self.update, images=images))


@dataclass
class UpdateCase(Case):
    """A case whose images are dealt to the rounds of hospitals.

    Attributes
    ----------
    situation : Situation
        What is attacked.
    federation : Federation
        The model and its training.
    hospitals : list of list of Hospital
        For each update the sites in it.
    """

    situation: Situation = field(kw_only=True)
    federation: Federation = field(kw_only=True)
    hospitals: list[list[Hospital]] = field(kw_only=True)

    @cached_property
    def hidden(self) -> Hidden:
        """What the models read, in the order of the targets."""
        return Hidden(np.concatenate([each.part.images for sites in self.hospitals for each in sites]), None)


def update_case(
    setting: UpdateSetting,
    key: int,
    situation: Situation,
    *,
    updates: int,
    remodel: Callable[[VisionTransformer], None] | None = None,
    send: Callable[[Federation, Case], Tensors] | None = None,
    send_each: Callable[[Federation, list[Hospital]], Tensors] | None = None,
    send_sites: Callable[[Federation, Case], list[Tensors]] | None = None,
) -> UpdateCase:
    """Deal images to hospitals and have them make updates, each of a round of its own from the same weights.

    Parameters
    ----------
    setting
        Images, cipher, keys.
    key
        From 0 to ``keys - 1``; also the seed of the weights.
    situation
        How they train: the setting's, or the control's.
    updates
        How many.
    remodel
        Changes the model in place, for a control of an attack's own.
    send
        Makes the travelling tensors that a server out of hand sends in the place of the public ones.
    send_each
        Makes them anew for each update, by who is in it.
    send_sites
        Makes other ones for each site of a sum.
    """
    from simulations.attacks.situations.making import Exchange, Federation, Hospital, Update  # noqa: PLC0415 - torch

    each = situation.images * situation.sites
    case = setting.case(key, images=updates * each)
    classes = max(2, len(setting.material.source.classes))
    federation = Federation(situation, case.geometry, classes, seed=setting.seed + key, remodel=remodel)
    if send is not None:
        federation.send(send(federation, case))
    apart = None if send_sites is None else [federation.decoded(each) for each in send_sites(federation, case)]
    sites = [_site(setting, key, situation, number) for number in range(situation.sites)]

    def dealt(update: int, site: int) -> Images:
        start = update * each + site * situation.images
        chosen = slice(start, start + situation.images)
        return Images(case.targets.pixels[chosen], case.targets.labels[chosen])

    hospitals = [
        [Hospital(dealt(update, number), cipher, held) for number, (cipher, held) in enumerate(sites)]
        for update in range(updates)
    ]

    def make(place: int) -> Update:
        made = None if send_each is None else federation.decoded(send_each(federation, hospitals[place]))
        return federation.update(hospitals[place], base=made, bases=apart)

    exchange = Exchange(federation, updates, make, guessed=setting.seed + key + GUESS)
    told = {name.name: getattr(case, name.name) for name in fields(Case)}
    told["extra"] = {Knowledge.UPDATES: exchange, Knowledge.WEIGHTS: exchange}
    return UpdateCase(**told, situation=situation, federation=federation, hospitals=hospitals)


def _site(setting: UpdateSetting, key: int, situation: Situation, number: int) -> tuple[ImageCipher, SimulatedKey]:
    """A site's cipher and key: the first one's is the measurement's, the others' the same or their own."""
    name = "attacked" if number == 0 or situation.policy.keys != "per-site" else f"site {number}"
    return setting.cipher(key, site=name), SimulatedKey(setting.seed + key, name)
