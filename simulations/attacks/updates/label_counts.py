"""label-counts: how many images of each class a site trained on, from what it changed of the classifier."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from models.vit import normalise
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Update
from simulations.attacks.situations.rounds import Playing
from simulations.attacks.situations.setting import UpdateCase
from simulations.attacks.situations.update_attack import UpdateAttack, exchange_of
from simulations.attacks.solvers.labels import Taught, classes_told, counts_of, label_of_one, share_told, whole
from simulations.attacks.study.attack import Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Images, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

BIAS = "head.bias"
_ASKED = 100
"""Public images that the mean answer is taken of."""
_TEXTS = {
    "": "told by what suits the optimiser",
    "_closed": "told by the gradient's closed form",
    "_taught": "told by training alike on public images",
}


class LabelCounts(UpdateAttack):
    """Read labels from the bias of the head.

    Parameters
    ----------
    played
        Rounds the attacker trains of its own, to learn what updates tell of labels.
    """

    name = "label-counts"
    recovers = "facts"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.PUBLIC})
    needs = frozenset({Capability.UPDATES, Capability.TRAINING, Capability.SURROGATE, Capability.HEAD_UPDATE})
    text = (
        "The gradient of the classifier's bias is the mean answer of the model less the shares of the labels. Of one "
        "image its only negative entry is the label; of more, counts follow from what the model answers on average, "
        "which is taken of public images. That is exact for one step of plain SGD. Of many steps and of AdamW the "
        "attacker trains as sites do, on public images in proportions of its own, and fits by least squares what the "
        "change of the bias tells of them; which of the two is used is fixed by the contract, not by what comes out. "
        "Sites have classes in proportions of their own, drawn at random. The figure is the share of images whose "
        "class the counts name, of an update or of a sum. The head travels under every policy and scope."
    )
    papers = (
        "Zhao et al. 2020, arXiv:2001.02610 (iDLG: the label of one image)",
        "Wainakh et al. 2022, arXiv:2105.09369 (LLG: counts from the head's gradient)",
        "Chen and Vikalo 2024, arXiv:2405.00955 (labels from local updates)",
    )
    main = "share"
    margin = 0.05
    weight = 3.0

    def __init__(self, *, played: int = 24) -> None:
        self.played = played

    def quick(self) -> Self:
        """With fewer rounds played."""
        made = copy.copy(self)
        made.played = 8
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of images and of classes told, by each way."""
        kinds = (("share", "images whose class is told"), ("classes", "classes told to be there or not"))
        return tuple(Metric(f"{name}{way}", f"{text}, {by}") for name, text in kinds for way, by in _TEXTS.items())

    def notes(self, setting: Setting) -> list[str]:
        """Which way the attacker chooses."""
        return [*super().notes(setting), f"The attacker plays {self.played} rounds of its own where it has to learn."]

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """Updates of sites that have classes in proportions of their own: alike ones, the public prior would tell."""
        made = super().case(setting, key)
        rng, classes = np.random.default_rng(setting.seed + key), made.federation.classes
        for sites in made.hospitals:
            sites[:] = [
                replace(each, images=mixed(each.images, len(each.images.labels), classes, rng)) for each in sites
            ]
        return made

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[str, list[Indices]]:
        """Counts of each update, by each way."""
        exchange: Exchange = exchange_of(seen)
        answer = mean_answer(exchange, seen.public)
        taught = self._taught(exchange, seen, rng)
        found: dict[str, list[Indices]] = {way: [] for way in _TEXTS}
        linear = exchange.situation.train.optimizer == "sgd" and exchange.situation.steps == 1
        for update in exchange:
            closed, learnt = closed_form(update, exchange, answer), taught.counts(bias_of(update), update.images)
            for way, counts in (("_closed", closed), ("_taught", learnt), ("", closed if linear else learnt)):
                found[way].append(counts)
        return found

    def score(self, found: dict[str, list[Indices]], case: Case) -> Scores:
        """Compare with the true counts, mean over updates."""
        assert isinstance(case, UpdateCase)
        true = true_counts(case)
        made: Scores = {}
        for way, counts in found.items():
            pairs = list(zip(counts, true, strict=True))
            made[f"share{way}"] = float(np.mean([share_told(*pair) for pair in pairs]))
            made[f"classes{way}"] = float(np.mean([classes_told(*pair) for pair in pairs]))
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """Counts in the proportions of public images; as many of each class; all of the most frequent class."""
        assert isinstance(case, UpdateCase)
        classes = case.federation.classes
        public = np.bincount(case.public().labels, minlength=classes) / len(case.public().labels)
        most = np.eye(classes)[int(public.argmax())]
        for shares in (public, np.full(classes, 1 / classes), most):
            counts = [whole(shares, int(true.sum())) for true in true_counts(case)]
            yield self.score(dict.fromkeys(_TEXTS, counts), case)

    def _taught(self, exchange: Exchange, seen: Seen, rng: np.random.Generator) -> Taught:
        playing = Playing(exchange, seen.config, seed=int(rng.integers(2**31)))
        before = exchange_start(exchange)
        updates, shares = [], []
        for number in range(self.played):
            images = mixed(seen.public, exchange.situation.images, exchange.classes, rng)
            after = playing.after(images, number=number)
            updates.append((after[BIAS] - before).astype(np.float64))
            shares.append(np.bincount(images.labels, minlength=exchange.classes) / len(images.labels))
        return Taught(np.stack(updates), np.stack(shares))


def bias_of(update: Update) -> Floats:
    """What an update changed of the head's bias, float64 (K,)."""
    return update.change[BIAS].astype(np.float64)


def closed_form(update: Update, exchange: Exchange, answer: Floats) -> Indices:
    """Counts by the closed form, taking the change for one step of SGD at the peak rate."""
    train = exchange.situation.train
    gradient = bias_of(update) / -train.lr
    if update.images == 1:
        return np.bincount([label_of_one(gradient)], minlength=exchange.classes)
    return counts_of(gradient, update.images, probabilities=answer, smoothing=train.label_smoothing)


def exchange_start(exchange: Exchange) -> npt.NDArray[np.float32]:
    """The head's bias as sites were sent it."""
    found: npt.NDArray[np.float32] = exchange.model().state_dict()[BIAS].numpy()
    return found


@torch.no_grad()
def mean_answer(exchange: Exchange, public: Images) -> Floats:
    """What the attacker's model answers on public images on average, float64 (K,)."""
    model = exchange.model()
    numbers = normalise(torch.from_numpy(np.array(public.pixels[:_ASKED])))
    made: Floats = model(numbers).double().softmax(1).mean(0).numpy()
    return made


def mixed(images: Images, n: int, classes: int, rng: np.random.Generator) -> Images:
    """So many images in proportions of classes drawn at random (flat Dirichlet), repeated where a class has few."""
    shares = rng.dirichlet(np.ones(classes))
    present = np.bincount(images.labels, minlength=classes) > 0
    counts = whole(np.where(present, shares, 0.0), n)
    counts[~present] = 0
    rows = [rng.choice(np.flatnonzero(images.labels == label), count) for label, count in enumerate(counts) if count]
    chosen = rng.permutation(np.concatenate(rows))
    return Images(images.pixels[chosen], images.labels[chosen])


def true_counts(case: UpdateCase) -> list[Indices]:
    """Counts of the images behind each update."""
    found: list[Any] = []
    for sites in case.hospitals:
        labels = np.concatenate([each.images.labels for each in sites])
        found.append(np.bincount(labels, minlength=case.federation.classes))
    return found
