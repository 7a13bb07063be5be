"""A run that trains nothing: a model goes round, sites measure it on their own images, and only measures leave.

The model is the one that server and sites each build from the same weights file, so that every party knows its digest
before the first message. Nothing is learned, no update exists, and no site is asked twice about different weights: of
all runs it gives away least. What may leave of a measure, `fl_client.leaving` decides as in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from medveil.errors import ConfigError, PolicyError
from medveil.personal import NONE as NOBODYS
from medveil.training import TrainConfig

EVALUATE = "evaluate"
ALL, TEST = MEASURED = ("all", "test")
_FRESH = "false"


@dataclass
class EvaluateConfig:
    """An evaluation-only run, the same at every site."""

    images: str = field(
        default=ALL,
        metadata={
            "help": "Images that task evaluate measures: all that a site has labelled, or test, the test part of its "
            "split (seed, data.split, data.test), for sites that trained this model on the rest."
        },
    )

    def check(self, *, where: str = "evaluate") -> None:
        """Refuse values out of range (ConfigError)."""
        if self.images not in MEASURED:
            raise ConfigError("'images' is not known", where=where, cure=f"one of {', '.join(MEASURED)}")

    @property
    def in_words(self) -> str:
        """Which images of a site are measured, for people."""
        return "all labelled images of each site" if self.images == ALL else "the test part of each site's own split"


@dataclass(frozen=True)
class Terms:
    """What of a run decides whether it can be one that only measures."""

    rounds: int
    pretrained: str
    keys: str
    stem_init: str
    stem_warmup: int
    private: bool
    train: TrainConfig


_CANNOT: tuple[tuple[Callable[[Terms], bool], type[ConfigError | PolicyError], str, str], ...] = (
    (lambda terms: terms.rounds != 1, ConfigError, "'rounds' is not 1, and a model is measured once", "rounds=1"),
    (
        lambda terms: terms.pretrained.strip().lower() == _FRESH,
        ConfigError,
        "'model.pretrained' is false, and fresh weights are worth nothing to measure",
        "the exported model, which server and sites each have",
    ),
    (
        lambda terms: terms.private,
        PolicyError,
        "'privacy' is on: it covers what training gives away, no noise covers measures, and nothing trains",
        "privacy.unit=none",
    ),
    (
        lambda terms: terms.stem_init == "secret",
        PolicyError,
        "'stem.init' is secret: that stem stayed, with what it learned, in the run that trained it, and no weights "
        "file has it",
        "stem.init=adapted, for a model of plain images that each site moves to its own key",
    ),
    (
        lambda terms: terms.keys != "none" and terms.stem_init == "public",
        PolicyError,
        "'stem.init' is public, and nothing trains it to read hidden images",
        "stem.init=adapted, or keys.policy=none",
    ),
    (
        lambda terms: terms.stem_warmup > 0,
        ConfigError,
        "'stem.warmup' fits a stem to images, and nothing trains",
        "stem.warmup=0",
    ),
    (
        lambda terms: terms.train.scope != "full",
        ConfigError,
        "'train.scope' is set, and nothing trains: the whole model goes round",
        "train.scope=full",
    ),
    (
        lambda terms: terms.train.augment != "none",
        ConfigError,
        "'train.augment' is set, and nothing trains",
        "train.augment=none; predict.views averages over views of an image",
    ),
    (
        lambda terms: terms.train.personal != NOBODYS,
        ConfigError,
        "'train.personal' is set, and nothing trains that a site could have for itself",
        f"train.personal={NOBODYS}",
    ),
    (
        lambda terms: terms.train.minutes > 0,
        ConfigError,
        "'train.minutes' is set, and nothing trains",
        "train.minutes=0",
    ),
)


def check_evaluate(terms: Terms, *, where: str) -> None:
    """Refuse what a run that only measures has no use for, or could not be.

    Raises
    ------
    ConfigError, PolicyError
        One line, with what would be right.
    """
    for cannot, kind, why, cure in _CANNOT:
        if cannot(terms):
            raise kind(f"{why} (task {EVALUATE})", where=where, cure=cure)
