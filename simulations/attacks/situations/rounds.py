"""Several rounds of a situation: what is sent goes round, what is private stays at its site and lasts.

`Federation` makes updates of one round, each from the same weights. Membership, the theft of a model and what a stem
learned ask for a run: its rounds, with the stems that never leave a site as they were when its last round ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crypto.base import Geometry, ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import Key, SimulatedKey
from fl_client.batches import generator
from fl_client.data.rng import generator as drawn_by
from fl_client.site_model import begin_stem, patch_order
from fl_client.training import RoundPlan, train_round
from medveil.wire import Tensors, add_delta
from models.travel import load_tensors, tensors, trainable
from simulations.attacks.situations.making import Exchange, Federation, Hospital, Part, Update, summed
from simulations.attacks.situations.setting import GUESS, UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import DEPLOYMENT, Situation
from simulations.attacks.study.cases import Images, Knowledge, hide

if TYPE_CHECKING:
    from models.vits import VisionTransformer


Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Round:
    """One round as the server has it.

    Attributes
    ----------
    before, after : dict of str to ndarray
        The travelling tensors that sites were sent, and what the server made of what came back.
    changes : list of dict
        What each site changed, as the server decodes it; empty where it reads sums alone.
    """

    before: Tensors
    after: Tensors
    changes: list[Tensors]


class Rounds(Federation):
    """A federation that goes on from round to round.

    Parameters
    ----------
    situation, geometry, classes
        As `Federation`.
    hospitals
        Its sites, with the images they train on in every round.
    seed, device
        As `Federation`.
    """

    def __init__(
        self,
        situation: Situation,
        geometry: Geometry,
        classes: int,
        hospitals: Sequence[Hospital],
        *,
        seed: int,
        device: str = "cpu",
    ) -> None:
        super().__init__(situation, geometry, classes, seed=seed, device=device)
        self.hospitals = list(hospitals)
        self._private = [name for name in self.trainable if name not in self.travelling]
        self._home: dict[int, dict[str, Tensor]] = {}

    def play(self) -> Iterator[Round]:
        """All rounds of the situation, one after the other."""
        base = self.base
        for round_ in range(1, self.situation.rounds + 1):
            changes = []
            for hospital in self.hospitals:
                changes.append(self.sent(hospital, round_=round_, base=base))
                self._home[id(hospital)] = tensors(self.bench.model, self._private)
            single = self.situation.sites == 1
            after = add_delta(base, mean_of(changes) if single else summed(changes))
            yield Round(base, after, changes if single else [])
            base = after

    def model_of(self, hospital: Hospital, given: Tensors) -> VisionTransformer:
        """A site's own model in front of travelling tensors: the bench's, good until the next is made."""
        model = self.bench.reset()
        load_tensors(model, as_torch(given))
        self._begin(model, hospital)
        return model

    def _begin(self, model: VisionTransformer, hospital: Hospital) -> None:
        super()._begin(model, hospital)
        if id(hospital) in self._home:
            load_tensors(model, self._home[id(hospital)])


class Watched(Exchange):
    """An exchange over all rounds of a run: each update is what the server made of one of them.

    Attributes
    ----------
    rounds : list of Round
        What it had in each round.
    """

    def __init__(self, federation: Rounds, *, guessed: int) -> None:
        super().__init__(federation, federation.situation.rounds, self._made, guessed=guessed)
        self._federation = federation

    @cached_property
    def rounds(self) -> list[Round]:
        """All of them."""
        return list(self._federation.play())

    def _made(self, place: int) -> Update:
        found, sites = self.rounds[place], self._federation.hospitals
        change = {name: found.after[name] - found.before[name] for name in found.before}
        return Update(found.before, change, len(sites), sum(len(each.images.labels) for each in sites))


def watched_case(
    setting: UpdateSetting,
    key: int,
    situation: Situation,
    *,
    sites: int,
    device: str,
    relabel: Callable[[Labels], Labels] = np.array,
) -> UpdateCase:
    """Deal images to sites that train together for all rounds of a situation, watched by their server.

    Parameters
    ----------
    setting, key
        As `update_case`.
    situation
        How they train. In the diagnostic mode there is one round: steps at rate 1 are gradients, and no training.
    sites
        How many take part; as many as are summed, where sums are all that is read.
    device
        Where they train.
    relabel
        Gives the labels (n,) of a site others, for controls.
    """
    here = replace(situation, rounds=situation.rounds if situation.mode == DEPLOYMENT else 1)
    count = sites if here.sites == 1 else here.sites
    here = replace(here, images=max(1, setting.capped(count * here.images) // count))
    dealt = update_case(setting, key, replace(here, sites=count), updates=1)
    hospitals = [
        replace(each, images=Images(each.images.pixels, relabel(each.images.labels))) for each in dealt.hospitals[0]
    ]
    seed, classes = setting.seed + key, dealt.federation.classes
    federation = Rounds(here, dealt.geometry, classes, hospitals, seed=seed, device=device)
    watched = Watched(federation, guessed=seed + GUESS)
    told = {name.name: getattr(dealt, name.name) for name in fields(UpdateCase)}
    told |= {"situation": here, "federation": federation, "hospitals": [hospitals]}
    return UpdateCase(**told | {"extra": {Knowledge.UPDATES: watched, Knowledge.WEIGHTS: watched}})


def further_images(setting: UpdateSetting, key: int, *, dealt: int, most: int) -> Images:
    """Images of the attacked half that no site was dealt, and none of a group of theirs; as many as there are.

    Parameters
    ----------
    setting, key
        As `watched_case`.
    dealt
        How many images its sites have.
    most
        How many are wanted.
    """
    material = setting.material
    # The same draw as a case's, which goes on where that ended.
    rng = drawn_by(setting.seed + key, "images")
    places = material.draw(
        dealt + most, pool=material.attacked, rng=rng, at_least=dealt + 1, what="images to attack"
    ).places
    taken = material.groups_of(places[:dealt])
    return material.images([each for each in places[dealt:] if not material.groups_of([each]) & taken])


class Held(NamedTuple):
    """A cipher with its key."""

    cipher: ImageCipher
    key: Key


class Playing:
    """An attacker who plays a site: it trains as sites do, on images of its own, under a key of its own.

    It knows the contract and the public initial weights, as far as the exchange says so; what is sent it has.

    Parameters
    ----------
    exchange
        What it sees.
    config
        The cipher, whose settings are public.
    seed
        Of its keys and draws.
    """

    def __init__(self, exchange: Exchange, config: CipherConfig, *, seed: int) -> None:
        self._exchange, self._config, self._seed = exchange, config, seed
        self._model = exchange.model()
        self._start = tensors(self._model, self._model.state_dict())
        here = exchange.situation
        self._trainable = trainable(self._model, here.policy, here.train.scope)

    @property
    def start(self) -> Tensors:
        """The travelling tensors as sites were first sent them."""
        return {name: self._start[name].float().numpy() for name in self._exchange.travelling}

    def own(self, number: int) -> Held:
        """A key of the attacker's, and a cipher under it."""
        key, shape = SimulatedKey(self._seed, f"attacker {number}"), self._exchange.geometry
        made = make_cipher(self._config, key, channels=shape.channels, height=shape.height, width=shape.width)
        return Held(made, key)

    def after(self, images: Images, *, number: int, rounds: int = 1, held: Held | None = None) -> Tensors:
        """The travelling tensors after some rounds on these images.

        Parameters
        ----------
        images
            The attacker's.
        number
            Another number is another key and another order of images.
        rounds
            How many, from the first.
        held
            The key to hide them under; None for one of the attacker's own.
        """
        here, (cipher, key) = self._exchange.situation, self.own(number) if held is None else held
        model = self.reader({}, held=Held(cipher, key))
        part = Part(hide(cipher, images.pixels).images, images.labels, cipher.reading)
        for round_ in range(1, rounds + 1):
            rng = generator(self._seed, "playing", number, round_)
            plan = RoundPlan(
                round=round_, rounds=here.rounds, seed=int(rng.integers(2**63)), rng=rng, pi=patch_order(cipher)
            )
            train_round(model, part, here.train, plan, trainable=self._trainable)
        found = tensors(model, self._exchange.travelling)
        return {name: each.float().numpy() for name, each in found.items()}

    def reader(self, given: Tensors, *, held: Held | None = None) -> VisionTransformer:
        """The model behind travelling tensors; it is one, good until the next is asked for.

        What was not sent is the public start, moved or drawn by a key where one is held.
        """
        model = self._model
        load_tensors(model, self._start)
        load_tensors(model, as_torch(given))
        if held is not None:
            begin_stem(model, self._exchange.situation.policy, *held)
        return model.eval()


def as_torch(given: Tensors) -> dict[str, Tensor]:
    """Tensors of the wire, for a model."""
    return {name: torch.from_numpy(np.array(each)) for name, each in given.items()}


def mean_of(changes: Sequence[Tensors]) -> Tensors:
    """The plain mean of what sites changed: they have as many images each."""
    return {name: np.mean([each[name] for each in changes], axis=0, dtype=np.float32) for name in changes[0]}
