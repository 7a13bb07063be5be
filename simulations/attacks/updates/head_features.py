"""Attack `head-features`: the classifier's gradient alone is made of the features of images; whose, candidates tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from crypto.base import Reading
from fl_client.measures import auroc
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Update
from simulations.attacks.situations.setting import UpdateCase
from simulations.attacks.situations.update_attack import UpdateAttack, as_numbers, exchange_of
from simulations.attacks.study.attack import Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]
WEIGHT, BIAS = "head.weight", "head.bias"
_SHORT = 1e-9


class HeadFeatures(UpdateAttack):
    """Tell images that are in an update from others by what the classifier's gradient has of their features."""

    name = "head-features"
    recovers = "facts"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.CANDIDATES})
    needs = frozenset({Capability.UPDATES, Capability.BASICS, Capability.HEAD_UPDATE, Capability.WHOLE_MODEL})
    text = (
        "The gradient of the classifier is, class by class, a weighted sum of the features that enter it, and that of "
        "its bias the sum of the weights. Their quotient is the feature of the image where there is one, exactly, and "
        "else a mean in which the images of the class outweigh the rest. The attacker has images among which those of "
        "an update are, and asks which have such features. It needs nothing but the classifier's update, so it is the "
        "attack that is left in the scope head, and a stem that was adapted to a key and stays home changes nothing: "
        "features are the plain image's. It says who is in an update, and shows no image; features of a trunk that is "
        "known can be searched for like gradients, which is not tried here."
    )
    papers: ClassVar[tuple[str, ...]] = (
        "Phong et al. 2018, doi:10.1109/TIFS.2017.2787987 (linear layers give their inputs away)",
        "Zhao et al. 2020, arXiv:2001.02610 (the classifier's signs)",
    )
    main = "auroc"
    margin = 0.1
    weight = 3.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """AUROC over candidates, and the share of updates whose nearest candidate is in them."""
        return (
            Metric("auroc", "AUROC of images in the update against others of the kind"),
            Metric("nearest", "updates whose nearest candidate is in them"),
        )

    def case(self, setting: Setting, key: int) -> UpdateCase:
        """All images attacked are candidates, and others of their classes with them."""
        return self.among_others(setting, key)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Floats:
        """Nearness (updates, candidates), the larger the nearer."""
        exchange: Exchange = exchange_of(seen)
        features = features_of(exchange, as_numbers(seen.candidates, Reading(exchange.geometry.bits)))
        return np.stack([nearness(update, features) for update in exchange])

    def score(self, found: Floats, case: Case) -> Scores:
        """Over all pairs of an update and a candidate."""
        assert isinstance(case, UpdateCase)
        inside = inside_of(case, found.shape[1])
        ranked = found.ravel()
        return {
            "auroc": auroc(inside.ravel().astype(np.int64), np.stack([-ranked, ranked], axis=1)),
            "nearest": float(inside[np.arange(len(found)), found.argmax(axis=1)].mean()),
        }

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random order."""
        assert isinstance(case, UpdateCase)
        assert case.candidates is not None
        yield {"auroc": 0.5, "nearest": float(inside_of(case, len(case.candidates)).mean())}


def inside_of(case: UpdateCase, candidates: int) -> npt.NDArray[np.bool_]:
    """Which candidates are in which update, bool (updates, candidates); the targets come first among candidates."""
    made = np.zeros((len(case.hospitals), candidates), np.bool_)
    start = 0
    for row, sites in enumerate(case.hospitals):
        count = sum(len(each.images.labels) for each in sites)
        made[row, start : start + count] = True
        start += count
    return made


def features_of(exchange: Exchange, images: Floats) -> Floats:
    """What enters the classifier of images (n, C, H, W), by the attacker's model, without their mean: (n, D)."""
    model = exchange.model(torch.float64)
    with torch.no_grad():
        found: Floats = model.forward_head(model.forward_features(torch.from_numpy(images)), pre_logits=True).numpy()
    return found


def nearness(update: Update, features: Floats) -> Floats:
    """How near each candidate's feature is to the nearest of those that the classes' rows give: float64 (n,).

    A feature is compared without what all candidates share, which is most of it.
    """
    weight, bias = (update.change[name].astype(np.float64) for name in (WEIGHT, BIAS))
    told = np.abs(bias) > _SHORT * max(float(np.abs(bias).max()), _SHORT)
    # A class that fell was given too often: its row is mostly of other classes' images. Both kinds are estimates.
    quotients = weight[told] / bias[told, None]
    middle = features.mean(axis=0)
    made: Floats = cosines(features - middle, quotients - middle).max(axis=1)
    return made


def cosines(one: Floats, other: Floats) -> Floats:
    """Of the rows of one with the rows of another: (m, D), (n, D) to (m, n)."""
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)[None]
    made: Floats = (one @ other.T) / np.maximum(lengths, 1e-30)
    return made
