"""Fitting a stem to the frozen public trunk before round 1."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from fl_client.batches import Batches
from fl_client.config import TrainConfig
from fl_client.training import RoundPlan, TrainResult, train_round
from models.stem import head_names, stem_names

if TYPE_CHECKING:
    from models.vits import VisionTransformer


def warm_up(
    model: VisionTransformer, part: Batches, config: TrainConfig, *, epochs: int, seed: int, rng: np.random.Generator
) -> TrainResult:
    """Train the stem and a throwaway head for some epochs; trunk and head come out as they went in.

    A secret stem is unrelated to the trunk it meets. Fitting it at home, before anything is sent, gives the
    federation a better start and shows the server nothing.

    Parameters
    ----------
    model
        A ViT; its stem changes in place.
    part
        The site's encrypted training images.
    epochs
        Passes over them.
    """
    head = {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if name in head_names(model)}
    # Of a trunk that stands still no layer is lower than another: the stem trains at the whole rate.
    alone = dataclasses.replace(
        config, epochs=epochs, lr=config.warmup_lr, patch_dropout=0.0, minutes=0.0, layer_decay=1.0
    )
    plan = RoundPlan(round=1, rounds=1, seed=seed, rng=rng)
    result = train_round(model, part, alone, plan, trainable=[*stem_names(model), *head_names(model)])
    with torch.no_grad():
        state = model.state_dict()
        for name, tensor in head.items():
            state[name].copy_(tensor)
    return result
