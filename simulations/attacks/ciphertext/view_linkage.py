"""view-linkage: which two ciphertexts are views of one image? No key is needed, and two keys do not prevent it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.data.rng import generator
from fl_client.data.stored import Views
from simulations.attacks.solvers.schemes import may_negate
from simulations.attacks.solvers.signatures import block_tones, standardised, tones
from simulations.attacks.study.attack import Attack, Knowledge, Metric, Picture, Scores
from simulations.attacks.study.cases import Case, Hidden, Seen, hide
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[Any]

_VIEW_NONCES = 2**36
_SIGNATURES = {
    "tones": "the image's histogram",
    "blocks": "the histograms of blocks",
    "both": "both histograms",
    "values": "the values as they stand",
}
_KEYS = {"same_key": "under one key", "other_key": "under two keys"}


class Gathered(NamedTuple):
    """What the attacker has gathered: ciphertexts of one key, and views in random order under it and under another."""

    images: Hidden
    same_key: Hidden
    other_key: Hidden


class ViewLinkage(Attack):
    """Re-identify images across ciphertexts of augmented views.

    Parameters
    ----------
    strength, flip
        Augmentation of the views, as ``data.augment`` and ``data.flip``.
    """

    name = "view-linkage"
    recovers = "facts"
    knowledge = frozenset({Knowledge.CIPHERTEXTS})
    text = (
        "A store holds several views of an image, each turned, shifted, scaled and relit before it is hidden, and a "
        "patient may be imaged at two hospitals. The attacker has ciphertexts of images and, in random order, of one "
        "augmented view of each, under the same key or under another, and looks for the pairs: by quantiles of the "
        "values, by those of what survives inside blocks, by both, and by the values as they stand, each without the "
        "brightness and contrast of its image. Top-1 is the share of views whose nearest image is their own; AUROC "
        "ranks all pairs. Linking is no reading of an image, but it tells who is who: how many images a patient has, "
        "and which patient of one hospital is a patient of another."
    )
    papers = ("Carlini et al. 2021, arXiv:2108.07256 (linking encodings to originals)",)
    main = "auroc_other_key_both"
    margin = 0.1
    fewest = 2
    control = "none"

    def __init__(self, *, strength: str = "standard", flip: bool = False) -> None:
        self.strength, self.flip = strength, flip

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Top-1 and AUROC by each signature, under one key and under two."""
        return tuple(
            Metric(f"{name}_{keys}_{signature}", f"{text} {under}, by {by}")
            for name, text in (("auroc", "AUROC of pairs of views"), ("top1", "views linked to their image"))
            for keys, under in _KEYS.items()
            for signature, by in _SIGNATURES.items()
        )

    @property
    def no_wrong_key(self) -> str | None:
        """Two keys are a metric of their own."""
        return "links across two keys are metrics of their own"

    def case(self, setting: Setting, key: int) -> Case:
        """The standard images, with a view of each."""
        case = setting.case(key)
        rng = generator(setting.seed + key, "views")
        maker = Views(2, self.strength, self.flip, setting.seed + key)
        views = np.stack([maker.make(image, str(place), 1) for place, image in enumerate(case.targets.pixels)])
        case.linked = rng.permutation(len(views))
        shuffled = views[case.linked]
        hidden = [hide(cipher, shuffled, first=_VIEW_NONCES) for cipher in (case.cipher, case.other)]
        case.extra = {Knowledge.CIPHERTEXTS: Gathered(case.hidden, *hidden)}
        return case

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[str, Floats]:
        """Distances (views, images) by keys and signature."""
        given: Any = seen.ciphertexts
        negate, block = may_negate(seen.config), seen.geometry.block
        images = signatures(given.images.images, block, negate=negate)
        made: dict[str, Floats] = {}
        for keys in _KEYS:
            views = signatures(getattr(given, keys).images, block, negate=negate)
            found = {name: distances(views[name], images[name], scaled=name != "values") for name in images}
            found["both"] = np.add(*(found[name] / np.median(found[name]) for name in ("tones", "blocks")))
            made |= {f"{keys}_{name}": each for name, each in found.items()}
        return made

    def score(self, found: dict[str, Floats], case: Case) -> Scores:
        """Top-1, ties shared, and AUROC over all pairs."""
        assert case.linked is not None
        made: Scores = {}
        for name, each in found.items():
            made[f"top1_{name}"] = top1(each, case.linked)
            made[f"auroc_{name}"] = pair_auroc(each, case.linked)
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random image; a random order of pairs."""
        rates = {"top1": 1 / len(case.targets.labels), "auroc": 0.5}
        yield {metric.name: rates[metric.name.partition("_")[0]] for metric in self.metrics}

    def pictures(self, found: dict[str, Floats], case: Case) -> list[Picture]:
        """Views under another key, what they were linked to, and what they are views of."""
        assert case.linked is not None
        given: Any = case.extra[Knowledge.CIPHERTEXTS]
        nearest = found[self.main.partition("_")[2]].argmin(axis=1)
        return [
            Picture("a view, hidden under another key", given.other_key.images[:4]),
            Picture("the ciphertext it was linked to", given.images.images[nearest[:4]]),
            Picture("whose original is", case.targets.pixels[nearest[:4]]),
            Picture("the view's own original", case.targets.pixels[case.linked[:4]]),
        ]


def signatures(hidden: Pixels, block: int, *, negate: bool) -> dict[str, Floats]:
    """What is compared, float64 (n, anything); no brightness or contrast is left in it."""
    flat = hidden.reshape(len(hidden), -1).astype(np.float64)
    return {
        "tones": standardised(tones(hidden, negate=negate)),
        "blocks": block_tones(hidden, block, negate=negate, relit=True),
        "values": standardised(flat),
    }


def distances(views: Floats, images: Floats, *, scaled: bool = True) -> Floats:
    """Euclidean distances (views, images), each number in units of its deviation over the images if `scaled`."""
    from sklearn.metrics.pairwise import euclidean_distances  # noqa: PLC0415 - slow to import

    spread = images.std(axis=0) if scaled else np.ones(images.shape[1])
    spread[spread <= 0] = 1.0
    made: Floats = euclidean_distances(views / spread, images / spread)
    return made


def top1(distance: Floats, true: Indices) -> float:
    """Share of views whose nearest image is their own; of several as near, each counts its part."""
    nearest = distance == distance.min(axis=1, keepdims=True)
    own = nearest[np.arange(len(true)), true]
    return float((own / nearest.sum(axis=1)).mean())


def pair_auroc(distance: Floats, true: Indices) -> float:
    """Probability that a true pair is nearer than a false one."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

    pairs = np.zeros(distance.shape, np.bool_)
    pairs[np.arange(len(true)), true] = True
    return float(roc_auc_score(pairs.ravel(), -distance.ravel()))
