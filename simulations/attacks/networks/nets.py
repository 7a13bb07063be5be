"""Networks that turn ciphertexts into images: one small convolutional net, and a critic of what it makes.

The net follows the inverse transformation networks of the literature (ito-hiroki's reference code): a convolution of
the size and stride of a block, 1x1 convolutions, and a pixel shuffle back. One thing is added, for without it no
convolution follows a shuffle of blocks: a linear mixing of block positions, which begins as the identity.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from crypto.base import Geometry

Pixels = npt.NDArray[Any]


class BlockNet(nn.Module):
    """A net that treats all blocks alike, and may put each in the place of another.

    Parameters
    ----------
    shape
        Shape of images and blocks.
    width
        Channels.
    """

    def __init__(self, shape: Geometry, width: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(shape.channels, width, shape.block, stride=shape.block)
        self.mix = nn.Linear(shape.blocks, shape.blocks)
        self.body = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.Conv2d(width, width, 1), nn.GELU())
        self.write = nn.Sequential(nn.Conv2d(width, shape.block_length, 1), nn.PixelShuffle(shape.block))
        nn.init.zeros_(self.mix.bias)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(shape.blocks) + 0.01 * torch.randn(shape.blocks, shape.blocks))

    def forward(self, hidden: Tensor) -> Tensor:
        """Images (n, C, H, W) from ciphertexts of the same shape, both about -1 to 1."""
        found = self.read(hidden)
        found = self.mix(found.flatten(2)).view(found.shape)
        made: Tensor = self.write(found + self.body(found))
        return made

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """For an optimiser: positions are learnt more slowly than contents, or they run away with each other."""
        mixing = list(self.mix.parameters())
        ids = {id(each) for each in mixing}
        others = [each for each in self.parameters() if id(each) not in ids]
        return [{"params": others, "lr": lr}, {"params": mixing, "lr": 0.3 * lr}]


class Critic(nn.Module):
    """Tells images from what a net makes, patch by patch (PatchGAN), under spectral normalisation."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        sizes = (channels, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1)))

    def forward(self, images: Tensor) -> Tensor:
        """A score for each patch: higher for what looks real."""
        made: Tensor = self.layers(images)
        return made


class Scale(NamedTuple):
    """How ciphertexts are read: about mean 0 and deviation 1 over those that a net is trained on."""

    centre: float
    deviation: float

    @classmethod
    def of(cls, hidden: Pixels) -> Scale:
        """The scale of some ciphertexts."""
        return cls(float(hidden.mean()), max(float(hidden.std()), 1e-6))

    def __call__(self, hidden: Pixels, device: torch.device) -> Tensor:
        """Ciphertexts as a net reads them."""
        return torch.from_numpy((hidden.astype(np.float32) - self.centre) / self.deviation).to(device)


def as_numbers(images: Pixels, device: torch.device) -> Tensor:
    """Images as float32 from -1 to 1."""
    largest = np.iinfo(images.dtype).max
    return torch.from_numpy(images.astype(np.float32) * (2 / largest) - 1).to(device)


def as_pixels(numbers: Tensor) -> npt.NDArray[np.uint8]:
    """Numbers from -1 to 1 as 8-bit pixels; what lies beyond is clipped."""
    made: npt.NDArray[np.uint8] = ((numbers.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
    return made


@torch.no_grad()
def opened(net: nn.Module, hidden: Tensor, batch_size: int = 100) -> npt.NDArray[np.uint8]:
    """What a net makes of ciphertexts, uint8 (n, C, H, W)."""
    net.eval()
    return np.concatenate([as_pixels(net(part)) for part in hidden.split(batch_size)])
