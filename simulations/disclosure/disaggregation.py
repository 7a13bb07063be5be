"""Whether the model at hand makes one image of a batch outweigh the others, as a server's that fishes for one does.

Garov et al., "Hiding in Plain Sight: Disguising Data Stealing Attacks in Federated Learning", ICLR 2024
(arXiv 2306.03013), call the ratio D-SNR: of each matrix, the length of the longest gradient of an image beside those of
all others together, and of matrices the largest. What isolates an image so that its gradient can be read off the
batch's is far above one. Their own attack, SEER, is made to stay low: this sees what is older than it, and not that.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fl_client.data.config import DataConfig
from fl_client.data.partition import site_parts
from fl_client.data.source import open_source
from fl_client.disclosure.document import FAILED, INAPPLICABLE
from fl_client.export.folder import open_folder
from fl_client.export.ready import no_keys
from medveil.errors import MedVeilError
from models.vit import normalise
from simulations.disclosure.own_model import images_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]

NAME = "d-snr"
TEXT = (
    "A server that isolates an image sends a model under which the others of a batch leave next to nothing. Asked is "
    "how much longer the gradient of one image is than those of the others of its batch together, in the matrix where "
    "it is most so: the mean over batches of this site's training images. Beside it stands the same model with a "
    "classifier that fishes for a class of which a batch has one image, and what images that pull alike would give. It "
    "has no verdict: a model that learned its images well is sure of nearly all, and one it gets wrong outweighs them "
    "too. SEER is made to stay below it."
)
HAS = ["images with their labels", "the model that leaves"]
MOST = 1e12
"""A ratio beyond which nothing is told apart: it counts as this, so that it is not lost from a mean."""
_BATCH, _BATCHES = 16, 4
_LOW = 15.0


def told() -> dict[str, Any]:
    """What is planned, as of attacks."""
    return {"attack": NAME, "text": TEXT, "has": HAS}


def entry(folder: Path, data: DataConfig, *, seed: int, missing: str) -> dict[str, Any]:
    """What came of it, as `own_model.entry` (same parameters)."""
    if missing:
        return {"kind": INAPPLICABLE, "reason": missing}
    try:
        return _measured(folder, data, seed)
    except MedVeilError as error:
        return {"kind": FAILED, "reason": str(error)}


def d_snr(model: VisionTransformer, images: Tensor, labels: Tensor) -> float:
    """The disaggregation signal-to-noise ratio of a batch: `MOST` where all images but one leave nothing.

    NaN where a gradient is not finite.

    Parameters
    ----------
    model
        In evaluation mode; all its matrices are looked at.
    images
        As a model reads them, (n, C, H, W), of two or more.
    labels
        Their classes, int64 (n,).
    """
    matrices = [each for each in model.parameters() if each.ndim > 1]
    lengths = []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        loss = functional.cross_entropy(model(image), label)
        found = torch.autograd.grad(loss, matrices, allow_unused=True)
        lengths.append([0.0 if each is None else float(each.double().norm()) for each in found])
    each = np.array(lengths)
    longest = each.max(axis=0)
    if not np.isfinite(longest).all():
        return float("nan")
    # A sum of others so small beside the longest is what rounding left of none.
    others = np.maximum(each.sum(axis=0) - longest, longest / MOST)
    return float(np.divide(longest, others, out=np.zeros_like(longest), where=longest > 0).max())


def fishing(model: VisionTransformer, label: int) -> VisionTransformer:
    """The same model with a classifier that only images of one class pass (arXiv 2202.00580)."""
    made: Any = copy.deepcopy(model)
    with torch.no_grad():
        row = made.head.weight.new_ones(made.head.weight.shape[1])
        made.head.weight.zero_()
        made.head.weight[label] = row / row.norm()
        made.head.bias.zero_()
        made.head.bias[label] = -_LOW
    found: VisionTransformer = made
    return found


def _measured(folder: Path, data: DataConfig, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    described, model = open_folder(folder, no_keys)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    source = open_source(data)
    part, rng = site_parts(source, data, sites=1, index=0, seed=seed).train, np.random.default_rng(seed)
    count = min(_BATCHES, len(part) // 2)
    if not count:
        return {"kind": INAPPLICABLE, "reason": "there is no batch of two training images"}
    size = min(_BATCH, len(part) // count)
    images = images_of(source, rng.permutation(part)[: count * size], described.padded_size, rng)
    order = rng.permutation(count * size)
    plain, fished = [], []
    for chosen in np.split(order, count):
        own = images.labels[chosen]
        pixels, labels = normalise(torch.from_numpy(images.pixels[chosen])), torch.from_numpy(own)
        classes, counts = np.unique(own, return_counts=True)
        rarest = int(classes[counts.argmin()])
        plain.append(d_snr(model, pixels, labels))
        # One image of the class is left, as in the batch that such a server waits for.
        left = np.concatenate([np.flatnonzero(own != rarest), np.flatnonzero(own == rarest)[:1]])
        fished.append(d_snr(fishing(model, rarest), pixels[left], labels[left]))
    figure = {
        **{"target": _mean(plain), "control": _mean(fished), "chance": 1 / (size - 1)},
        "ci95": {"target": None},
        "unit": "times",
        "direction": "higher",
        "text": "the longest gradient of an image beside all others of its batch",
    }
    return {
        "verdict": "diagnostic",
        "main": "d_snr",
        "margin": 0.0,
        "figures": {"d_snr": figure},
        "keys": 1,
        # A power of two tells no size.
        "n": 2 ** ((count * size).bit_length() - 1),
        "notes": ["On the model moved to plain images, whose gradients are as long as those on hidden ones."],
        "seconds": time.monotonic() - began,
        "model": "white box",
    }


def _mean(found: list[float]) -> float | None:
    """Of all batches; None where one has none."""
    made = float(np.mean(found))
    return None if np.isnan(made) else made
