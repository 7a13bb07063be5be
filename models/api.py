"""Models from Python: a run's Vision Transformer, its stem under a key, and the policies there are.

What `__all__` names is public: it stays as it is, and what changes of it is named in the changelog. Everything else of
``models`` may change at any time. The model of a run, or of an export, is `simulations.api.load_model`'s to give.

Nothing is printed. Every error is a `medveil.errors.MedVeilError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medveil.called import typed
from medveil.log import unheard
from models.config import ModelConfig
from models.described import described
from models.policy import POLICIES, Policy, resolve_policy
from models.stem import adapt, restore
from models.vit import build_vit, normalise

if TYPE_CHECKING:
    from models.vits import VisionTransformer

__all__ = ["ModelConfig", "Policy", "adapt", "build", "describe", "normalise", "policies", "policy", "restore"]
unheard()


@typed
def build(config: ModelConfig, *, seed: int = 0) -> VisionTransformer:
    """Build a timm Vision Transformer as a run does.

    Parameters
    ----------
    config
        Name, sizes and weights. `channels` and `classes` have to be set; `image_size` and `patch` where they are not
        the name's own.
    seed
        Of fresh weights.

    Returns
    -------
    VisionTransformer
        Of timm's class of that name, float32, on the CPU, in training mode. It reads what `normalise` makes of pixels,
        (n, C, H, W).

    Raises
    ------
    ConfigError
        timm has no such ViT, or not in these sizes, or its blocks cannot follow a key.
    StorageError, FormatError
        Weights are named and cannot be read.
    """
    return build_vit(config, seed=seed)


@typed
def describe(model: VisionTransformer, config: ModelConfig) -> dict[str, Any]:
    """Name, width, depth, heads, patch and parameters of a model, and timm's own sizes of that name, as plain data."""
    return described(model, config)


def policies() -> tuple[Policy, ...]:
    """All policies there are: who holds which key, how a stem starts and where it trains, each with its `note`."""
    return POLICIES


@typed
def policy(keys: str, init: str | None = None, train: str | None = None) -> Policy:
    """One policy; what is left open follows the keys.

    Parameters
    ----------
    keys
        ``"none"``, ``"shared"`` or ``"per-site"``.
    init
        ``"public"``, ``"adapted"`` or ``"secret"``.
    train
        ``"averaged"``, ``"local"`` or ``"frozen"``.

    Raises
    ------
    PolicyError
        It would publish a key, or cannot work; with the reason.
    """
    return resolve_policy(keys, init, train)
