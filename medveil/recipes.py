"""Named sets of training settings: what a setting of the name means where a run says nothing else.

A recipe lies below everything a run's file and command line say: each setting of its own wins, also where it says what
would hold without any recipe. What came of it stands in full in the manifest, in the contract and in the report.

``small-data`` trains from fresh weights on some thousands of images. ``fine-tune`` begins from pre-trained weights; its
rates are those of He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, cut to small sets; so are
those of ``pre-train``, which is for such weights in the making, with labels or without.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from medveil.bounded import word
from medveil.errors import ConfigError

NONE = "none"
RECIPES: dict[str, dict[str, Any]] = {
    NONE: {},
    "small-data": {
        "model": {"init": "mimetic"},
        "train": {
            "optimizer": "muon",
            "lr": 3e-3,
            "lr_warmup": 0.08,
            "weight_decay": 0.05,
            "beta_2": 0.98,
            "clip": 1.0,
            "label_smoothing": 0.1,
            "batch_size": 64,
            "ema": 0.99,
            "patch_dropout": 0.5,
            "patch_dropout_steps": 0.8,
            "augment": "light",
        },
    },
    "pre-train": {
        "train": {
            "optimizer": "adamw",
            "lr": 1.5e-3,
            "lr_warmup": 0.1,
            "weight_decay": 0.05,
            "beta_2": 0.95,
            "clip": 1.0,
            "batch_size": 64,
            "augment": "light",
        },
    },
    "fine-tune": {
        "model": {"drop_path": 0.1},
        "train": {
            "optimizer": "adamw",
            "lr": 1e-3,
            "lr_warmup": 0.1,
            "weight_decay": 0.05,
            "clip": 1.0,
            "layer_decay": 0.75,
            "label_smoothing": 0.1,
            "mixup": 0.2,
            "ema": 0.99,
            "augment": "light",
        },
    },
}


def overridden(recipe: str, values: Mapping[str, Any]) -> list[str]:
    """The settings of a recipe that a run has otherwise, in words: ``train.lr 0.001 instead of 0.003``.

    Parameters
    ----------
    recipe
        Its name; one that is none has no settings.
    values
        The run's sections as plain data, however it was written down.
    """
    said = []
    for section, settings in RECIPES.get(recipe, {}).items():
        found = values.get(section)
        own = found if isinstance(found, Mapping) else {}
        said += [
            f"{section}.{name} {word(str(own[name]))} instead of {value}"
            for name, value in settings.items()
            if name in own and own[name] != value
        ]
    return said


def settings_of(recipe: str, *, pretrained: str, where: str = "train.recipe") -> dict[str, Any]:
    """The sections of a recipe, the caller's own to change.

    Parameters
    ----------
    recipe
        Its name.
    pretrained
        The weights of the run: a recipe is for fresh ones, or for others.

    Raises
    ------
    ConfigError
        There is no such recipe, or it is for other weights.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"is '{word(recipe)}'", where=where, cure=f"one of {', '.join(RECIPES)}")
    fresh = pretrained.strip().lower() == "false"
    if recipe == "small-data" and not fresh:
        raise ConfigError("is small-data, for fresh weights", where=where, cure="fine-tune, or model.pretrained=false")
    if recipe == "fine-tune" and fresh:
        cure = "small-data, or weights in model.pretrained"
        raise ConfigError("is fine-tune, and there are no weights to tune", where=where, cure=cure)
    return copy.deepcopy(RECIPES[recipe])
