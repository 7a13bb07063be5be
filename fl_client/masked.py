"""Training and measuring without labels: how well a model tells the pixels it was not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fl_client.batches import Batches, in_order
from fl_client.config import TrainConfig
from fl_client.numbers import autocast, numbers_of, place_of, to_device
from medveil.pretraining import MaskedConfig
from models.autoencoder import reconstruction_losses
from models.patches import draw_rows

if TYPE_CHECKING:
    from models.vits import VisionTransformer

LARGEST_LOSS = 4.0
"""What an image counts at most: the error of telling black where white is. A loss can carry no message of its own."""
_BATCH = 128


def masked_loss(
    model: Any, x: Tensor, config: MaskedConfig, *, rng: np.random.Generator, pi: npt.NDArray[np.int64] | None
) -> Tensor:
    """The loss of a batch, its masks drawn in the order of the plain image.

    Parameters
    ----------
    x
        Images as the model reads them.
    rng
        Draws the masks.
    pi
        The key's permutation of patches; None where they lie as in the plain image.
    """
    return _losses(model, x, config, rng=rng, pi=pi).mean()


@torch.no_grad()
def reconstructed(
    model: VisionTransformer,
    part: Batches,
    train: TrainConfig,
    config: MaskedConfig,
    *,
    rng: np.random.Generator,
    pi: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.float64]:
    """The loss of each image of a part, un-augmented, in order, `LARGEST_LOSS` at most: float64 (n,).

    Undefined (NaN) where the model's numbers are none.
    """
    device, dtype = place_of(model)
    model.eval()
    found = []
    for chosen in in_order(len(part.labels), _BATCH):
        x = numbers_of(part, chosen, 0, device, dtype)
        with autocast(device, train.precision):
            found.append(_losses(model, x, config, rng=rng, pi=pi).double().cpu().numpy())
    made = np.concatenate(found) if found else np.zeros(0)
    return np.minimum(made, LARGEST_LOSS)


def _losses(
    model: Any, x: Tensor, config: MaskedConfig, *, rng: np.random.Generator, pi: npt.NDArray[np.int64] | None
) -> Tensor:
    rows = draw_rows(rng, len(x), model.patch_embed.num_patches, 0.0, pi)
    return reconstruction_losses(model, x, to_device(rows, x.device), config)
