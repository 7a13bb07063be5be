"""Whether a model can be trained as a run asks, seen before any of it is built (`models.sizes.skeleton`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medveil.errors import ConfigError
from medveil.training import TrainConfig
from models.patches import how_many_stay
from models.policy import Policy
from models.stem import block_matrices
from models.suited import check_stem
from models.travel import trainable

if TYPE_CHECKING:
    from models.vits import VisionTransformer


def check_training(model: VisionTransformer, policy: Policy, train: TrainConfig, *, where: str = "train") -> None:
    """Refuse training that this model has nothing for.

    Parameters
    ----------
    model
        The model, with storage or without.
    policy, train
        Of the run.
    where
        Whose settings these are, for errors.

    Raises
    ------
    ConfigError
        A setting has nothing to work on, or the model cannot have the policy's stem.
    """
    check_stem(model, policy)
    if train.patch_dropout > 0 and not hasattr(model, "patch_drop"):
        problem = f"'patch_dropout' leaves patches out, and a {type(model).__name__} takes them all"
        raise ConfigError(problem, where=where, cure="0, or a model with learned absolute or rotary positions")
    _check_patches(model.patch_embed.num_patches, train, where)
    names = set(trainable(model, policy, train.scope))
    matrices = block_matrices({name: p for name, p in model.named_parameters() if name in names})
    if train.optimizer == "muon" and not matrices:
        problem = "'optimizer' is muon, which trains matrices of blocks, and 'scope' trains no block"
        raise ConfigError(problem, where=where, cure="adamw, or a scope with blocks: full, last-2-blocks")


def _check_patches(patches: int, train: TrainConfig, where: str) -> None:
    if train.patch_dropout > 0 and how_many_stay(patches, train.patch_dropout) == patches:
        problem = "'patch_dropout' leaves patches out, and an image of this model is one patch"
        raise ConfigError(problem, where=where, cure="0, or larger images")
