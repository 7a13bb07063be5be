"""Gradient matching: images are changed until they would make the update that was sent.

Geiping et al., "Inverting Gradients: How easy is it to break privacy in federated learning?", NeurIPS 2020
(arXiv 2003.14053): one minus the cosine of the two updates, and total variation, descended by Adam's steps along the
signs of the gradient. The cosine is taken of each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from medveil.wire import Tensors
from models.late_compiler import without_compiler

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Decoder = Callable[[Tensor], Tensor]
_TOKENS = 3
"""Dimensions of a table of tokens (1, T, D)."""
HEAD_BIAS = "head.bias"
_BEGIN = 0.3
"""Deviation of the noise that a search begins with."""
_ROUNDING = 1e-3
"""Length of a row, of the longest, below which it is left out."""


@dataclass(frozen=True)
class Descent:
    """How images are searched for.

    Parameters
    ----------
    iterations
        Steps of a restart.
    restarts
        Beginnings; the one that matches best counts.
    rate
        Of Adam at the start, over the range from -1 to 1 of a pixel; a cosine takes it to 0.
    variation
        Weight of total variation.
    steps, rate_of_sites
        Local steps to simulate, and the sites' rate; one step is the gradient, whatever the rate.
    """

    iterations: int = 300
    restarts: int = 1
    rate: float = 0.1
    variation: float = 1e-2
    steps: int = 1
    rate_of_sites: float = 1.0


@dataclass(frozen=True)
class Match:
    """Images (m, C, H, W) as a model reads them, and how well they match: one minus the cosine."""

    images: Floats
    loss: float


class Target:
    """An update to be matched, and the attacker's model.

    Parameters
    ----------
    model
        In the precision to compute in. It is changed: attention is computed in parts, for second derivatives.
    change
        What training changed, by name.
    labels
        Of the images (m,), as the attacker takes them to be.
    """

    def __init__(self, model: VisionTransformer, change: Tensors, labels: Indices) -> None:
        for layer in model.modules():
            if hasattr(layer, "fused_attn"):
                layer.fused_attn = False  # type: ignore[assignment]
        self.model: Any = model
        self.parameters = {name: each.detach() for name, each in model.named_parameters()}
        self.sent = [name for name in self.parameters if name in change]
        dtype = next(iter(self.parameters.values())).dtype
        self.change = [_rows(torch.from_numpy(change[name]).to(dtype)) for name in self.sent]
        longest = max(float(each.norm(dim=1).max()) for each in self.change)
        self.kept = [each.norm(dim=1) > _ROUNDING * longest for each in self.change]
        self.labels = torch.from_numpy(labels)

    def loss(self, images: Tensor, descent: Descent) -> Tensor:
        """One minus the cosine of what these images would change and what was changed, mean over rows of all tensors.

        Over everything at once the classifier and the class token drown the patches, whose share of a gradient is small
        while attention is nearly even, as it is at the start. Rows too short to be more than rounding are left out.
        """
        rows = [_rows(each) for each in self._change(images, descent)]
        found = torch.cat(
            [
                functional.cosine_similarity(a[kept], b[kept], dim=1)
                for a, b, kept in zip(rows, self.change, self.kept, strict=True)
            ]
        )
        return 1 - found.mean()

    def _change(self, images: Tensor, descent: Descent) -> Sequence[Tensor]:
        trained = {name: self.parameters[name].clone().requires_grad_() for name in self.sent}
        began = list(trained.values())
        parts = torch.tensor_split(torch.arange(len(images)), min(descent.steps, len(images)))
        for chosen in (parts[step % len(parts)] for step in range(descent.steps)):
            logits = functional_call(self.model, trained, (images[chosen],))
            loss = functional.cross_entropy(logits, self.labels[chosen])
            found = torch.autograd.grad(loss, list(trained.values()), create_graph=True)
            rate = descent.rate_of_sites
            trained = {name: each - rate * g for (name, each), g in zip(trained.items(), found, strict=True)}
        return [after - before for after, before in zip(trained.values(), began, strict=True)]


def _rows(tensor: Tensor) -> Tensor:
    """A tensor as a matrix: a row for each number of a layer's output, or each token; a vector is one row."""
    if tensor.ndim == 1:
        return tensor[None]
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim == _TOKENS else tensor.flatten(1)


@without_compiler()
def descend(
    target: Target,
    shape: Sequence[int],
    descent: Descent,
    rng: np.random.Generator,
    *,
    decoder: Decoder | None = None,
) -> Match:
    """The images that match best.

    Parameters
    ----------
    target
        What is to be matched.
    shape
        Of the images (m, C, H, W); or of the codes, with a decoder.
    decoder
        Makes images of what is searched for; None where that is the images themselves.
    """
    found = [_descend(target, shape, descent, rng, decoder) for _ in range(descent.restarts)]
    return min(found, key=lambda match: match.loss if np.isfinite(match.loss) else np.inf)


def _descend(
    target: Target, shape: Sequence[int], descent: Descent, rng: np.random.Generator, decoder: Decoder | None
) -> Match:
    dtype = target.change[0].dtype
    searched = torch.from_numpy(rng.normal(scale=_BEGIN if decoder is None else 1.0, size=tuple(shape))).to(dtype)
    searched.requires_grad_()
    adam = torch.optim.Adam([searched], lr=descent.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, descent.iterations)
    best = Match(np.zeros(0), np.inf)
    for _ in range(descent.iterations):
        images = searched if decoder is None else decoder(searched)
        loss = target.loss(images, descent)
        if loss.item() < best.loss:
            best = Match(images.detach().double().numpy().copy(), loss.item())
        total = loss + descent.variation * variation(images)
        (gradient,) = torch.autograd.grad(total, searched)
        searched.grad = gradient.sign() if decoder is None else gradient
        adam.step()
        schedule.step()
        if decoder is None:
            with torch.no_grad():
                searched.clamp_(-1, 1)
    return best


def variation(images: Tensor) -> Tensor:
    """Total variation, anisotropic, mean over pixels."""
    down, right = images.diff(dim=-2).abs().mean(), images.diff(dim=-1).abs().mean()
    return down + right


def labels_from_head(
    change: Tensors, model: VisionTransformer, count: int, shape: Sequence[int], *, moved: float | None
) -> Indices:
    """The classes of so many images from the change of the classifier's bias: int64 (count,), sorted.

    Descent moves the bias of a class by what it was given less often than it occurs. For one image that is exact: only
    its own class rises (Zhao et al., "iDLG", arXiv 2001.02610). For several, the shares of classes are what the model
    answers to grey, and what each rose by.

    Parameters
    ----------
    change
        The update.
    model
        The attacker's model.
    shape
        Of an image (C, H, W).
    moved
        Rate times steps, for plain SGD; None where the rate says nothing: then as much is taken to have been moved as
        leaves no share below 0.
    """
    rose = change[HEAD_BIAS].astype(np.float64)
    with torch.no_grad():
        grey = torch.zeros((1, *shape), dtype=next(model.parameters()).dtype)
        asked: Floats = model(grey).double().softmax(1)[0].numpy()
    if count == 1:
        return np.array([int(rose.argmax())], np.int64)
    falls = rose < 0
    most = float((asked[falls] / -rose[falls]).min()) if falls.any() else 0.0
    shares = np.maximum(asked + rose * (most if moved is None else 1 / moved), 0)
    exact = shares / shares.sum() * count
    counts = np.floor(exact).astype(np.int64)
    for place in np.argsort(counts - exact)[: count - int(counts.sum())]:
        counts[place] += 1
    return np.repeat(np.arange(len(counts)), counts)[:count].astype(np.int64)
