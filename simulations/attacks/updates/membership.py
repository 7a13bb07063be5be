"""membership: was an image among those a site trained on? By its loss, by references, and by how updates fit it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from crypto.base import PLAIN, Geometry
from fl_client.data.config import DataConfig
from fl_client.data.similar import components, has_neighbour, small
from fl_client.numbers import numbers_of
from fl_client.training import predict
from fl_client.workbench import pick_device
from medveil.training import TrainConfig
from medveil.wire import Tensors, add_delta
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Part
from simulations.attacks.situations.rounds import Held, Playing, Watched, further_images, watched_case
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, Situation
from simulations.attacks.situations.update_attack import UpdateAttack, exchange_of
from simulations.attacks.solvers import members
from simulations.attacks.study.attack import Chance, Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Images, Pixels, Seen, hide
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_METHODS = {
    "loss": "by loss",
    "rmia": "by RMIA",
    "bavaria": "by BaVarIA's Student t",
    "fedmia_loss": "by FedMIA, losses",
    "fedmia_cosine": "by FedMIA, cosines",
}
_RATES = {"tpr_1": (0.01, "1 %"), "tpr_01": (0.001, "0.1 %")}
_POPULATION = 300
"""Public images, at most, that RMIA compares with."""
_REMEMBERED = 16
"""Images of each site of the control."""
_FEWEST_OTHERS = 2
"""Sites besides the target that FedMIA takes a deviation of."""
_ALIKE: float = DataConfig().similar


_TEXT = (
    "The attacker has images with their labels, some of which a site trained on, and watches a whole run. Of the "
    "site's model after its last round, or of the sum's where updates are summed, it asks what probability it "
    "gives each image's class (loss); how that compares with references of its own, trained alike on public "
    "images, and with what public images get (RMIA, gamma 1, a tuned on one reference; BaVarIA, whose prior is "
    "ours). Of each round's updates it asks how the site's fits an image, by the loss behind it or by its cosine "
    "with the image's gradient, beside what other sites' do (FedMIA). `auroc` is FedMIA's by cosines where single "
    "updates of three sites are read, and RMIA's where sums are; all are shown. What was not sent is {shown}. "
    "Images that look alike count once, and none that looks "
    "like a training image is among the others. True-positive rates stand beside bounds of Clopper and Pearson, "
    "and are not told where there are too few others. The control is a run in plain whose labels are dealt at "
    "random: nothing but remembering fits them."
)


@dataclass
class MembershipCase(UpdateCase):
    """A case with candidates: `members` says of each whether the attacked site trained on it, bool (n,)."""

    members: Flags = field(kw_only=True)


class Membership(UpdateAttack):
    """Tell a site's training images from others of the same kind, without the key.

    Parameters
    ----------
    sites
        Sites that train together, where the server reads each; as many as are summed, else.
    references
        Models the attacker trains on public images; the first is what `a` of RMIA is tuned on.
    others
        Images that no site trained on, at most.
    """

    name = "membership"
    recovers = "facts"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.PUBLIC, Knowledge.CANDIDATES})
    needs = frozenset({Capability.UPDATES, Capability.TRAINING, Capability.SURROGATE})
    text = _TEXT.format(shown="the public start, and images are shown to it in plain: the attacker has no key")
    papers = (
        "Yeom et al. 2018, arXiv:1709.01604 (loss)",
        "Zarifzadeh et al. 2024, arXiv:2312.03262 (RMIA)",
        "Brännvall 2026, arXiv:2603.11799 (BaVarIA)",
        "Zhu et al. 2025, arXiv:2402.06289 (FedMIA)",
    )
    main = "auroc"
    margin = 0.05
    weight = 40.0
    fewest = 4

    def __init__(self, *, sites: int = 4, references: int = 3, others: int = 1000) -> None:
        self.sites, self.references, self.others = sites, references, others

    def quick(self) -> Self:
        """With fewer others and references."""
        made = copy.copy(self)
        made.references, made.others, made.weight = 2, 100, 10.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """AUROC, and rates at few false alarms with their bounds, by each method."""
        made = [Metric("auroc", "AUROC of members against others, by the method that the situation allows")]
        made += [Metric(f"auroc_{name}", f"AUROC of members against others, {by}") for name, by in _METHODS.items()]
        for rate, (_, alarms) in _RATES.items():
            for name, by in _METHODS.items():
                text = f"members found at {alarms} false alarms, {by}"
                made.append(Metric(f"{rate}_{name}", text))
                made += [
                    Metric(f"{rate}_{name}_{bound}", f"{word} bound of {text}", direction="none", chance=Chance.NONE)
                    for bound, word in (("low", "lower"), ("high", "upper"))
                ]
        return tuple(made)

    def notes(self, setting: Setting) -> list[str]:
        """Who takes part, and what the attacker trains."""
        assert isinstance(setting, UpdateSetting)
        sites = self.sites if setting.situation.sites == 1 else setting.situation.sites
        return [*super().notes(setting), f"{sites} sites train together; {self.references} references are trained."]

    def control_situation(self, situation: Situation) -> Situation:
        """A run in plain that can but remember: many epochs over few images, every update read."""
        train = TrainConfig(epochs=40, batch_size=16, precision="fp32")
        plain = replace(situation.unprotected(), mode=DEPLOYMENT, train=train, images=_REMEMBERED, rounds=2)
        return replace(plain, wire=situation.wire)

    def case(self, setting: Setting, key: int) -> MembershipCase:
        """A run, watched; its first site's images, and others, in random order."""
        assert isinstance(setting, UpdateSetting)
        here = self.control_situation(setting.situation) if setting.unprotected else setting.situation
        rng = np.random.default_rng(setting.seed + key)
        shuffle = rng.permutation if setting.unprotected else np.array
        made = watched_case(setting, key, here, sites=self.sites, device=str(pick_device(self.device)), relabel=shuffle)
        (hospitals,) = made.hospitals
        dealt = len(made.targets.labels)
        others = further_images(setting, key, dealt=dealt, most=self.others)
        others = Images(others.pixels, shuffle(others.labels))
        chosen, seen = apart(hospitals[0].images, others, made.targets.pixels)
        order = rng.permutation(len(seen))
        asked = Images(chosen.pixels[order], chosen.labels[order])
        told = {each.name: getattr(made, each.name) for each in fields(UpdateCase)}
        held = Held(hospitals[0].cipher, hospitals[0].key)
        told["extra"] = {**made.extra, Knowledge.CANDIDATES: asked, Knowledge.KEY: held}
        return MembershipCase(**told, members=seen[order])

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[str, Floats]:
        """Scores of the candidates (n,), by method."""
        return _Attacker(self, exchange_of(seen), seen, self.held_in(seen), rng).scores()

    def held_in(self, seen: Seen) -> Held | None:
        """The key, where the attacker has it."""
        return None

    def score(self, found: dict[str, Floats], case: Case) -> Scores:
        """AUROC and rates."""
        assert isinstance(case, MembershipCase)
        made: Scores = {metric.name: math.nan for metric in self.metrics}
        for name, each in found.items():
            made[f"auroc_{name}"] = members.auroc(each, case.members)
            for rate, (alarms, _) in _RATES.items():
                caught = members.caught(each, case.members, false_alarms=alarms)
                made |= {
                    f"{rate}_{name}": caught.value,
                    f"{rate}_{name}_low": caught.low,
                    f"{rate}_{name}_high": caught.high,
                }
        made["auroc"] = made["auroc_fedmia_cosine"] if "fedmia_cosine" in found else made["auroc_rmia"]
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """What a coin finds."""
        coin = {f"{rate}_{name}": alarms for rate, (alarms, _) in _RATES.items() for name in _METHODS}
        yield {"auroc": 0.5, **{f"auroc_{name}": 0.5 for name in _METHODS}, **coin}


class MembershipWithKey(Membership):
    """The same by an attacker who has the site's key: it hides the images as the site did, and moves the stem."""

    name = "membership-with-key"
    knowledge = Membership.knowledge | {Knowledge.KEY}
    text = _TEXT.format(
        shown="moved or drawn by the site's key, which the attacker has, and images are shown to it hidden"
    )

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """There is a key."""
        return None if situation.hides else "no key hides the images"

    @property
    def no_wrong_key(self) -> str | None:
        """Another key than the site's."""
        return None

    def held_in(self, seen: Seen) -> Held | None:
        """The site's key; where nothing is hidden, none is needed."""
        held: Any = seen.cipher
        return held if seen.config.scheme != "none" else None

    def run(self, case: Case, rng: np.random.Generator, *, wrong_key: bool = False) -> Scores:
        """With a wrong key: one of the attacker's own."""
        assert isinstance(case, MembershipCase)
        if wrong_key:
            given = exchange_of(case.seen(self.knowledge))
            wrong = Playing(given, case.config, seed=int(rng.integers(2**31))).own(0)
            case = replace(case, extra={**case.extra, Knowledge.KEY: wrong})
        return super().run(case, rng)


class _Attacker:
    """One attacker in front of one run."""

    def __init__(
        self, attack: Membership, watched: Watched, seen: Seen, held: Held | None, rng: np.random.Generator
    ) -> None:
        self._attack, self._watched, self._held, self._rng = attack, watched, held, rng
        self._asked: Any = seen.candidates
        self._public = seen.public
        self._playing = Playing(watched, seen.config, seed=int(rng.integers(2**31)))
        self._single = watched.situation.sites == 1

    def scores(self) -> dict[str, Floats]:
        """By each method that the situation allows."""
        last = self._watched.rounds[-1]
        target = add_delta(last.before, last.changes[0]) if self._single else last.after
        own, told, population = self._signals(target)
        found = {
            "loss": own[0],
            "rmia": members.rmia(own[0], own[1:], population[0], population[1:], a=told),
            "bavaria": members.bavaria(own[0], own[1:], student=True),
        }
        if self._single and self._attack.sites > _FEWEST_OTHERS:
            losses, cosines = self._measures()
            found |= {"fedmia_loss": members.fedmia(losses, 0), "fedmia_cosine": members.fedmia(cosines, 0)}
        return found

    def _signals(self, target: Tensors) -> tuple[Floats, float, Floats]:
        """What target and references answer on candidates, the tuned `a`, and what they answer on the population."""
        refs, here = self._attack.references, self._watched.situation
        order = self._rng.permutation(len(self._public.labels))
        size = min(here.images, len(order) // (refs + 2))
        parts = [order[i * size : (i + 1) * size] for i in range(refs)]
        rest = order[refs * size :][:_POPULATION]
        population = _taken(self._public, rest)
        # Half of what `a` is tuned on is what the first reference was trained on.
        known = _taken(self._public, np.concatenate([parts[0], rest[: len(rest) // 2]]))
        z = _taken(self._public, rest[len(rest) // 2 :])
        rows: dict[str, list[Floats]] = {"own": [], "population": [], "known": [], "z": []}
        asked = {"own": self._asked, "population": population, "known": known, "z": z}
        given = [target]
        for number, part in enumerate(parts):
            trained = _taken(self._public, part)
            given.append(self._playing.after(trained, number=number, rounds=here.rounds, held=self._held))
        for each in given:
            for name, images in asked.items():
                rows[name].append(self._answers(each, images))
        found = {name: np.stack(each) for name, each in rows.items()}
        seen = np.arange(len(known.labels)) < len(parts[0])
        a = members.tuned_a(found["known"][1:], seen, found["z"][1:])
        return found["own"], a, found["population"]

    def _answers(self, given: Tensors, images: Images) -> Floats:
        """The probability of each image's own class (n,) behind some travelling tensors."""
        part = self._part(images)
        model = self._playing.reader(given, held=self._held)
        answers = predict(model, part, self._watched.situation.train)
        return answers[np.arange(len(part.labels)), part.labels].astype(np.float64)

    def _part(self, images: Images) -> Part:
        if self._held is None:
            return Part(np.asarray(images.pixels), images.labels, PLAIN)
        cipher = self._held.cipher
        return Part(hide(cipher, images.pixels).images, images.labels, cipher.reading)

    def _measures(self) -> tuple[Floats, Floats]:
        """Logarithms of probabilities and cosines of updates with gradients, each (rounds, sites, n)."""
        losses, cosines = [], []
        part = self._part(self._asked)
        for each in self._watched.rounds:
            models = [self._answers(add_delta(each.before, change), self._asked) for change in each.changes]
            losses.append(np.log(np.maximum(np.stack(models), 1e-12)))
            cosines.append(descents(self._playing.reader(each.before, held=self._held), part, each.changes))
        return np.stack(losses), np.stack(cosines)


def descents(model: VisionTransformer, part: Part, changes: list[Tensors]) -> Floats:
    """Cosines (sites, n) of what sites changed with the way down from each image's loss."""
    named = {name: each for name, each in model.named_parameters() if name in changes[0]}
    for name, each in model.named_parameters():
        each.requires_grad_(name in named)
    rows = torch.stack([torch.cat([torch.from_numpy(change[name]).flatten() for name in named]) for change in changes])
    rows = functional.normalize(rows, dim=1)
    found = np.zeros((len(changes), len(part.labels)))
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    labels = torch.from_numpy(part.labels)
    for place in range(len(part.labels)):
        x = numbers_of(part, np.array([place]), 0, device, dtype)
        loss = functional.cross_entropy(model(x), labels[place : place + 1])
        slopes = torch.autograd.grad(loss, list(named.values()))
        down = -torch.cat([each.flatten() for each in slopes])
        found[:, place] = (rows @ functional.normalize(down, dim=0)).numpy()
    return found


def apart(seen: Images, others: Images, dealt: Pixels) -> tuple[Images, Flags]:
    """Members and others without what looks alike: their images, and whether each is a member, (n,)."""
    kept = members.first_of_each(components(_small(seen.pixels), _ALIKE))
    near = has_neighbour(_small(others.pixels), _small(dealt), _ALIKE)
    first = members.first_of_each(components(_small(others.pixels), _ALIKE))
    apart = first[~near[first]]
    pixels = np.concatenate([seen.pixels[kept], others.pixels[apart]])
    labels = np.concatenate([seen.labels[kept], others.labels[apart]])
    return Images(pixels, labels), np.arange(len(labels)) < len(kept)


def _small(images: Pixels) -> npt.NDArray[np.uint8]:
    """Small grey versions of (n, C, H, W)."""
    return np.stack([small(each[0] if len(each) == 1 else np.moveaxis(each, 0, -1)) for each in images])


def _taken(images: Images, places: npt.NDArray[np.int64]) -> Images:
    return Images(images.pixels[places], images.labels[places])
