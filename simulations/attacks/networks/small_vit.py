"""A small Vision Transformer for measurements: trained on ciphertexts as they are, without any key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fl_client.batches import in_order, shuffled
from fl_client.config import TrainConfig
from fl_client.optimizers import learning_rate, make_optimizers, set_rate
from models.config import ModelConfig
from models.late_compiler import without_compiler
from models.vit import build_vit

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the model is built and trained; the defaults are for seconds of a CPU core, not for the best accuracy."""

    width: int = 64
    depth: int = 2
    heads: int = 4
    epochs: int = 8
    batch_size: int = 25
    lr: float = 1.5e-3


class SmallViT:
    """A trained classifier of images of one shape and type.

    Parameters
    ----------
    model
        The ViT.
    centre, scale
        Of pixel values in training; every image is standardised by them.
    """

    def __init__(self, model: torch.nn.Module, centre: float, scale: float) -> None:
        self._model, self._centre, self._scale = model, centre, scale

    @torch.no_grad()
    def predict(self, images: Pixels, *, batch_size: int = 100) -> Floats:
        """Class probabilities, float64 (n, classes)."""
        self._model.eval()
        rows = [
            self._model(standardised(images[chosen], self._centre, self._scale)).double().softmax(1).numpy()
            for chosen in in_order(len(images), batch_size)
        ]
        return np.concatenate(rows)


@without_compiler()
def fit(
    images: Pixels,
    labels: npt.NDArray[np.int64],
    *,
    classes: int,
    block: int,
    rng: np.random.Generator,
    recipe: Recipe | None = None,
) -> SmallViT:
    """Train a small ViT from random weights.

    Parameters
    ----------
    images
        (n, C, S, S), of an unsigned integer type.
    labels
        int64 (n,), from 0 to ``classes - 1``.
    block
        Patch size; the cipher's block, which the attacker knows.
    rng
        Decides weights and batches.
    recipe
        Size and training; None for the defaults.
    """
    recipe = recipe or Recipe()
    model = build_vit(
        ModelConfig(
            image_size=images.shape[-1],
            patch=block,
            channels=images.shape[1],
            classes=classes,
            width=recipe.width,
            depth=recipe.depth,
            heads=recipe.heads,
        ),
        seed=int(rng.integers(2**31)),
    )
    centre, scale = float(images.mean()), max(float(images.std()), 1.0)
    config = TrainConfig(epochs=recipe.epochs, batch_size=recipe.batch_size, lr=recipe.lr, lr_warmup=0.1)
    (optimizer,) = optimizers = make_optimizers(model, dict(model.named_parameters()), config)
    truth = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
    total = recipe.epochs * math.ceil(len(labels) / recipe.batch_size)
    done = 0
    model.train()
    for _ in range(recipe.epochs):
        for chosen in shuffled(len(labels), recipe.batch_size, rng):
            set_rate(optimizers, learning_rate(done, total, config))
            loss = functional.cross_entropy(model(standardised(images[chosen], centre, scale)), truth[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
    return SmallViT(model, centre, scale)


def standardised(images: Pixels, centre: float, scale: float) -> Tensor:
    """Images as float32, about mean 0 and deviation 1."""
    return torch.from_numpy((images.astype(np.float32) - centre) / scale)
