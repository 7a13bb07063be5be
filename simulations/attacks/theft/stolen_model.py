"""stolen-model: what a site's trunk, head and stem are worth to somebody without its key, at once and trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from crypto.base import PLAIN, Geometry
from fl_client.batches import generator
from fl_client.measures import auroc
from fl_client.training import RoundPlan, predict, train_round
from fl_client.workbench import pick_device
from medveil.training import TrainConfig
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Part
from simulations.attacks.situations.rounds import Playing, Rounds, Watched, further_images, watched_case
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, Situation
from simulations.attacks.situations.update_attack import UpdateAttack, exchange_of
from simulations.attacks.study.attack import Chance, Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Images, Seen, hide
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float32]

_WAYS = {
    "wrong_key": "the whole model, images hidden under a key of the thief's",
    "as_it_is": "the whole model, plain images",
    "public_stem": "trunk and head behind the public initial stem, plain images",
    "fine_tuned": "trunk and head behind the public initial stem, trained on public images, plain images",
}
_TRIED = 100
"""Public images, at most, that the thief chooses a way by."""


class Loot(NamedTuple):
    """What was stolen, and the plain images the thief would like answers for.

    `whole` is a site's model with its own stem; the rest is what the server's files hold too.
    """

    watched: Watched
    whole: VisionTransformer
    asked: Images


@dataclass
class TheftCase(UpdateCase):
    """A case with images no site trained on, and what the owner answers for them, (n, K)."""

    asked: Images = field(kw_only=True)
    owner: Floats = field(kw_only=True)
    without: Floats = field(kw_only=True)


class StolenModel(UpdateAttack):
    """A thief's ways with a stolen model, and the budget of one that trains it on.

    Parameters
    ----------
    sites
        Sites that train together.
    tested
        Images that the model is asked about, at most.
    public
        Public images that the thief trains on, at most.
    epochs
        Over them.
    """

    name = "stolen-model"
    recovers = "facts"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.PUBLIC})
    needs = frozenset({Capability.UPDATES, Capability.SURROGATE})
    text = (
        "Sites train together, and a thief takes a site's model: trunk, head and the site's own stem, without its key. "
        "It wants answers for plain images. It hides them under a key of its own; shows them to the model as they are; "
        "puts the public initial stem in front of trunk and head; and trains that on public images within a budget. "
        "`auroc` is of the way that does best on other public images. Chance is the same training, with as many images "
        "and epochs, of the public initial weights: what is above it was stolen. The owner's own figures stand beside. "
        "The control is a model that reads plain images."
    )
    papers = ("this project, docs/explanation/policies.md (what a stolen model is worth)",)
    main = "auroc"
    margin = 0.02
    weight = 40.0
    fewest = 3

    def __init__(self, *, sites: int = 3, tested: int = 200, public: int = 100, epochs: int = 5) -> None:
        self.sites, self.tested, self.public, self.epochs = sites, tested, public, epochs

    def quick(self) -> Self:
        """With fewer images."""
        made = copy.copy(self)
        made.tested, made.public, made.weight = 50, 30, 10.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """AUROC and accuracy by each way, and the owner's."""
        made = []
        for name, word in (("auroc", "AUROC"), ("accuracy", "accuracy")):
            made.append(Metric(name, f"{word} by the way that does best on public images", chance=Chance.WITHOUT))
            made += [Metric(f"{name}_{way}", f"{word}: {text}", chance=Chance.WITHOUT) for way, text in _WAYS.items()]
            made.append(Metric(f"{name}_owner", f"{word} of the owner, with the key", chance=Chance.WITHOUT))
        return tuple(made)

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """Something was learned."""
        return None if situation.mode == DEPLOYMENT else "a diagnostic step leaves no model that is worth a theft"

    def notes(self, setting: Setting) -> list[str]:
        """The budget."""
        told = f"The thief trains {self.epochs} epochs on {self.public} public images, at most."
        return [*super().notes(setting), told]

    def control_situation(self, situation: Situation) -> Situation:
        """The same training in plain, with everything sent."""
        plain = situation.unprotected()
        train = replace(situation.train, scope="full")
        here = replace(plain, mode=DEPLOYMENT, train=train, images=situation.images, rounds=situation.rounds)
        return replace(here, wire=situation.wire)

    def case(self, setting: Setting, key: int) -> TheftCase:
        """A run, and its first site's model."""
        assert isinstance(setting, UpdateSetting)
        here = self.control_situation(setting.situation) if setting.unprotected else setting.situation
        made = watched_case(setting, key, here, sites=self.sites, device=str(pick_device(self.device)))
        watched: Watched = made.extra[Knowledge.WEIGHTS]
        asked = further_images(setting, key, dealt=len(made.targets.labels), most=self.tested)
        assert isinstance(made.federation, Rounds)
        owner, last = made.hospitals[0][0], watched.rounds[-1].after
        whole = copy.deepcopy(made.federation.model_of(owner, last)).cpu()
        hidden = hide(owner.cipher, asked.pixels).images
        answers = _answers(whole, Part(hidden, asked.labels, owner.cipher.reading))
        # What has no loot begins where everybody begins.
        poor = self._trained(made.federation.public(), made.public(), np.random.default_rng(setting.seed + key))
        loot = Loot(watched, whole, asked)
        told = {each.name: getattr(made, each.name) for each in fields(UpdateCase)}
        told["extra"] = {Knowledge.UPDATES: loot, Knowledge.WEIGHTS: loot}
        return TheftCase(**told, asked=asked, owner=answers, without=_answers(poor, _plain(asked)))

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[str, Floats]:
        """Answers (n, K) by each way, and by the chosen one under the empty name."""
        loot: Loot = exchange_of(seen)
        playing = Playing(loot.watched, seen.config, seed=int(rng.integers(2**31)))
        public, last = seen.public, loot.watched.rounds[-1].after
        rest = slice(self._spent(public), self._spent(public) + _TRIED)
        tried = Images(public.pixels[rest], public.labels[rest])
        cipher = playing.own(0).cipher

        def ways(images: Images) -> dict[str, Floats]:
            hidden = Part(hide(cipher, images.pixels).images, images.labels, cipher.reading)
            return {
                "wrong_key": _answers(loot.whole, hidden),
                "as_it_is": _answers(loot.whole, _plain(images)),
                "public_stem": _answers(playing.reader(last), _plain(images)),
                "fine_tuned": _answers(trained, _plain(images)),
            }

        trained = self._trained(copy.deepcopy(playing.reader(last)), public, rng)
        rehearsed = {way: auroc(tried.labels, each) for way, each in ways(tried).items()}
        found = ways(loot.asked)
        return found | {"": found[max(rehearsed, key=lambda way: np.nan_to_num(rehearsed[way]))]}

    def score(self, found: dict[str, Floats], case: Case) -> Scores:
        """AUROC and accuracy."""
        assert isinstance(case, TheftCase)
        made: Scores = {}
        for way, answers in {**found, "owner": case.owner}.items():
            suffix = f"_{way}" if way else ""
            made[f"auroc{suffix}"] = auroc(case.asked.labels, answers)
            made[f"accuracy{suffix}"] = float((answers.argmax(axis=1) == case.asked.labels).mean())
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The same training without the loot."""
        assert isinstance(case, TheftCase)
        yield self.score(dict.fromkeys(["", *_WAYS], case.without), replace(case, owner=case.without))

    def _spent(self, public: Images) -> int:
        """Public images that are trained on: no more than leave as many to choose a way by."""
        return min(self.public, max(1, len(public.labels) // 2))

    def _trained(self, model: VisionTransformer, public: Images, rng: np.random.Generator) -> VisionTransformer:
        """A model trained on within the budget, in place."""
        config = TrainConfig(epochs=self.epochs, precision="fp32")
        spent = self._spent(public)
        part = _plain(Images(public.pixels[:spent], public.labels[:spent]))
        seed = int(rng.integers(2**31))
        plan = RoundPlan(round=1, rounds=1, seed=seed, rng=generator(seed, "thief"))
        train_round(model, part, config, plan, trainable=[name for name, _ in model.named_parameters()])
        return model


def _plain(images: Images) -> Part:
    return Part(images.pixels, images.labels, PLAIN)


def _answers(model: VisionTransformer, part: Part) -> Floats:
    return predict(model, part, TrainConfig(precision="fp32"))
