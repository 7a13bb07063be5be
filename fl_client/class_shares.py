"""What makes up for unlike shares of classes at a site: weights in the loss, or an adjustment of the logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fl_client.config import TrainConfig


def class_weights(
    labels: npt.NDArray[np.int64], classes: int, config: TrainConfig, device: torch.device
) -> Tensor | None:
    """Weights n / (K_present * n_k) of the classes a site has (a missing class weighs 1), or None."""
    if config.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 1.0)
    return torch.tensor(weights, dtype=torch.float32, device=device)


class Adjustment(NamedTuple):
    """Shares (K,) of a site's classes, and what is added to the logits (K,) while it trains."""

    shares: Tensor
    added: Tensor


def logit_adjustment(
    labels: npt.NDArray[np.int64], classes: int, config: TrainConfig, device: torch.device
) -> Adjustment | None:
    """Shares of the K classes at a site, and tau times their logarithm; None without a tau.

    The logits alone then answer for equal shares of classes at every site, however unlike the sites' own are (Menon et
    al., arXiv 2007.07314; at the sites of a federation Zhang et al., arXiv 2209.00189). A class that a site lacks
    counts as one image, so that its logarithm is finite.
    """
    if config.logit_adjustment == 0:
        return None
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    shares = torch.tensor(counts / counts.sum(), dtype=torch.float32, device=device)
    return Adjustment(shares, config.logit_adjustment * shares.log())
