"""A prior of images: an autoencoder of public ones, whose decoder makes images of few numbers.

It begins as principal components, which is the best linear one (Baldi and Hornik 1989), and learns what they leave out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.late_compiler import without_compiler

Floats = npt.NDArray[np.float64]
_BATCH = 64


@dataclass(frozen=True)
class Learning:
    """What is spent on an autoencoder: numbers of a code, hidden units, steps of 64 images."""

    code: int = 64
    width: int = 256
    steps: int = 1000


class Decoder(nn.Module):
    """Codes (m, K), of deviation 1, to images (m, C, H, W) between -1 and 1."""

    def __init__(self, shape: tuple[int, ...], mean: Tensor, axes: Tensor, width: int) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(axes.shape[1], axes.shape[0])
        last = nn.Linear(width, axes.shape[0])
        self.bent = nn.Sequential(nn.Linear(axes.shape[1], width), nn.GELU(), last)
        with torch.no_grad():
            self.linear.weight.copy_(axes)
            self.linear.bias.copy_(mean)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, codes: Tensor) -> Tensor:
        """The images of some codes; what lies beyond the range is cut, and still has a gradient."""
        made: Tensor = (self.linear(codes) + self.bent(codes)).unflatten(1, self.shape)
        return made + (made.clamp(-1, 1) - made).detach()


@without_compiler()
def learned(images: Floats, learning: Learning, rng: np.random.Generator) -> Decoder:
    """The decoder of an autoencoder of some images.

    Parameters
    ----------
    images
        (n, C, H, W), as numbers a model reads.
    """
    given = torch.from_numpy(images.reshape(len(images), -1)).float()
    mean = given.mean(dim=0)
    _, sizes, axes = torch.linalg.svd(given - mean, full_matrices=False)
    kept = min(learning.code, int((sizes > 1e-4 * sizes[0]).sum()))
    deviations = sizes[:kept] / max(1.0, len(given) - 1) ** 0.5
    with _seeded(rng):
        decoder = Decoder(images.shape[1:], mean, axes[:kept].T * deviations, learning.width)
        encoder = nn.Linear(given.shape[1], kept)
        with torch.no_grad():
            encoder.weight.copy_(axes[:kept] / deviations[:, None])
            encoder.bias.copy_(-(encoder.weight @ mean))
        both = [*decoder.parameters(), *encoder.parameters()]
        adam = torch.optim.Adam(both, lr=3e-4)
        for _ in range(learning.steps):
            batch = given[torch.from_numpy(rng.choice(len(given), min(_BATCH, len(given)), replace=False))]
            codes = encoder(batch)
            # Codes stay about as large as those that a search begins with.
            loss = functional.mse_loss(decoder(codes).flatten(1), batch) + 1e-4 * (codes**2).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    return decoder.eval().requires_grad_(False)


@contextlib.contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        yield
