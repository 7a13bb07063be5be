"""Whether a model can be trained as a run asks, seen before any of it is built (`models.sizes.skeleton`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.personal import NORMS
from medveil.predicting import PredictConfig
from medveil.pretraining import MaskedConfig
from medveil.training import LIGHT, TrainConfig
from models.autoencoder import check_mask
from models.patches import how_many_stay
from models.policy import FOLLOWED, SIGNED_PERMUTATION, Policy
from models.stem import block_matrices, stem_names, tail_names, trunk_names
from models.suited import check_stem
from models.travel import trainable, travelling

if TYPE_CHECKING:
    from models.vits import VisionTransformer


CLASSES_ALONE = {
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "class_weights": "none",
    "logit_adjustment": 0.0,
    "patch_dropout": 0.0,
    "layer_decay": 1.0,
    "scope": "full",
}
"""What means something only where classes are learned, by what it must be where none are."""


def check_masked(
    run: RunConfig,
    train: TrainConfig,
    predict: PredictConfig,
    *,
    stem_rule: str | None = SIGNED_PERMUTATION,
    where: str = "train",
) -> None:
    """Refuse what masked autoencoding has no use for, and what does not commute with hiding; else nothing is checked.

    Parameters
    ----------
    run
        The run, whose classes and sizes may not be known yet.
    train, predict
        Its sections, read.
    stem_rule
        How a stem follows the key of the run's scheme; who does not know the scheme leaves it to those who do.
    where
        Whose settings these are, for errors.

    Raises
    ------
    ConfigError, PolicyError
        One line, with what would be right.
    """
    masked = run.masked
    if masked is None:
        return
    for name, right in CLASSES_ALONE.items():
        if getattr(train, name) != right:
            cure = f"{right}; train.recipe=pre-train sets none of this"
            raise ConfigError(f"'{name}' is set, and masked autoencoding learns no classes", where=where, cure=cure)
    if predict.views != 1:
        raise ConfigError("'views' is set, and masked autoencoding predicts nothing", where="predict", cure="1")
    if run.stem_warmup:
        problem = "'stem.warmup' fits a stem to classes, and masked autoencoding learns none"
        raise ConfigError(problem, where=where, cure="0")
    _check_masked_policy(Policy(run.keys, run.stem_init, run.stem_train))
    scheme = str(run.cipher.get("scheme", "none"))
    if run.keys != "none":
        _check_commutes(masked, scheme=scheme, stem_rule=stem_rule, negate=bool(run.cipher.get("negate", False)))


def _check_masked_policy(policy: Policy) -> None:
    """A masked autoencoder's result is a trunk to begin from: behind a stem that others can have, and without a key."""
    where = f"masked autoencoding, policy {policy}"
    if policy.init == "secret":
        problem = "a trunk that learned behind secret stems fits no public one, and nobody could begin from it"
        raise PolicyError(problem, where=where, cure="stem.init=adapted, or public with keys.policy=none")
    if policy.keys != "none" and policy.stem_travels:
        problem = (
            "the decoder's last layer would travel, and its rows show which places of a hidden patch are neighbours: "
            "that gives the key away"
        )
        raise PolicyError(problem, where=where, cure="stem.init=adapted, which keeps stem and last layer at home")
    if policy.keys != "none" and policy.init == "public":
        problem = "each stem would learn its own key's domain, and leave a trunk that no public stem fits"
        raise PolicyError(problem, where=where, cure="stem.init=adapted")


def _check_commutes(masked: MaskedConfig, *, scheme: str, stem_rule: str | None, negate: bool) -> None:
    where = f"pretrain, scheme '{scheme}'"
    if stem_rule not in FOLLOWED:
        problem = "a decoder cannot follow the key of a scheme that hides blocks unlike one another"
        raise ConfigError(problem, where=where, cure="cipher.scheme=block-pixel")
    if masked.normalise_pixels and negate:
        problem = "'normalise_pixels' takes each patch's mean away, and that of negated pixels is another"
        raise ConfigError(problem, where=where, cure="pretrain.normalise_pixels=false, or cipher.negate=false")
    if masked.normalise_pixels and stem_rule != SIGNED_PERMUTATION:
        problem = "'normalise_pixels' takes each patch's mean away, and that of mixed pixels is another"
        raise ConfigError(problem, where=where, cure="pretrain.normalise_pixels=false, or cipher.scheme=block-pixel")


def check_training(
    model: VisionTransformer,
    policy: Policy,
    train: TrainConfig,
    *,
    masked: MaskedConfig | None = None,
    where: str = "train",
) -> None:
    """Refuse training that this model has nothing for.

    Parameters
    ----------
    model
        The model, made as its scope wants it (`models.light.lighten`), with storage or without.
    policy, train, masked
        Of the run.
    where
        Whose settings these are, for errors.

    Raises
    ------
    ConfigError
        A setting has nothing to work on, or the model cannot have the policy's stem.
    """
    check_stem(model, policy)
    if masked is not None:
        check_mask(model.patch_embed.num_patches, masked)
    if train.patch_dropout > 0 and not hasattr(model, "patch_drop"):
        problem = f"'patch_dropout' leaves patches out, and a {type(model).__name__} takes them all"
        raise ConfigError(problem, where=where, cure="0, or a model with learned absolute or rotary positions")
    _check_patches(model.patch_embed.num_patches, train, where)
    names = set(trainable(model, policy, train.scope))
    if train.scope in LIGHT and not names.intersection(trunk_names(model)):
        problem = f"'scope' is {train.scope}, and the trunk of this model has no such parameters"
        raise ConfigError(problem, where=where, cure="bias-norm, lora-core, head or full")
    _check_norms(model, policy, train, names, where)
    matrices = block_matrices({name: p for name, p in model.named_parameters() if name in names})
    if train.optimizer == "muon" and not matrices:
        problem = "'optimizer' is muon, which trains matrices of blocks, and 'scope' trains no block's matrices"
        raise ConfigError(problem, where=where, cure="adamw, or a scope with them: full, last-2-blocks, lora-core")


def _check_norms(model: VisionTransformer, policy: Policy, train: TrainConfig, names: set[str], where: str) -> None:
    if train.personal == NORMS and not names.difference(
        travelling(model, policy, train.scope, personal=NORMS), stem_names(model), tail_names(model)
    ):
        problem = "'personal' is norms, and what trains of this model has none"
        raise ConfigError(problem, where=where, cure="personal=ditto, or none")


def _check_patches(patches: int, train: TrainConfig, where: str) -> None:
    if train.patch_dropout > 0 and how_many_stay(patches, train.patch_dropout) == patches:
        problem = "'patch_dropout' leaves patches out, and an image of this model is one patch"
        raise ConfigError(problem, where=where, cure="0, or larger images")
