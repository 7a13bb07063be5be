"""What an attack is: what it knows, what it makes of that, and how the result is scored.

An attacker and an evaluator never mix. `Attack.recover` is the attacker: it sees a `Seen`, which holds what the
attack's `knowledge` names and nothing else. `Attack.score` is the evaluator: it sees what the attacker made of it and
the `Case`, with the truth. The measuring itself (keys, controls, chance, intervals) is in `measure.py`.

Kerckhoffs's principle holds throughout: the scheme, its settings and the size of the images are public. Only the key is
secret.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, ImageCipher
from crypto.config import CipherConfig
from simulations.attacks.study.cases import Case, Knowledge, Seen
from simulations.attacks.study.scores import Pixels
from simulations.attacks.study.setting import Setting

__all__ = ["Attack", "Chance", "Knowledge", "Metric", "Picture", "Scores", "Target", "by_images", "up_to"]

Scores = dict[str, float]


class Chance(StrEnum):
    """By what rule a metric's chance level is found."""

    IMAGE = "the better of the data set's mean image and a random other image of the class"
    GUESS = "expected rate of a random guess"
    IDEAL = "what independent uniform values give"
    MAJORITY = "always answering the most frequent class"
    SHUFFLED = "the same learners, taught shuffled labels"
    NONE = "none: the metric is a count, a size or a time"


@dataclass(frozen=True)
class Metric:
    """One number an attack gives for each key.

    Attributes
    ----------
    name : str
        Its key in ``NAME.json``: letters, digits and underscores.
    text : str
        What it is, in a clause.
    unit : str
        ``"share"``, ``"SSIM"``, ``"dB"``, ``"correlation"``, ``"bits"``, ``"images"``, ``"s"``.
    direction : str
        Which way is better for the attacker: ``"higher"``, ``"lower"``, or ``"none"``.
    chance : Chance
        How its chance level is found.
    series, at, along : str, float, str; or None
        Metrics of one series are one curve over `at`, whose meaning is `along`: "known pairs", for example.
    """

    name: str
    text: str
    unit: str = "share"
    direction: Literal["higher", "lower", "none"] = "higher"
    chance: Chance = Chance.GUESS
    series: str | None = None
    at: float | None = None
    along: str | None = None


def by_images(
    name: str, text: str, unit: str = "share", chance: Chance = Chance.GUESS, *, at: Iterable[int]
) -> tuple[Metric, ...]:
    """A metric as a series over the number of ciphertexts under one key, ``NAME_N`` for each N of `at`."""
    along = "ciphertexts under one key"
    return tuple(
        Metric(f"{name}_{n}", f"{text}, from {n} images", unit, chance=chance, series=name, at=n, along=along)
        for n in at
    )


@dataclass(frozen=True)
class Target:
    """What is attacked: a cipher's settings and the shape of the images."""

    config: CipherConfig
    geometry: Geometry

    @property
    def scheme(self) -> str:
        """Name of the scheme."""
        return self.config.scheme


@dataclass(frozen=True)
class Picture:
    """A row of images for the figure: uint8 (n, C, H, W) and what they are."""

    label: str
    images: Pixels


class Attack(ABC):
    """One attack. A subclass is one file; its fields are its settings, with defaults for a full measurement.

    Attributes
    ----------
    name : str
        As typed: lower case, hyphens.
    knowledge : frozenset of Knowledge
        What it assumes the attacker has.
    needs : frozenset of str
        Capabilities an attack on updates declares (`situations.capabilities`).
    kind : str
        ``"attack"``, or ``"diagnostic"`` for a measurement that recovers nothing.
    recovers : str
        ``"images"`` for an attack that ends in images or in the key to them, ``"facts"`` for one that tells something
        about images it does not show: where values stood, who is who, what is on them.
    text : str
        One paragraph: what it does and what its figures mean.
    papers : tuple of str
        Where it is from.
    metrics : tuple of Metric
        What `score` gives.
    main : str
        The metric the verdict is taken on.
    margin : float
        By how much, in the unit of `main`, the control's lower bound must clear chance's upper bound for the attack to
        count as working. Fixed here, before anything is measured.
    control : str or type of ImageCipher or None
        What the attack must succeed on: a scheme's name (``"none"``: the same images unprotected), or a cipher of the
        attack's own. None for diagnostics that have none.
    in_all : bool
        Whether ``medveil-sim attack all`` includes it.
    device : str
        Where networks are trained, by those attacks that train any: cpu, cuda, cuda:N or auto.
    fewest : int
        Images under one key without which nothing can be scored.
    wanted : int
        Ciphertexts, or labelled ones, under one key that it is made for; 0 where it takes what it is given.
    weight : float
        How long one key takes beside another attack's, roughly: for the time left over several.
    """

    name: ClassVar[str]
    knowledge: ClassVar[frozenset[Knowledge]]
    needs: ClassVar[frozenset[str]] = frozenset()
    kind: ClassVar[Literal["attack", "diagnostic"]] = "attack"
    recovers: ClassVar[Literal["images", "facts"]] = "images"
    text: ClassVar[str]
    papers: ClassVar[tuple[str, ...]] = ()
    main: str
    margin: ClassVar[float]
    control: str | type[ImageCipher] | None = "none"
    in_all: ClassVar[bool] = True
    device: str = "auto"
    fewest: ClassVar[int] = 1
    weight: float = 1.0
    wanted: int = 0

    def within(self, images: int) -> Self:
        """The same attack where at most so many ciphertexts of a key may be had: its verdict is on what that gives."""
        return self

    def quick(self) -> Self:
        """The same attack with an effort that takes seconds: for a trial, not for a finding."""
        return self

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """What `score` gives, in the order it is shown; may depend on the attack's settings."""

    def applies_to(self, target: Target) -> str | None:
        """Say why the attack does not apply to a target; None where it does."""
        return None

    def refusal(self, setting: Setting) -> str | None:
        """Say why it does not apply to a setting; None where it does."""
        return self.applies_to(Target(setting.config, setting.geometry))

    def known_in(self, setting: Setting) -> frozenset[Knowledge]:
        """What of `knowledge` the attacker has in a setting: all of it, where no setting takes any away."""
        return self.knowledge

    def described(self, setting: Setting) -> dict[str, Any]:
        """What is attacked, as plain data for a result."""
        return setting.described

    def notes(self, setting: Setting) -> list[str]:
        """Say what a reader of a result on this setting must know."""
        return []

    def case(self, setting: Setting, key: int) -> Case:
        """Prepare what is attacked under one key; override for more images, pairs, or ciphertexts of one's own."""
        return setting.case(key)

    @abstractmethod
    def recover(self, seen: Seen, rng: np.random.Generator) -> Any:
        """Attack: make of what is seen whatever `score` takes."""

    @abstractmethod
    def score(self, found: Any, case: Case) -> Scores:
        """Compare what was recovered with the truth: one number for each metric, NaN where it is undefined."""

    @abstractmethod
    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """Scores of guesses made without any ciphertext; the best of them, metric by metric, is chance."""

    def pictures(self, found: Any, case: Case) -> list[Picture]:
        """Rows of images for the figure; rows are cut to four images. They may show originals."""
        return []

    @property
    def no_wrong_key(self) -> str | None:
        """Why there is no wrong-key arm; None where there is one.

        In that arm pairs, chosen plaintexts, labels or the key are another key's than the ciphertexts'.
        """
        if self.knowledge & {Knowledge.PAIRS, Knowledge.CHOSEN, Knowledge.LABELLED, Knowledge.KEY}:
            return None
        return "the attacker holds nothing made under a key but the ciphertexts themselves"

    def run(self, case: Case, rng: np.random.Generator, *, wrong_key: bool = False) -> Scores:
        """Attack one case and score it: the attacker sees only what `knowledge` names."""
        return self.score(self.recover(case.seen(self.knowledge, wrong_key=wrong_key), rng), case)


def up_to(images: Iterable[int], most: int) -> tuple[int, ...]:
    """Numbers of images, none above `most`: what is more becomes `most`."""
    return tuple(sorted({min(each, most) for each in images}))


def best(metrics: Iterable[Metric], guesses: Iterable[Scores]) -> Scores:
    """The best of several guesses for each metric with a chance level, by the metric's own direction."""
    made = list(guesses)
    chosen: Scores = {}
    for metric in metrics:
        values = [each[metric.name] for each in made if np.isfinite(each.get(metric.name, np.nan))]
        if metric.chance is not Chance.NONE and values:
            chosen[metric.name] = min(values) if metric.direction == "lower" else max(values)
    return chosen


def mean_scores(scores: dict[str, npt.NDArray[np.float64]]) -> Scores:
    """Means over images, NaN left out."""
    return {name: float(np.nanmean(each)) if len(each) else float("nan") for name, each in scores.items()}
