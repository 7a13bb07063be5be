"""perturbation: what is left for the owner, and for a classifier, when ciphertexts are damaged. No attack."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fl_client.data.rng import generator
from fl_client.measures import majority_rate
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Picture, Scores
from simulations.attacks.study.cases import Case, Pixels, Seen
from simulations.attacks.study.setting import Setting

Indices = npt.NDArray[np.int64]
Predict = Callable[[Pixels], Indices]


@dataclass(frozen=True)
class Classifier:
    """Ciphertexts with their classes, and a model that answers for them.

    Attributes
    ----------
    images : ndarray
        (n, C, H, W).
    labels : int64 (n,)
    predict : callable
        Classes of ciphertexts in their place, int64 (n,).
    """

    images: Pixels
    labels: Indices
    predict: Predict


@dataclass
class PerturbedCase(Case):
    """A case that can train or load a classifier of its key's ciphertexts, where one is to be had."""

    made: Callable[[Case], Classifier | None] = lambda case: None

    @cached_property
    def classifier(self) -> Classifier | None:
        """The classifier."""
        return self.made(self)


@dataclass(frozen=True)
class Damage:
    """One kind of damage at one strength."""

    kind: str
    at: float

    @property
    def suffix(self) -> str:
        """End of a metric's name: ``bit_flip_0_01``."""
        return f"{self.kind}_{self.at:g}".replace(".", "_")

    @property
    def text(self) -> str:
        """What it is, in words: ``1 % of bits flipped``."""
        if self.kind == "bit_flip":
            return f"{100 * self.at:g} % of bits flipped"
        return f"noise of deviation {self.at:g}"

    def done_to(self, images: Pixels, rng: np.random.Generator) -> Pixels:
        """Damaged copies."""
        return {"bit_flip": flip_bits, "noise": add_noise}[self.kind](images, self.at, rng)


_ALONG = {"bit_flip": "share of bits flipped", "noise": "deviation of the noise, as a share of the range"}
_MEASURES = (
    ("psnr", "peak signal-to-noise ratio after decryption", "dB", Chance.IMAGE),
    ("ssim", "structural similarity after decryption", "SSIM", Chance.IMAGE),
    ("accuracy", "accuracy of a classifier of ciphertexts", "share", Chance.MAJORITY),
)


class Perturbation(Attack):
    """Bit flips and Gaussian noise on ciphertexts.

    Parameters
    ----------
    flips
        Shares of bits flipped.
    sigmas
        Deviations of the noise, as shares of the range of values.
    looked_at
        Images decrypted and compared for each key, at most.
    classified
        Keys, the first, under which a small ViT is trained on ciphertexts; 0 for none. A run brings its own models.
    labelled
        Images it is trained on.
    """

    name = "perturbation"
    kind = "diagnostic"
    knowledge = frozenset({Knowledge.KEY})
    text = (
        "Damage to stored or sent ciphertexts: each bit flipped with a probability of 0.1 to 10 %, or Gaussian noise "
        "added with a deviation of 0.01 to 0.2 of the range of the type, rounded and clipped. arXiv:2501.15363 reports "
        "such perturbations without defining them; these definitions are ours. The owner decrypts what is left, and a "
        "classifier of ciphertexts answers: a small ViT trained on undamaged ciphertexts of the same key, or with "
        "--run each site's own model on its own test images. The column control is the same damage to the images "
        "themselves. A permutation moves damage and spreads none, so it does as well as no cipher; a stream cipher "
        "passes flipped bits on and turns noise into noise of full range; 16-bit ciphertexts of orthogonal use a small "
        "part of their range, so the same damage is larger for them. Bearing damage is convenient for the owner "
        "and says nothing about an attacker: whoever can change a ciphertext unnoticed can change the image."
    )
    papers = ("arXiv:2501.15363 (bit flips and Gaussian noise on hidden images)",)
    margin = 0.1
    weight = 30.0

    def __init__(
        self,
        *,
        flips: Sequence[float] = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1),
        sigmas: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2),
        looked_at: int = 25,
        classified: int = 3,
        labelled: int = 500,
    ) -> None:
        self.damages = [Damage("bit_flip", each) for each in flips] + [Damage("noise", each) for each in sigmas]
        self.looked_at, self.classified, self.labelled = looked_at, classified, labelled
        self.main = f"ssim_{self.damages[0].suffix}"

    def quick(self) -> Self:
        """Without a classifier trained for it."""
        made = copy.copy(self)
        made.classified, made.weight = 0, 4.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Three measures along two kinds of damage, and the accuracy without any."""
        made = [
            Metric(
                f"{name}_{damage.suffix}",
                f"{text}, from {damage.text}",
                unit,
                chance=chance,
                series=f"{name}_{damage.kind}",
                at=damage.at,
                along=_ALONG[damage.kind],
            )
            for name, text, unit, chance in _MEASURES
            for damage in self.damages
        ]
        text = "accuracy of a classifier of ciphertexts, undamaged"
        return (*made, Metric("accuracy_undamaged", text, "share", chance=Chance.MAJORITY))

    @property
    def no_wrong_key(self) -> str | None:
        """Only the owner decrypts here."""
        return "a measurement of what the owner gets"

    def case(self, setting: Setting, key: int) -> Case:
        """The standard case, with a classifier for the first keys or for the sites of a run."""
        trained = setting.run is None and key < self.classified
        case = setting.case(key, labelled=self.labelled if trained else 0)
        made = PerturbedCase(**{each.name: getattr(case, each.name) for each in fields(Case)})
        if trained:
            made.made = partial(_trained, rng=generator(setting.seed + key, "classifier"))
        elif setting.run is not None:
            made.made = lambda _: _of_run(setting, key)
        return made

    def recover(self, seen: Seen, rng: np.random.Generator) -> int:
        """Recover nothing; choose the damage `score` does."""
        return int(rng.integers(2**32))

    def score(self, found: Any, case: Case) -> Scores:
        """Damage, decrypt, compare; damage, classify, compare."""
        assert isinstance(case, PerturbedCase)
        rng = np.random.default_rng(found)
        truth, largest = case.targets.pixels[: self.looked_at], case.geometry.largest
        made: Scores = {}
        for damage, shown in self._shown(case, rng):
            made[f"psnr_{damage.suffix}"] = float(scores.psnr(shown, truth, largest=largest).mean())
            made[f"ssim_{damage.suffix}"] = float(scores.ssim(shown, truth, largest=largest).mean())
        return made | self._accuracies(case.classifier, rng)

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The mean image and other images of the class; the most frequent class."""
        truth, largest = case.targets.pixels[: self.looked_at], case.geometry.largest
        for images in case.guessed:
            guess = images[: self.looked_at]
            psnr = float(scores.psnr(guess, truth, largest=largest).mean())
            ssim = float(scores.ssim(guess, truth, largest=largest).mean())
            for damage in self.damages:
                yield {f"psnr_{damage.suffix}": psnr, f"ssim_{damage.suffix}": ssim}
        assert isinstance(case, PerturbedCase)
        if case.classifier is not None:
            names = ["accuracy_undamaged", *(f"accuracy_{damage.suffix}" for damage in self.damages)]
            yield dict.fromkeys(names, majority_rate(case.classifier.labels))

    def pictures(self, found: Any, case: Case) -> list[Picture]:
        """Originals, and what is left of them at a middling strength of each kind."""
        rng = np.random.default_rng(found)
        middling = {kind: [each for each in self.damages if each.kind == kind] for kind in _ALONG}
        chosen = {each[len(each) // 2] for each in middling.values() if each}
        rows = [
            Picture(f"decrypted after {damage.text}", shown[:4])
            for damage, shown in self._shown(case, rng)
            if damage in chosen
        ]
        return [Picture("original", case.targets.pixels[:4]), *rows]

    def _shown(self, case: Case, rng: np.random.Generator) -> Iterable[tuple[Damage, Pixels]]:
        """Each damage, and the owner's images after it."""
        hidden = case.hidden.images[: self.looked_at]
        nonces = None if case.hidden.nonces is None else case.hidden.nonces[: self.looked_at]
        for damage in self.damages:
            yield damage, case.cipher.decrypt(damage.done_to(hidden, rng), nonces)

    def _accuracies(self, classifier: Classifier | None, rng: np.random.Generator) -> Scores:
        if classifier is None:
            return {}
        images, labels = classifier.images, classifier.labels
        made = {"accuracy_undamaged": _share(classifier.predict(images), labels)}
        for damage in self.damages:
            answers = classifier.predict(damage.done_to(images, rng))
            made[f"accuracy_{damage.suffix}"] = _share(answers, labels)
        return made


def flip_bits(images: Pixels, rate: float, rng: np.random.Generator) -> Pixels:
    """Images with each bit of each value flipped with a probability."""
    flips = np.zeros(images.shape, images.dtype)
    for bit in range(8 * images.dtype.itemsize):
        flips |= (rng.random(images.shape, dtype=np.float32) < rate).astype(images.dtype) << bit
    made: Pixels = images ^ flips
    return made


def add_noise(images: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Images with Gaussian noise of a deviation that is a share of the type's range, rounded and clipped."""
    largest = np.iinfo(images.dtype).max
    noisy = images + sigma * largest * rng.standard_normal(images.shape, dtype=np.float32)
    made: Pixels = np.rint(np.clip(noisy, 0, largest)).astype(images.dtype)
    return made


def _trained(case: Case, rng: np.random.Generator) -> Classifier:
    """A small ViT trained on other ciphertexts of the key, to be asked about the targets'."""
    from simulations.attacks.networks.small_vit import fit  # noqa: PLC0415 - torch is slow to import

    told = case.seen({Knowledge.LABELLED}).labelled
    classes = 1 + int(max(told.labels.max(), case.targets.labels.max()))
    model = fit(told.hidden.images, told.labels, classes=classes, block=case.geometry.block, rng=rng)
    return Classifier(case.hidden.images, case.targets.labels, lambda each: model.predict(each).argmax(axis=1))


def _of_run(setting: Setting, key: int) -> Classifier | None:
    """The model of the site of this number; None past the last site, and on the control, for which there is none."""
    from simulations.attacks.study.owned import owned_models  # noqa: PLC0415 - flwr is slow to import

    assert setting.run is not None
    sites = owned_models(setting.run)
    if key >= len(sites) or sites[key].site.cipher.scheme != setting.config.scheme:
        return None
    site = sites[key]
    return Classifier(site.hidden, site.labels, lambda each: site.predict(each).argmax(axis=1))


def _share(answers: Indices, labels: Indices) -> float:
    return float((answers == labels).mean()) if len(labels) else math.nan
