"""fishing: a server sets the classifier alone, so that of a whole batch one class makes the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from crypto.base import Reading
from fl_client.measures import auroc
from medveil.wire import Tensors
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Federation, Hospital, Update
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.update_attack import UpdateAttack, as_numbers, exchange_of
from simulations.attacks.study.attack import Chance, Metric, Scores
from simulations.attacks.study.cases import Case, Images, Pixels, Seen
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.gradient_matching import GradientMatching
from simulations.attacks.updates.head_features import BIAS, WEIGHT, HeadFeatures, cosines, features_of
from simulations.attacks.updates.matched import Match, Target
from simulations.attacks.updates.planted_layer import length

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_LOW, _LOWEST = 15.0, 40.0
"""How far the logit of the class is put below all others; the second under Adam, which makes small gradients large."""
STEP = Metric("step", "length of the server's change beside that of an honest round", "times", "none", Chance.NONE)
BEHIND = Metric("images", "images of the class that was fished for, in an update", "images", "none", Chance.NONE)


class _Angler(UpdateAttack):
    """Updates that are each made on a classifier for the rarest class of the sites in them."""

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """As for any attack on updates, each on a classifier made for it; the images attacked are candidates."""
        assert isinstance(setting, UpdateSetting)
        target = setting.situation
        here = self.control_situation(target) if setting.unprotected else target
        case = update_case(setting, key, here, updates=self.count(setting), send_each=fished)
        case.candidates = np.concatenate([case.targets.pixels, setting.guesses(case.targets, key)[1]])
        return case


class Fishing(_Angler, HeadFeatures):
    """Wen et al.'s class fishing: the feature of one image of a batch, from the classifier alone."""

    name = "fishing"
    needs: ClassVar[frozenset[Capability]] = HeadFeatures.needs | {Capability.MANIPULATION}
    text = (
        "The server sends a classifier of its own making and leaves all else as it was. The rows of all classes are "
        "nothing but one, whose bias is far below the others: images of other classes then send no gradient into that "
        "row nor into the model, and those of that class all of theirs. Which class has fewest images the server has "
        "read from the head's gradients of a round before (label-counts). Where it has one, the row is that image's "
        "feature, exactly, whatever else is in the batch or in a sum over sites; candidates tell whose it is. The "
        "classifier travels in every scope, so that this is left where only biases or small cores train between "
        "weights that sites hold themselves."
    )
    papers = (
        "Wen et al. 2022, arXiv:2202.00580 (Fishing for User Data: the class attack)",
        "Garov et al. 2024, arXiv:2306.03013 (SEER: one image of a batch, by weights trained to hide that they do it)",
        "arXiv:2506.04453 (PEFTLeak: light modules between weights that the server made too)",
    )
    main = "auroc"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of `head-features`, of the images that were fished for; how many they are, and the server's step."""
        return (*super().metrics, BEHIND, STEP)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Floats:
        """Nearness (updates, candidates) of what the class's row gives."""
        exchange: Exchange = exchange_of(seen)
        features = features_of(exchange, as_numbers(seen.candidates, Reading(exchange.geometry.bits)))
        middle = features.mean(axis=0)
        found = np.stack([_feature(update) for update in exchange])
        return cosines(found - middle, features - middle)

    def score(self, found: Floats, case: Case) -> Scores:
        """Over all pairs of an update and a candidate."""
        assert isinstance(case, UpdateCase)
        caught = _caught(case, found.shape[1])
        ranked = found.ravel()
        return {
            "auroc": auroc(caught.ravel().astype(np.int64), np.stack([-ranked, ranked], axis=1)),
            "nearest": float(caught[np.arange(len(found)), found.argmax(axis=1)].mean()),
            BEHIND.name: float(caught.sum(axis=1).mean()),
            STEP.name: step_of(case),
        }

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random order."""
        assert isinstance(case, UpdateCase) and case.candidates is not None
        yield {"auroc": 0.5, "nearest": float(_caught(case, len(case.candidates)).mean())}


class FishingImages(_Angler, GradientMatching):
    """Gradient matching of what class fishing leaves."""

    name = "fishing-images"
    needs: ClassVar[frozenset[Capability]] = GradientMatching.needs | {Capability.MANIPULATION, Capability.HEAD_UPDATE}
    text = (
        "As fishing, and then as gradient-matching: of a batch, or of a sum over sites, the update is that of the "
        "images of one class, which are searched for by all of it that travels: the whole model, biases, small cores, "
        "or a row of the classifier alone. Figures are of the images of that class."
    )
    papers = (*Fishing.papers, *GradientMatching.papers)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of `gradient-matching`; how many images were fished for, and the server's step."""
        return (*super().metrics, BEHIND, STEP)

    def matched(self, exchange: Exchange, place: int, rng: np.random.Generator) -> Match:
        """The images of the class, by what the update has of them."""
        update, shape, here = exchange[place], exchange.geometry, exchange.situation
        chosen = _class_of(update)
        count = 1
        if here.train.optimizer == "sgd" and here.steps == 1:
            # Each image of the class raises its bias alike; those of others hardly move it.
            count = max(1, round(float(update.change[BIAS][chosen]) * update.images / here.train.lr))
        model = exchange.model(torch.float64 if self.precision == "fp64" else torch.float32, sent=update.before)
        target = Target(model, _only_row(update.change, chosen), np.full(count, chosen, np.int64))
        return self.searched(target, (count, shape.channels, *shape.padded), here, rng)

    def score(self, found: Any, case: Case) -> Scores:
        """Over the images of each update's class."""
        assert isinstance(case, UpdateCase)
        caught = catch(case)
        behind = len(caught.targets.labels) / len(caught.hospitals)
        return super().score(found, caught) | {BEHIND.name: behind, STEP.name: step_of(case)}

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """Of the same images."""
        assert isinstance(case, UpdateCase)
        return super().guesses(catch(case), rng)

    def pictures(self, found: Any, case: Case) -> Any:
        """Of the same images."""
        assert isinstance(case, UpdateCase)
        return super().pictures(found, catch(case))


def fished(federation: Federation, hospitals: list[Hospital]) -> Tensors:
    """The travelling tensors with a classifier that only the rarest class of these sites passes."""
    made = {name: each.copy() for name, each in federation.base.items()}
    chosen = rarest(hospitals)
    quiet = federation.situation.train.optimizer != "sgd"
    row = np.random.default_rng(0).standard_normal(made[WEIGHT].shape[1])
    made[WEIGHT][:] = 0.0
    made[WEIGHT][chosen] = row / np.linalg.norm(row)
    made[BIAS][:] = 0.0
    made[BIAS][chosen] = -_LOWEST if quiet else -_LOW
    return made


def rarest(hospitals: list[Hospital]) -> int:
    """The class with the fewest images, and any, among those of some sites."""
    labels = np.concatenate([each.images.labels for each in hospitals])
    classes, counts = np.unique(labels, return_counts=True)
    return int(classes[counts.argmin()])


def catch(case: UpdateCase) -> UpdateCase:
    """The case with the images alone that were fished for."""
    hospitals, kept, start = [], [], 0
    for sites in case.hospitals:
        chosen = rarest(sites)
        left = []
        for each in sites:
            places = np.flatnonzero(each.images.labels == chosen)
            kept.append(start + places)
            start += len(each.images.labels)
            if len(places):
                left.append(replace(each, images=_some(each.images, places)))
        hospitals.append(left)
    places = np.concatenate(kept)
    guessed = case.guess_images

    def guesses() -> list[Pixels]:
        return [each[places] for each in guessed()]

    made = replace(case, targets=_some(case.targets, places), guess_images=guesses)
    made.hospitals = hospitals
    return made


def _class_of(update: Update) -> int:
    """The class that was fished for, as whoever made the classifier knows."""
    return int(update.before[BIAS].argmin())


def _feature(update: Update) -> Floats:
    """What entered the classifier of the class's images, their mean: (D,)."""
    chosen = _class_of(update)
    rose = float(update.change[BIAS][chosen])
    made: Floats = update.change[WEIGHT][chosen].astype(np.float64) / (rose or 1.0)
    return made


def _caught(case: UpdateCase, candidates: int) -> Flags:
    """Which candidates are images that were fished for, bool (updates, candidates)."""
    made = np.zeros((len(case.hospitals), candidates), np.bool_)
    start = 0
    for row, sites in enumerate(case.hospitals):
        labels = np.concatenate([each.images.labels for each in sites])
        made[row, start : start + len(labels)] = labels == rarest(sites)
        start += len(labels)
    return made


def _some(images: Images, places: npt.NDArray[np.intp]) -> Images:
    return Images(images.pixels[places], images.labels[places])


def _only_row(change: Tensors, chosen: int) -> Tensors:
    """An update without what other classes' images left in the classifier."""
    made = dict(change)
    for name in (WEIGHT, BIAS):
        made[name] = np.zeros_like(change[name])
    made[WEIGHT][chosen] = change[WEIGHT][chosen]
    return made


def step_of(case: UpdateCase) -> float:
    """How far the first update's model is from the one before, in lengths of an honest round of the same sites."""
    federation, sites = case.federation, case.hospitals[0]
    honest = federation.update(sites).change
    sent = fished(federation, sites)
    return length({name: sent[name] - federation.base[name] for name in sent}) / length(honest)
