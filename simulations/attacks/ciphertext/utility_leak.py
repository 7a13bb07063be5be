"""utility-leak: what a model without the key learns from ciphertexts. What makes them useful gives them away."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fl_client.measures import auroc
from simulations.attacks.solvers.schemes import may_negate
from simulations.attacks.solvers.signatures import block_tones, tones
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Labelled, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[Any]
Found = dict[tuple[str, str], Floats]
"""Scores (targets, classes) by what is asked and by the learner."""

_LEARNERS = {
    "tones": "trees on histograms of image and blocks",
    "values": "a support vector machine on the values",
    "vit": "a small ViT",
}
TREES = 200
_ASKED = {"class": tuple(_LEARNERS), "site": ("tones", "values")}
_MEASURES = {"auroc": "AUROC", "accuracy": "accuracy"}


class UtilityLeak(Attack):
    """Learn classes and sites from labelled ciphertexts, and read them off others of the key.

    Parameters
    ----------
    labelled
        Ciphertexts with labels, at most.
    vit_keys
        Keys, the first, under which the ViT is trained too.
    trees
        Trees of each forest.
    """

    name = "utility-leak"
    recovers = "facts"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.LABELLED})
    text = (
        "The attacker has some ciphertexts with their labels and no key, and wants the labels of other patients' "
        "ciphertexts: their class, and the site they are from, all hidden under one key. Three learners: extremely "
        "randomised trees on what any permutation leaves alone (quantiles of the values of the image and of what "
        "survives in its blocks), a support vector machine with a radial kernel on the values as they stand, which is "
        "blind to every fixed permutation, negation or rotation, and a small ViT. In the arm wrong key the labelled "
        "ciphertexts are of another key: what is then still read needs no label under the attacked key at all, since "
        "anyone can hide labelled public images under a key of their own. In phantoms a site is a scanner. That a "
        "model learns from ciphertexts is what they are made for; this is the same figure, read as what they tell."
    )
    papers = (
        "Ranke et al. 2026 (utility alone misleads)",
        "Carlini et al. 2021, arXiv:2108.07256 (what an encoding keeps can be learnt)",
    )
    main = "class_auroc_values"
    margin = 0.1
    weight = 30.0
    control = "none"

    def __init__(self, *, labelled: int = 500, vit_keys: int = 3, trees: int = TREES) -> None:
        self.labelled, self.vit_keys, self.trees = labelled, vit_keys, trees
        self.wanted = labelled

    def quick(self) -> Self:
        """Without the ViT."""
        made = copy.copy(self)
        made.vit_keys, made.weight = 0, 4.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """AUROC and accuracy of each learner on each question."""
        return tuple(
            Metric(
                f"{asked}_{measure}_{learner}",
                f"{text} of the {asked}, by {_LEARNERS[learner]}",
                chance=Chance.SHUFFLED,
            )
            for measure, text in _MEASURES.items()
            for asked, learners in _ASKED.items()
            for learner in learners
        )

    def notes(self, setting: Setting) -> list[str]:
        """Sites, where the source names none; keys of the ViT."""
        made = []
        if setting.keys > self.vit_keys:
            made.append(f"The ViT is trained under the first {self.vit_keys} keys.")
        if not setting.material.sites:
            made.append("The source names no sites (nor scanners): what is said of them is not applicable.")
        return made

    def case(self, setting: Setting, key: int) -> Case:
        """Labelled ciphertexts from the public half, so that no patient is on both sides."""
        return setting.case(key, labelled=self.labelled)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Learn from the labelled, answer for the rest."""
        return self._answers(seen, seen.labelled, rng)

    def score(self, found: Found, case: Case) -> Scores:
        """AUROC and accuracy of every answer."""
        truth = {"class": case.targets.labels, "site": case.sites}
        made: Scores = {}
        for (asked, learner), answers in found.items():
            true = truth[asked]
            assert true is not None
            columns = np.full((len(true), max(answers.shape[1], 1 + int(true.max()))), answers.min())
            columns[:, : answers.shape[1]] = answers
            made[f"{asked}_auroc_{learner}"] = auroc(true, columns)
            made[f"{asked}_accuracy_{learner}"] = float((columns.argmax(axis=1) == true).mean())
        return {metric.name: made.get(metric.name, math.nan) for metric in self.metrics}

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The same learners, taught shuffled labels."""
        seen = case.seen(self.knowledge)
        told = seen.labelled
        order = rng.permutation(len(told.labels))
        sites = None if told.sites is None else told.sites[order]
        yield self.score(self._answers(seen, Labelled(told.hidden, told.labels[order], sites), rng), case)

    def _answers(self, seen: Seen, told: Labelled, rng: np.random.Generator) -> Found:
        images, hidden = told.hidden.images, seen.ciphertexts.images
        seed = int(rng.integers(2**31))
        features = [_key_free(each, seen) for each in (images, hidden)]
        flat = [each.reshape(len(each), -1).astype(np.float32) for each in (images, hidden)]
        made: Found = {}
        for asked, labels in (("class", told.labels), ("site", told.sites)):
            if labels is None:
                continue
            made[asked, "tones"] = by_trees(features[0], labels, features[1], seed=seed, trees=self.trees)
            made[asked, "values"] = by_kernel(flat[0], labels, flat[1])
        if seen.number < self.vit_keys:
            made["class", "vit"] = _by_vit(images, told.labels, hidden, block=seen.geometry.block, rng=rng)
        return made


def by_trees(features: Floats, labels: Indices, asked: Floats, *, seed: int, trees: int = TREES) -> Floats:
    """Class probabilities (asked, classes) of extremely randomised trees (Geurts et al. 2006)."""
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415 - slow to import

    model = ExtraTreesClassifier(trees, min_samples_leaf=2, random_state=seed).fit(features, labels)
    return _in_columns(model.predict_proba(asked), model.classes_)


def by_kernel(values: npt.NDArray[np.float32], labels: Indices, asked: npt.NDArray[np.float32]) -> Floats:
    """One-against-rest scores (asked, classes) of a support vector machine with a radial kernel.

    It sees distances only, as a share of their mean, which no permutation, negation or orthogonal matrix changes.
    """
    from sklearn.metrics.pairwise import euclidean_distances  # noqa: PLC0415
    from sklearn.svm import SVC  # noqa: PLC0415

    present = np.unique(labels)
    if len(present) < 2:
        return _in_columns(np.zeros((len(asked), 1)), present)
    middle = values.mean(axis=0)
    among, to = (euclidean_distances(each - middle, values - middle, squared=True) for each in (values, asked))
    width = max(float(among.mean()) / 2, 1e-12)
    model = SVC(C=10.0, kernel="precomputed", decision_function_shape="ovr").fit(np.exp(-among / width), labels)
    scores = model.decision_function(np.exp(-to / width))
    return _in_columns(np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores, model.classes_)


def _by_vit(images: Pixels, labels: Indices, asked: Pixels, *, block: int, rng: np.random.Generator) -> Floats:
    from simulations.attacks.networks.small_vit import fit  # noqa: PLC0415 - torch is slow to import

    return fit(images, labels, classes=1 + int(labels.max()), block=block, rng=rng).predict(asked)


def _key_free(images: Pixels, seen: Seen) -> Floats:
    negate = may_negate(seen.config)
    return np.concatenate([tones(images, negate=negate), block_tones(images, seen.geometry.block, negate=negate)], 1)


def _in_columns(scores: Floats, classes: Indices) -> Floats:
    """Scores with one column for each class up to the largest; the least score for those never seen."""
    made = np.full((len(scores), 1 + int(classes.max())), scores.min())
    made[:, classes] = scores
    return made
