"""How sites train: the settings of a run that travel in its contract, the same at every site."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from medveil.errors import ConfigError
from medveil.personal import PERSONAL, check_personal
from medveil.recipes import NONE, RECIPES

MOST_MINUTES = 43_200
STATES = ("fresh", "kept")
OPTIMIZERS = ("adamw", "sgd", "muon")
CLASS_WEIGHTS = ("none", "balanced")
AUGMENTS = ("none", "light", "medium", "strong")
PRECISIONS = ("auto", "fp32", "bf16", "fp64")
BIAS, BIAS_NORM, CORE = LIGHT = ("bias", "bias-norm", "lora-core")
SCOPES = ("full", "head", *LIGHT)
MOST_RANK = 256
LEAST_CLIP, MOST_CLIP = 1e-30, 1e30
"""Norms that updates and gradients are scaled to: beyond them fp32 loses the numbers, and the noise beside them."""
_RATES = ("lr", "min_lr", "warmup_lr")
_LAST = re.compile(r"last-[1-9][0-9]{0,3}-blocks?")
_TWO_FACTORS = re.compile(r"((q|ada|rs)?lora|dora)([-_ ]?r?[0-9]+)?", re.IGNORECASE)
"""Names of LoRA with both factors trained, and of its kin."""


@dataclass
class TrainConfig:
    """Local training, the same at every site."""

    recipe: str = field(
        default=NONE,
        metadata={
            "help": "small-data (fresh weights), fine-tune or pre-train: a set of settings for what the run does not "
            "say itself; none."
        },
    )
    scope: str = field(
        default="full",
        metadata={
            "help": "What trains and travels, beside the head: full, head, last-N-blocks (last-2-blocks), bias, "
            "bias-norm or lora-core."
        },
    )
    rank: int = field(default=16, metadata={"help": "Rows and columns of lora-core's trained matrix in each layer."})
    epochs: int = field(default=1, metadata={"help": "Local epochs a round."})
    minutes: float = field(
        default=0.0,
        metadata={
            "help": "CPU minutes of training a site has in the whole run, in place of epochs (on a GPU, minutes); such "
            "a run never repeats exactly. 0: by epochs."
        },
    )
    batch_size: int = field(default=32, metadata={"help": "Images a step."})
    optimizer: str = field(
        default="adamw",
        metadata={"help": "adamw, sgd, or muon for the matrices of blocks with adamw for the rest."},
    )
    state: str = field(
        default="fresh",
        metadata={
            "help": "What the optimiser remembers as a round starts: nothing (fresh), or the site's round before "
            "(kept), sealed at home and never sent."
        },
    )
    lr: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    min_lr: float = field(default=1e-5, metadata={"help": "Learning rate at the end of the cosine."})
    lr_warmup: float = field(default=0.05, metadata={"help": "Share of the run's steps with a rising learning rate."})
    weight_decay: float = field(
        default=0.05, metadata={"help": "Weight decay; none on biases, norms, tokens and position embeddings."}
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor of the rate from each layer to the one below it, for fine-tuning; 1: all alike."},
    )
    momentum: float = field(default=0.9, metadata={"help": "Momentum of sgd; muon's is 0.95."})
    beta_2: float = field(default=0.999, metadata={"help": "Decay of adamw's squared gradients; small data want 0.98."})
    clip: float = field(default=1.0, metadata={"help": "Largest gradient norm; 0 switches clipping off."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Mass moved from the true class to all classes."})
    mixup: float = field(default=0.0, metadata={"help": "Alpha of MixUp's Beta(alpha, alpha); 0 switches it off."})
    augment: str = field(
        default="none",
        metadata={
            "help": "Views of training images at every site, drawn anew each epoch before hiding: light (mirrored, "
            "turned 10 degrees, scale 8 %, shift 4 %, gain 10 %), medium or strong; none leaves it to data.augment."
        },
    )
    ema: float = field(
        default=0.0,
        metadata={
            "help": "Decay of the moving average of weights over a round's steps: it is what a site keeps, sends and "
            "measures; 0 switches it off."
        },
    )
    patch_dropout: float = field(
        default=0.0, metadata={"help": "Share of patches left out of each training image; 0 switches it off."}
    )
    patch_dropout_steps: float = field(
        default=0.8, metadata={"help": "Share of the run's steps, from the first, that leave patches out."}
    )
    class_weights: str = field(default="none", metadata={"help": "none, or balanced by the site's own counts."})
    logit_adjustment: float = field(
        default=0.0,
        metadata={
            "help": "Adds so many times the logarithm of the site's shares of classes to the logits while it trains, "
            "so that sites with other shares learn one model, for equal shares: 1, or 0 for none."
        },
    )
    personal: str = field(
        default="none",
        metadata={
            "help": "What each site has for itself: norms (they train at home and never travel), ditto (a second model "
            "at each site, drawn to the shared one), or none."
        },
    )
    personal_mu: float = field(
        default=0.1, metadata={"help": "ditto: weight of the pull of a site's own model to the shared one."}
    )
    precision: str = field(
        default="auto",
        metadata={"help": "fp32, bf16 autocast, fp64 (to check equalities), or auto: bf16 on GPUs that have it."},
    )
    warmup_lr: float = field(default=1e-3, metadata={"help": "Learning rate of the stem's warm-up before round 1."})

    def check(self, *, where: str = "train") -> None:
        """Refuse values out of range.

        Raises
        ------
        ConfigError
            A value is out of its range or not one of the names offered.
        """
        _one_of(self.recipe, tuple(RECIPES), "recipe", where)
        self._check_scope(where)
        _one_of(self.optimizer, OPTIMIZERS, "optimizer", where)
        _one_of(self.augment, AUGMENTS, "augment", where)
        _one_of(self.state, STATES, "state", where)
        _one_of(self.personal, PERSONAL, "personal", where)
        _one_of(self.class_weights, CLASS_WEIGHTS, "class_weights", where)
        if self.class_weights != "none" and self.logit_adjustment > 0:
            problem = "'logit_adjustment' and 'class_weights' both make up for the shares of classes"
            raise ConfigError(problem, where=where, cure="one of them")
        _one_of(self.precision, PRECISIONS, "precision", where)
        for name, low in (("epochs", 1), ("batch_size", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"'{name}' is below {low}", where=where, cure=f"at least {low}")
        self._check_minutes(where)
        mu, scope, minutes = self.personal_mu, self.scope, self.minutes
        check_personal(self.personal, scope=scope, minutes=minutes, mu=mu, where=where)
        for name in (*_RATES, "weight_decay", "momentum", "clip", "mixup", "logit_adjustment", "personal_mu"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"'{name}' is out of its range", where=where, cure="0 or more, and finite")
        for name in ("label_smoothing", "lr_warmup", "beta_2", "patch_dropout", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is out of its range", where=where, cure="at least 0 and below 1")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError("'layer_decay' is out of its range", where=where, cure="above 0, at most 1")
        if not 0 <= self.patch_dropout_steps <= 1:
            raise ConfigError("'patch_dropout_steps' is out of its range", where=where, cure="0 to 1")

    def _check_scope(self, where: str) -> None:
        if _TWO_FACTORS.fullmatch(self.scope.strip()):
            problem = "'scope' is LoRA, whose two trained factors a mean gets wrong: mean(B A) is not mean(B) mean(A)"
            cure = "lora-core, which trains what lies between two fixed factors; or bias-norm, or bias"
            raise ConfigError(problem, where=where, cure=cure)
        if not _LAST.fullmatch(self.scope):
            _one_of(self.scope, (*SCOPES, "last-2-blocks"), "scope", where)
        if not 1 <= self.rank <= MOST_RANK:
            raise ConfigError("'rank' is out of its range", where=where, cure=f"1 to {MOST_RANK}")

    def _check_minutes(self, where: str) -> None:
        if not 0 <= self.minutes <= MOST_MINUTES:
            raise ConfigError("'minutes' is out of its range", where=where, cure=f"0 to {MOST_MINUTES}, a month")
        if self.minutes and self.epochs != 1:
            cure = "leave epochs at 1, or minutes 0"
            raise ConfigError("'minutes' and 'epochs' are both set", where=where, cure=cure)
        if self.minutes and self.precision == "fp64":
            problem = "'precision' is fp64, to check equalities, and no two runs by 'minutes' are equal"
            raise ConfigError(problem, where=where, cure="epochs")


def _one_of(value: str, allowed: tuple[str, ...], name: str, where: str) -> None:
    if value not in allowed:
        raise ConfigError(f"'{name}' is not known", where=where, cure=f"one of {', '.join(allowed)}")
