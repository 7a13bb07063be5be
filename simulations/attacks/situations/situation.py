"""A situation: how sites train, what they send, and what whoever reads it knows.

Every figure of an attack on updates is taken twice. *Diagnostic* is what the literature attacks: one image, one step of
plain SGD at rate 1 in single precision, so that an update is the gradient. *Deployment* is what a consortium runs: an
epoch of AdamW over batches of 32, clipped, on the wire of the run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any

from crypto.cipher import SCHEMES
from medveil.errors import ConfigError, MedVeilError
from medveil.pretraining import SINGLE_LABEL
from medveil.privacy import PrivacyConfig, Terms, check_private
from medveil.training import TrainConfig
from medveil.wire import KINDS, WIRES
from models.config import ModelConfig
from models.policy import Policy, check_policy, resolve_policy

FULL = "full"
DIAGNOSTIC, DEPLOYMENT = MODES = ("diagnostic", "deployment")
MOST_SITES, MOST_IMAGES = 64, 4096


@dataclass
class UpdateConfig:
    """Of attacks on updates: how sites train and what is read. What is left open follows `mode`."""

    mode: str = field(
        default=DIAGNOSTIC,
        metadata={"help": "diagnostic (one image, one step of SGD) or deployment (an epoch of AdamW, batches of 32)."},
    )
    keys: str | None = field(
        default=None, metadata={"help": "Key policy; null: none where nothing hides images, else per-site."}
    )
    stem_init: str | None = field(default=None, metadata={"help": "As stem.init of a run; null follows the keys."})
    stem_train: str | None = field(default=None, metadata={"help": "As stem.train of a run; null follows the keys."})
    scope: str = field(default=FULL, metadata={"help": "As train.scope of a run."})
    rank: int = field(default=16, metadata={"help": "As train.rank of a run, for lora-core."})
    personal: str = field(
        default="none", metadata={"help": "As train.personal of a run: norms at home are in no update."}
    )
    images: int | None = field(default=None, metadata={"help": "Images a site trains on in the round."})
    batch: int | None = field(default=None, metadata={"help": "Images a step."})
    epochs: int | None = field(default=None, metadata={"help": "Epochs of the round."})
    optimizer: str | None = field(default=None, metadata={"help": "As train.optimizer of a run."})
    lr: float | None = field(default=None, metadata={"help": "As train.lr of a run."})
    wire: str | None = field(default=None, metadata={"help": "fp32 or bf16."})
    kind: str = field(default="delta", metadata={"help": "What sites send: weights or delta."})
    sites: int = field(
        default=1,
        metadata={"help": "Sites whose updates are summed before anybody reads them; 1: the server reads each."},
    )
    one_model: bool = field(
        default=True,
        metadata={
            "help": "Whether sites of a sum refuse whoever was sent another model, as they do here under masks; false: "
            "masks that do not say for which model."
        },
    )
    server_weights: bool = field(
        default=False,
        metadata={
            "help": "Whether the pre-trained weights that all sites took are a file of the server's making; false: "
            "built from the settings, or its publisher's."
        },
    )
    rounds: int = field(default=10, metadata={"help": "Rounds of the run whose first one is attacked."})
    epsilon: float = field(
        default=0.0, metadata={"help": "What the whole run promises a training image; 0: no privacy."}
    )
    knows_weights: bool = field(
        default=True, metadata={"help": "Whether the attacker knows the public initial weights."}
    )
    task: str = field(default=SINGLE_LABEL, metadata={"help": "As task of a run."})
    model: ModelConfig = field(default_factory=ModelConfig, metadata={"help": "The model."})


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What `UpdateConfig` comes to under a cipher: everything said.

    Attributes
    ----------
    mode : str
        ``diagnostic`` or ``deployment``.
    scheme : str
        What hides images.
    policy : Policy
        Keys and stem.
    train : TrainConfig
        How sites train.
    images : int
        Images of a site in the round.
    wire, kind : str
        What travels.
    sites : int
        Sites of a sum; 1 where the server reads each update.
    one_model : bool
        Whether the sites of a sum refuse whoever was sent another model.
    server_weights : bool
        Whether the public start is a file of the server's making.
    rounds : int
        Of the run, whose first one is attacked.
    epsilon : float
        Of the run, for a training image; 0 without privacy.
    knows_weights : bool
        Whether the attacker knows the public initial weights.
    model : ModelConfig
        The model; sizes that follow the images are filled in where it is built.
    """

    mode: str
    scheme: str
    policy: Policy
    train: TrainConfig
    images: int
    wire: str = "fp32"
    kind: str = "delta"
    sites: int = 1
    one_model: bool = True
    server_weights: bool = False
    rounds: int = 10
    epsilon: float = 0.0
    knows_weights: bool = True
    task: str = SINGLE_LABEL
    model: ModelConfig = field(default_factory=ModelConfig)

    @property
    def steps(self) -> int:
        """Steps of a site in the round."""
        return self.train.epochs * -(-self.images // self.train.batch_size)

    @property
    def stem_travels(self) -> bool:
        """Whether the update of patch and position embedding is part of what is sent."""
        return self.policy.stem_travels and self.train.scope == FULL

    @property
    def hides(self) -> bool:
        """Whether the model reads something else than the plain images."""
        return self.policy.keys != "none"

    @property
    def text(self) -> str:
        """The situation in a sentence."""
        train = self.train
        summed = "the server reads each site's update" if self.sites == 1 else f"only sums of {self.sites} sites"
        summed += "" if self.one_model else ", which do not ask what model others were sent"
        private = f", epsilon {self.epsilon:g} for an image in {self.rounds} rounds" if self.epsilon else ""
        given = "; the public start is the server's file" if self.server_weights else ""
        knows = "knows" if self.knows_weights else "does not know"
        return (
            f"{self.mode}: policy {self.policy}, scope {train.scope}; {self.images} images a site, batches of "
            f"{train.batch_size}, {train.epochs} epoch{'s' if train.epochs > 1 else ''} of {train.optimizer}, "
            f"{self.kind} as {self.wire}; {summed}{private}{given}; the attacker {knows} the public initial weights."
        )

    def refused(self) -> str | None:
        """Why there are no such updates to attack, MedVeil's own refusals first; None where there are."""
        if self.task != SINGLE_LABEL:
            return f"attacks on updates of {self.task} are not built"
        try:
            check_policy(self.policy, scheme=self.scheme, stem_rule=SCHEMES[self.scheme].stem_rule)
            if self.epsilon:
                check_private(Terms(SINGLE_LABEL, self.policy.train, 0, False, self.train), where="run")
        except MedVeilError as error:
            return f"MedVeil refuses such a run: {error}"
        return None

    def document(self) -> dict[str, Any]:
        """The situation as plain data, for a result."""
        train = {name: getattr(self.train, name) for name in _TOLD}
        return {
            "mode": self.mode,
            "keys": self.policy.keys,
            "stem_init": self.policy.init,
            "stem_train": self.policy.train,
            **train,
            "images": self.images,
            "wire": self.wire,
            "kind": self.kind,
            "sites": self.sites,
            "one_model": self.one_model,
            "server_weights": self.server_weights,
            "rounds": self.rounds,
            "epsilon": self.epsilon,
            "knows_weights": self.knows_weights,
            "model": dataclasses.asdict(self.model),
        }

    def unprotected(self) -> Situation:
        """What an attack must succeed in to count: one plain image, one step of SGD, everything sent and known."""
        train = replace(_training(UpdateConfig()), scope=FULL, personal="none")
        plain = resolve_policy("none")
        return Situation(
            mode=DIAGNOSTIC, scheme="none", policy=plain, train=train, images=1, kind=self.kind, model=self.model
        )


_TOLD = ("scope", "rank", "personal", "batch_size", "epochs", "optimizer", "lr", "momentum", "clip", "weight_decay")


def situation_of(config: UpdateConfig, *, scheme: str) -> Situation:
    """Fill in what a configuration leaves open, and check it.

    Raises
    ------
    ConfigError, PolicyError
        A value is out of its range, or the policy is not offered.
    """
    if config.mode not in MODES:
        raise ConfigError("'mode' is not known", where="update", cure=f"one of {', '.join(MODES)}")
    _check(config)
    keys = config.keys or ("none" if scheme == "none" else "per-site")
    train = _training(config)
    train.check(where="update")
    deployed = config.mode == DEPLOYMENT
    return Situation(
        mode=config.mode,
        scheme=scheme,
        policy=resolve_policy(keys, config.stem_init, config.stem_train),
        train=train,
        images=(64 if deployed else train.batch_size) if config.images is None else config.images,
        wire=("bf16" if deployed else "fp32") if config.wire is None else config.wire,
        kind=config.kind,
        sites=config.sites,
        one_model=config.one_model,
        server_weights=config.server_weights,
        rounds=config.rounds,
        epsilon=config.epsilon,
        knows_weights=config.knows_weights,
        task=config.task,
        model=config.model,
    )


def _training(config: UpdateConfig) -> TrainConfig:
    deployed = config.mode == DEPLOYMENT
    made = (
        TrainConfig()
        if deployed
        else TrainConfig(
            batch_size=1, optimizer="sgd", momentum=0.0, lr=1.0, min_lr=1.0, lr_warmup=0.0, clip=0.0, weight_decay=0.0
        )
    )
    # Rounding to bfloat16, where a GPU has it, is no part of what is attacked.
    made.precision = "fp32"
    made.scope, made.rank, made.personal = config.scope, config.rank, config.personal
    for name, value in (
        ("batch_size", config.batch),
        ("epochs", config.epochs),
        ("optimizer", config.optimizer),
        ("lr", config.lr),
    ):
        if value is not None:
            setattr(made, name, value)
    made.min_lr = min(made.min_lr, made.lr)
    return made


def _check(config: UpdateConfig) -> None:
    rules = (
        ("wire", config.wire is None or config.wire in WIRES, f"one of {', '.join(WIRES)}"),
        ("kind", config.kind in KINDS, f"one of {', '.join(KINDS)}"),
        ("sites", 1 <= config.sites <= MOST_SITES, f"1 to {MOST_SITES}"),
        ("rounds", config.rounds >= 1, "1 or more"),
        ("images", config.images is None or 1 <= config.images <= MOST_IMAGES, f"1 to {MOST_IMAGES}"),
    )
    for name, right, cure in rules:
        if not right:
            raise ConfigError(f"'{name}' is out of its range", where="update", cure=cure)
    if config.epsilon:
        PrivacyConfig(unit="example", epsilon=config.epsilon).check(where="update")
