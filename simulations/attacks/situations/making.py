"""Updates as hospitals make them: the site's own training, what travels, the wire, and sums as masks leave them.

Nothing here is a model of a site: stems begin, rounds train, tensors travel and are encoded by the code that sites run
(`fl_client`, `models`, `medveil.wire`, `medveil.secagg`). Masks themselves are left out: what they hide cancels in the
sum, to the last bit.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from crypto.base import Geometry, ImageCipher, Reading
from crypto.keys import Key
from fl_client.batches import generator
from fl_client.privacy.accountant import Charge, noise_for
from fl_client.privacy.chance import Chance
from fl_client.privacy.training import Hidden, train_hidden
from fl_client.site_model import begin_stem, patch_order
from fl_client.training import RoundPlan, train_round
from fl_client.workbench import Workbench, workbench
from medveil.contract import RunConfig
from medveil.privacy import PrivacyConfig
from medveil.secagg.config import SecAggConfig
from medveil.secagg.fixed import FixedPoint, clipped
from medveil.wire import Tensors, decode, delta, encode, pack, unpack
from models.config import ModelConfig
from models.travel import load_tensors, tensors, trainable, travelling
from simulations.attacks.situations.situation import Situation
from simulations.attacks.study.cases import Images, Pixels, hide

if TYPE_CHECKING:
    from models.vits import VisionTransformer


@dataclass(frozen=True)
class Part:
    """Hidden images (n, C, H, W) and their classes, as a store gives them to training."""

    images: Pixels
    labels: npt.NDArray[np.int64]
    reading: Reading

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> Pixels:
        """Images of these indices; there is one view."""
        return self.images[indices]


@dataclass(frozen=True)
class Hospital:
    """A site with a key, and the plain images of its round."""

    images: Images
    cipher: ImageCipher
    key: Key

    @property
    def part(self) -> Part:
        """Its images as its model reads them."""
        hidden = hide(self.cipher, self.images.pixels)
        return Part(hidden.images, self.images.labels, self.cipher.reading)


@dataclass(frozen=True)
class Update:
    """What the server has of a round: the tensors it sent, and by how much they changed at a site, or on average.

    Attributes
    ----------
    before : dict of str to ndarray
        The travelling tensors as sites decoded them, fp32.
    change : dict of str to ndarray
        After the wire, fp32; the mean over sites where they are summed.
    sites, images : int
        How many are in it.
    """

    before: Tensors
    change: Tensors
    sites: int
    images: int


class Exchange(Sequence[Update]):
    """All that crosses the wire, and what the attacker knows besides: updates are made when they are asked for.

    Attributes
    ----------
    situation : Situation
        How they were made; the contract of a run is public.
    geometry : Geometry
        Shape of images and patches.
    classes : int
        Of the classifier.
    travelling : tuple of str
        Names of what is sent.
    """

    def __init__(
        self,
        federation: Federation,
        count: int,
        make: Callable[[int], Update],
        *,
        guessed: int,
    ) -> None:
        self.situation, self.geometry = federation.situation, federation.geometry
        self.classes, self.travelling = federation.classes, federation.travelling
        self._public = federation.public(None if self.situation.knows_weights else guessed)
        self._base, self._count, self._make = federation.base, count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        return self._make(range(self._count)[place])

    def __iter__(self) -> Iterator[Update]:
        return (self._make(place) for place in range(self._count))

    def model(self, dtype: torch.dtype = torch.float32, *, sent: Tensors | None = None) -> VisionTransformer:
        """The attacker's model: what was sent, and for the rest the public start where it knows that, else a guess."""
        model = copy.deepcopy(self._public).to(dtype)
        given = self._base if sent is None else sent
        load_tensors(model, {name: torch.from_numpy(each).to(dtype) for name, each in given.items()})
        return model.eval()


class Federation:
    """The sites of a situation and the model they share.

    Parameters
    ----------
    situation
        How they train.
    geometry
        Shape of images; a block is a patch.
    classes
        Of the classifier.
    seed
        Of weights and of what training draws.
    device
        Where sites train.
    remodel
        Changes the model in place, its weights too, which are then the public ones: for a control of an attack's own,
        or for weights that the server handed out.
    """

    def __init__(
        self,
        situation: Situation,
        geometry: Geometry,
        classes: int,
        *,
        seed: int,
        device: str = "cpu",
        remodel: Callable[[VisionTransformer], None] | None = None,
    ) -> None:
        self.situation, self.geometry, self.classes = situation, geometry, classes
        self._seed, self._device, self._remodel = seed, torch.device(device), remodel
        self.bench = self._built(seed)
        model, scope = self.bench.model, situation.train.scope
        personal = situation.train.personal
        self.travelling = tuple(travelling(model, situation.policy, scope, personal=personal))
        self.trainable = tuple(trainable(model, situation.policy, scope))
        public = {name: self.bench.public[name].cpu().numpy().astype(np.float32) for name in self.travelling}
        self.base = self._over_the_wire(public)

    def send(self, planted: Tensors) -> None:
        """Begin with tensors of the server's own making; sites decode them as any others."""
        self.base = self.decoded(planted)

    def decoded(self, given: Tensors) -> Tensors:
        """Tensors as sites have them after the wire."""
        return self._over_the_wire(given)

    def public(self, seed: int | None = None) -> VisionTransformer:
        """The model as everybody builds it from the contract; of another seed, what somebody without it may guess."""
        bench = self.bench if seed is None else self._built(seed)
        return copy.deepcopy(bench.reset()).cpu()

    def trained(self, hospital: Hospital, *, round_: int = 1, base: Tensors | None = None) -> VisionTransformer:
        """A site's model after its round of training: the bench's own, good until the next is trained."""
        model = self.bench.reset()
        given = self.base if base is None else base
        load_tensors(model, {name: torch.from_numpy(each).to(self.bench.dtype) for name, each in given.items()})
        self._begin(model, hospital)
        train, part = self.situation.train, hospital.part
        place = hospital.key.fingerprint
        plan = RoundPlan(
            round=round_,
            rounds=self.situation.rounds,
            seed=int(generator(self._seed, "torch", place, round_).integers(2**63)),
            rng=generator(self._seed, "train", place, round_),
            pi=patch_order(hospital.cipher) if train.patch_dropout > 0 else None,
        )
        if self.situation.epsilon:
            train_hidden(model, part, train, plan, self._hidden(hospital, round_), trainable=self.trainable)
        else:
            train_round(model, part, train, plan, trainable=self.trainable)
        return model

    def sent(self, hospital: Hospital, *, round_: int = 1, base: Tensors | None = None) -> Tensors:
        """What a site's round changed, as the server decodes it."""
        before = self.base if base is None else base
        model = self.trained(hospital, round_=round_, base=base)
        after = {name: each.float().numpy() for name, each in tensors(model, self.travelling).items()}
        if self.situation.sites > 1:
            # Sums are of numbers in fixed point, whatever the wire of the run is.
            return delta(after, before)
        if self.situation.kind == "delta":
            return self._over_the_wire(delta(after, before))
        return delta(self._over_the_wire(after), before)

    def update(
        self,
        hospitals: Sequence[Hospital],
        *,
        round_: int = 1,
        base: Tensors | None = None,
        bases: Sequence[Tensors] | None = None,
    ) -> Update:
        """What the server gets of these sites: the update of one, or the mean that a sum under masks opens to.

        Parameters
        ----------
        hospitals
            Who is in it.
        round_
            The round.
        base
            What they were sent; None for what all are sent.
        bases
            A model for each of them instead. What the update says was sent is the first.
        """
        given = [base] * len(hospitals) if bases is None else bases
        before = self.base if given[0] is None else given[0]
        changes = [self.sent(each, round_=round_, base=own) for each, own in zip(hospitals, given, strict=True)]
        change = changes[0] if self.situation.sites == 1 else summed(changes)
        return Update(before, change, len(hospitals), sum(len(each.images.labels) for each in hospitals))

    def _begin(self, model: VisionTransformer, hospital: Hospital) -> None:
        """Give a model with public tensors the stem that a site's round begins with."""
        begin_stem(model, self.situation.policy, hospital.cipher, hospital.key)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _built(self, seed: int) -> Workbench:
        model = replace(sized(self.situation.model, self.geometry), classes=self.classes)
        train = dataclasses.asdict(self.situation.train)
        run = RunConfig(seed=seed, model=dataclasses.asdict(model), train=train)
        bench = workbench(run, self._device)
        if self._remodel is None:
            return bench
        changed = copy.deepcopy(bench.reset())
        self._remodel(changed)
        public = {name: tensor.detach().clone() for name, tensor in changed.state_dict().items()}
        return replace(bench, model=changed, public=public)

    def _over_the_wire(self, given: Tensors) -> Tensors:
        wire = self.situation.wire
        return decode(encode(given, wire), wire)

    def _hidden(self, hospital: Hospital, round_: int) -> Hidden:
        train, n = self.situation.train, len(hospital.images.labels)
        told = PrivacyConfig(unit="example", epsilon=self.situation.epsilon)
        rate, steps = min(1.0, train.batch_size / n), train.epochs * math.ceil(n / train.batch_size)
        noise = noise_for(told.epsilon, told.delta, rate=rate, steps=self.situation.rounds * steps)
        drawn = hashlib.sha256(f"{self._seed}/noise/{hospital.key.fingerprint}/{round_}".encode()).digest()
        return Hidden(told.clip, Charge(noise, rate, steps), [np.array([row]) for row in range(n)], Chance(drawn))


def sized(model: ModelConfig, geometry: Geometry) -> ModelConfig:
    """A model for images of this shape, with a block as a patch."""
    return replace(model, image_size=geometry.padded[0], patch=geometry.block, channels=geometry.channels)


def summed(changes: Sequence[Tensors]) -> Tensors:
    """The mean of updates as secure aggregation opens it: each scaled to the clip, and added up in fixed point."""
    told, shapes = SecAggConfig(on=True), {name: each.shape for name, each in changes[0].items()}
    fixed = FixedPoint(told.clip, told.bits, len(changes))
    total = np.zeros(sum(math.prod(shape) for shape in shapes.values()), np.uint32)
    for change in changes:
        flat = pack(encode(change, "fp32")).astype(np.float32, copy=False)
        total += fixed.encode(clipped(flat, told.clip)[0], 1 / len(changes))
    mean = fixed.decode(total & fixed.mask, 1.0)
    return decode(unpack(mean, shapes), "fp32")
