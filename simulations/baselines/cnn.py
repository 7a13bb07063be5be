"""A small convolutional network from scratch: ResNet-18 at half its width (He et al., arXiv 1512.03385).

It is trained by the loop that trains every site, with the experiment's own recipe, for as many passes over the pooled
images as the sites make over theirs, and asked about as many views. What of a recipe is a transformer's alone is left
out: it has no patches to drop and no blocks for Muon, and averaged weights would meet the statistics of others in its
normalisation. Images below `_SMALL` pixels get the paper's stem for small images, a 3x3 convolution without pooling;
those above `_LARGEST` are averaged to that first, or it would cost more than what it is beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from fl_client.batches import generator
from fl_client.config import TrainConfig
from fl_client.optimizers import Moments
from fl_client.predicted import mean_over_views
from fl_client.training import RoundPlan, TrainResult, predict, train_round
from medveil.predicting import PredictConfig
from medveil.wire import Tensors
from models.timm_import import import_timm
from simulations.baselines.pooled import Pooled, PooledPart, Probabilities

import_timm()

from timm.models.resnet import BasicBlock, ResNet  # noqa: E402 - import_timm comes first

_SMALL, _LARGEST = 40, 96
_LAYERS, _CHANNELS = (2, 2, 2, 2), (32, 64, 128, 256)
_NAME = "cnn"
_MOMENT = "/"
"""Stands in the names of moments (`fl_client.optimizers.moments_of`), and in none of a module's."""


def build(*, classes: int, channels: int, size: int, seed: int) -> nn.Module:
    """The network with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, _NAME, "weights").integers(2**63)))
        # timm's hints ask for a block where it takes the class of one.
        block: Any = BasicBlock
        model = ResNet(block, _LAYERS, num_classes=classes, in_chans=channels, channels=_CHANNELS)
        first: Any = model.conv1
        if size < _SMALL:
            small = nn.Conv2d(channels, first.out_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
            model.add_module("conv1", small)
            model.add_module("maxpool", nn.Identity())
        elif size > _LARGEST:
            model.add_module("conv1", nn.Sequential(nn.AdaptiveAvgPool2d(_LARGEST), first))
    return model


def _without_a_transformers(config: TrainConfig, *, sites: int) -> TrainConfig:
    # What each site would spend by the clock, the one network spends for all of them.
    optimizer = "adamw" if config.optimizer == "muon" else config.optimizer
    return replace(
        config, optimizer=optimizer, patch_dropout=0.0, layer_decay=1.0, ema=0.0, minutes=config.minutes * sites
    )


class Network:
    """The network at work on the pooled images.

    Parameters
    ----------
    model
        Of `build`.
    pooled
        The images.
    config, rounds, seed
        The experiment's recipe.
    asked
        The views that it is asked about when the run ends.
    """

    def __init__(
        self, model: nn.Module, pooled: Pooled, config: TrainConfig, *, rounds: int, seed: int, asked: PredictConfig
    ) -> None:
        self._pooled, self._rounds, self._seed, self._asked = pooled, rounds, seed, asked
        self._moments: Moments | None = {} if config.state == "kept" else None
        self._config = _without_a_transformers(config, sites=len(pooled.sites))
        dtype = torch.float64 if config.precision == "fp64" else torch.float32
        self._model = model.to(pooled.sites[0].setup.device, dtype)

    def train(self, round_: int) -> TrainResult:
        """One round on all training images (FederationError where the loss is not finite)."""
        plan = RoundPlan(
            round=round_,
            rounds=self._rounds,
            seed=int(generator(self._seed, "torch", _NAME, round_).integers(2**63)),
            rng=generator(self._seed, "train", _NAME, round_),
        )
        names = [name for name, _ in self._model.named_parameters()]
        return train_round(self._model, self._pooled.train, self._config, plan, trainable=names, moments=self._moments)

    def answers(self, part: PooledPart) -> Probabilities:
        """Class probabilities (n, K) of a part's images, each alone."""
        if not len(part):
            return np.zeros((0, self._pooled.classes), np.float32)
        return predict(self._model, part, self._config)

    def answers_at_last(self, part: PooledPart) -> Probabilities:
        """The same, the mean over the views that the run asks for (DataError where a file can be read no longer)."""

        def of_view(view: int) -> Probabilities:
            if view == 0:
                return self.answers(part)
            return predict(self._model, part.view(view, self._asked.augment), self._config)

        return mean_over_views(of_view, self._asked.views if len(part) else 1)

    def tensors(self) -> Tensors:
        """All of the network's state, for a checkpoint, and what its optimiser remembers."""
        return {name: np.asarray(value, order="C") for name, value in self._state()}

    def load(self, tensors: Tensors) -> None:
        """Go back to a state."""
        found = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
        self._model.load_state_dict({name: value for name, value in found.items() if _MOMENT not in name})
        if self._moments is not None:
            self._moments.clear()
            self._moments.update({name: value for name, value in found.items() if _MOMENT in name})

    def described(self) -> dict[str, Any]:
        """What the network is, for the manifest."""
        count = sum(parameter.numel() for parameter in self._model.parameters())
        return {"layers": list(_LAYERS), "channels": list(_CHANNELS), "parameters": count}

    def _state(self) -> Iterator[tuple[str, Any]]:
        for name, tensor in (self._model.state_dict() | (self._moments or {})).items():
            yield name, tensor.detach().cpu().numpy()
