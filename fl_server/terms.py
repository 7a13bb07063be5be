"""What a run is, whoever asks for it: a consortium's file (`fl_server.deployment.plan`) and an experiment add to it.

Two classes, because an experiment says its engine between them, and settings are printed in the order of the fields.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from fl_server.config import ServerConfig
from medveil.bounded import word
from medveil.cipher_choice import CipherChoice
from medveil.config import to_mapping
from medveil.counting import STATISTICS, StatisticsConfig
from medveil.errors import ConfigError
from medveil.evaluating import EVALUATE, EvaluateConfig
from medveil.predicting import PredictConfig
from medveil.pretraining import MASKED, SINGLE_LABEL, PretrainConfig
from medveil.privacy import PrivacyConfig
from medveil.recipes import NONE, settings_of
from medveil.secagg.config import SecAggConfig
from medveil.training import TrainConfig
from models.config import ModelConfig
from models.policy import Policy

_RECIPE_SECTIONS = ("data", "model", "train")


@dataclass
class KeysChoice:
    """Who holds which key."""

    policy: str = field(
        default="per-site",
        metadata={"help": "none, shared (one key for all; averaged stems then give much of it away) or per-site."},
    )


@dataclass
class StemChoice:
    """The stem: where it starts, whether it trains, whether it travels."""

    init: str | None = field(default=None, metadata={"help": "public, adapted or secret; null follows keys.policy."})
    train: str | None = field(default=None, metadata={"help": "averaged, local or frozen; null follows keys.policy."})
    warmup: int = field(
        default=0, metadata={"help": "Epochs that fit a stem kept at home to the trunk before round 1."}
    )


@dataclass
class RunOutline:
    """What a run is called, how long it is and who takes part."""

    name: str = field(default="run", metadata={"help": "Name of the run."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, splits and batches; never of a key."})
    rounds: int = field(default=10, metadata={"help": "Federated rounds."})
    sites: int = field(default=0, metadata={"help": "Sites expected; 0: all that are admitted."})


@dataclass
class RunTerms:
    """What all sites of a run must agree on, and how the server works; of what sort `data` is, a subclass says."""

    task: str = field(
        default=SINGLE_LABEL,
        metadata={
            "help": "What a run does: single-label (learns classes), masked-autoencoding (learns pixels that were left "
            "out, without labels, to begin another run from), evaluate (learns nothing and measures a model), or "
            "statistics (counts images, without a model)."
        },
    )
    wire: str = field(default="fp32", metadata={"help": "Wire format of tensors: fp32 or bf16."})
    kind: str = field(default="weights", metadata={"help": "What sites send: weights or delta."})
    evaluate_first: bool = field(
        default=True, metadata={"help": "Measure the incoming model on validation images each round."}
    )
    data: Any = None
    cipher: CipherChoice = field(default_factory=CipherChoice, metadata={"help": "What hides them."})
    keys: KeysChoice = field(default_factory=KeysChoice, metadata={"help": "Keys."})
    stem: StemChoice = field(default_factory=StemChoice, metadata={"help": "The stem of the model."})
    model: ModelConfig = field(default_factory=ModelConfig, metadata={"help": "The Vision Transformer."})
    train: TrainConfig = field(default_factory=TrainConfig, metadata={"help": "Local training."})
    predict: PredictConfig = field(default_factory=PredictConfig, metadata={"help": "How the model is asked."})
    privacy: PrivacyConfig = field(
        default_factory=PrivacyConfig, metadata={"help": "What the run may show of an image or a patient, in a number."}
    )
    pretrain: PretrainConfig = field(
        default_factory=PretrainConfig,
        metadata={"help": "Masked autoencoding, for task masked-autoencoding and 'medveil-sim pretrain'."},
    )
    evaluate: EvaluateConfig = field(
        default_factory=EvaluateConfig, metadata={"help": "What task evaluate measures; nothing trains."}
    )
    statistics: StatisticsConfig = field(
        default_factory=StatisticsConfig, metadata={"help": "What task statistics counts; there is no model."}
    )
    secagg: SecAggConfig = field(
        default_factory=SecAggConfig,
        metadata={"help": "Secure aggregation: against a server that would read single updates, and nobody else."},
    )
    server: ServerConfig = field(default_factory=ServerConfig, metadata={"help": "Aggregation."})
    without_recipe: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Settings of data, model and train that hold until train.recipe takes their place."},
    )

    def implied(self) -> dict[str, Any]:
        """What the recipe says (`medveil.recipes`), or where there is none what stands in its place.

        It holds for what the run leaves unsaid; ConfigError where neither can be.
        """
        _check_without(self.without_recipe)
        found = settings_of(self.train.recipe, pretrained=self.model.pretrained)
        return copy.deepcopy(self.without_recipe) if self.train.recipe == NONE else found

    def agreed(self, policy: Policy) -> dict[str, Any]:
        """The fields of a `RunConfig` that these terms decide, under the policy they resolve to."""
        if self.task == STATISTICS:
            return self._counted()
        return {
            "task": self.task,
            "pretrain": to_mapping(self.pretrain.masked) if self.task == MASKED else {},
            "evaluate": to_mapping(self.evaluate) if self.task == EVALUATE else {},
            "model": to_mapping(self.model),
            "train": to_mapping(self.train),
            "predict": to_mapping(self.predict),
            "privacy": to_mapping(self.privacy) if self.privacy.on else {},
            "cipher": to_mapping(self.cipher),
            "keys": policy.keys,
            "stem_init": policy.init,
            "stem_train": policy.train,
            "stem_warmup": self.stem.warmup,
            "wire": self.wire,
            "kind": self.kind,
            "proximal_mu": self.server.pull,
            "evaluate_first": self.evaluate_first,
            "secagg": copy.copy(self.secagg),
        }

    def _counted(self) -> dict[str, Any]:
        """Of a run without a model: settings of model, training, cipher and keys are about none of it."""
        return {
            "task": self.task,
            "statistics": to_mapping(self.statistics),
            "privacy": to_mapping(self.privacy) if self.privacy.on else {},
            "kind": self.kind,
            "secagg": copy.copy(self.secagg),
        }

    def fill_model(self, *, size: int, channels: int, classes: int | None, where: str) -> None:
        """Let the model be of the sizes that images and cipher decide.

        Parameters
        ----------
        size, channels, classes
            Of the images: side in pixels, channels, number of classes; None where none are learned.
        where
            Name of the run, for errors.

        Raises
        ------
        ConfigError
            The model asks for another size.
        """
        block = self.cipher.block
        wanted = {"image_size": -(-size // block) * block, "patch": block, "channels": channels, "classes": classes}
        for name, value in wanted.items():
            given = getattr(self.model, name)
            if value is not None and given not in (None, value):
                cure = f"data and cipher make it {value}: leave it unset"
                raise ConfigError(f"'model.{name}' is {given}", where=where, cure=cure)
            setattr(self.model, name, value)


def _check_without(sections: dict[str, Any]) -> None:
    for section, values in sections.items():
        if section not in _RECIPE_SECTIONS or not isinstance(values, dict):
            problem = f"'{word(section)}' is no section that a recipe could take the place of"
            raise ConfigError(problem, where="without_recipe", cure=f"settings of {', '.join(_RECIPE_SECTIONS)}")
        if section == "train" and "recipe" in values:
            raise ConfigError("names a recipe", where="without_recipe.train.recipe", cure="train.recipe")
