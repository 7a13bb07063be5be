"""Privacy with a number: what a run promises every training image, or every patient, of every site.

Training is DP-SGD (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133) inside each
site: what one image, or all images of one patient, do to a step is clipped, and noise hides whether they were there.
So the promise holds against server, other sites and whoever gets the model, and needs nobody's trust but the site's.
It is void where anything else than a clipped and noised gradient carries what single images are: such runs are refused.

What comes after the noise is free: optimisers and their moments, averages of weights (`train.ema`), FedProx's pull,
any aggregation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from medveil.errors import ConfigError, PolicyError
from medveil.pretraining import MASKED
from medveil.training import LEAST_CLIP, MOST_CLIP, TrainConfig

NONE, EXAMPLE, PATIENT = UNITS = ("none", "example", "patient")
UNIT_WORDS = {EXAMPLE: "training image", PATIENT: "patient"}
MOST_EPSILON = 1000.0
"""Far beyond what protects anybody."""
LARGEST_ORDER = 256.0
"""Of Rényi's divergence, at which costs are counted (`fl_client.privacy.accountant`)."""


def least_epsilon(delta: float) -> float:
    """What steps that cost nothing are counted as, at a delta: below it no noise is enough (Balle et al., 2019)."""
    order = LARGEST_ORDER
    return max(0.0, math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1))


@dataclass
class PrivacyConfig:
    """What a run may cost at each site, in all its rounds together."""

    unit: str = field(
        default=NONE,
        metadata={
            "help": "What epsilon counts: example (one training image), patient (all training images of one, by "
            "data.group_by), or none: no noise and no promise. Needs the extra: medveil[dp]."
        },
    )
    epsilon: float = field(default=8.0, metadata={"help": "Most that the whole run costs a unit, at every site."})
    delta: float = field(
        default=1e-5,
        metadata={"help": "Chance that it costs more; below one over a site's training images or patients."},
    )
    clip: float = field(
        default=1.0, metadata={"help": "Largest norm of what one unit does to a step; takes the place of train.clip."}
    )

    @property
    def on(self) -> bool:
        """Whether anything is promised."""
        return self.unit != NONE

    def check(self, *, where: str = "privacy") -> None:
        """Refuse values out of range (ConfigError)."""
        if self.unit not in UNITS:
            raise ConfigError("'unit' is not known", where=where, cure=f"one of {', '.join(UNITS)}")
        if not 0 < self.epsilon <= MOST_EPSILON:
            raise ConfigError("'epsilon' is out of its range", where=where, cure=f"above 0, at most {MOST_EPSILON:g}")
        if not 0 < self.delta < 0.1:
            cure = "above 0, and below one over the number of a site's training images or patients"
            raise ConfigError("'delta' is out of its range", where=where, cure=cure)
        least = least_epsilon(self.delta)
        if self.epsilon <= least:
            cure = f"above {least:.2g} at delta {self.delta:g}: less cannot be counted, whatever the noise"
            raise ConfigError("'epsilon' is out of its range", where=where, cure=cure)
        if not LEAST_CLIP <= self.clip <= MOST_CLIP:
            raise ConfigError("'clip' is out of its range", where=where, cure=f"{LEAST_CLIP:g} to {MOST_CLIP:g}")


@dataclass(frozen=True)
class Terms:
    """What of a run decides whether its promise holds."""

    task: str
    stem_train: str
    stem_warmup: int
    evaluate_first: bool
    train: TrainConfig


_VOID: tuple[tuple[Callable[[Terms], bool], str, str], ...] = (
    (
        lambda terms: terms.task == MASKED,
        f"'task' is {MASKED}, whose last layer trains at home without noise",
        "single-label",
    ),
    (
        lambda terms: terms.stem_train == "local",
        "'stem.train' is local: that stem trains at home without noise, and what it learned of single images is in "
        "every gradient that is sent",
        "stem.train=frozen; or averaged, with keys.policy=none or shared",
    ),
    (
        lambda terms: terms.stem_warmup > 0,
        "'stem.warmup' fits the stem to the site's images without noise before round 1",
        "stem.warmup=0",
    ),
    (
        lambda terms: terms.train.mixup > 0,
        "'train.mixup' mixes two images into one, so that each is in two gradients, and clipping bounds one",
        "train.mixup=0",
    ),
    (
        lambda terms: terms.train.class_weights != NONE,
        "'train.class_weights' are made of the site's own counts of classes, which no noise covers",
        "train.class_weights=none",
    ),
    (
        lambda terms: terms.train.logit_adjustment > 0,
        "'train.logit_adjustment' is made of the site's own counts of classes, which no noise covers",
        "train.logit_adjustment=0",
    ),
    (
        lambda terms: terms.train.minutes > 0,
        "'train.minutes' ends rounds by the clock, and what a round costs is charged before it",
        "train.epochs",
    ),
    (
        lambda terms: terms.evaluate_first,
        "'evaluate_first' measures the model of every round on images of each site, and no noise covers what is told",
        "evaluate_first=false: the last model is measured",
    ),
)


def check_private(terms: Terms, *, where: str) -> None:
    """Refuse a run whose promise would be void, or could not be kept.

    Raises
    ------
    PolicyError
        Says through what single images would show, and what would be right.
    """
    for is_void, why, cure in _VOID:
        if is_void(terms):
            raise PolicyError(f"{why}: 'privacy' would promise what does not hold", where=where, cure=cure)
