from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from models.config import ModelConfig

TINY = ModelConfig(image_size=32, patch=4, channels=3, classes=3, width=48, depth=2, heads=3)

# Token layouts the stem must serve, each as a timm name of that layout cut down to the tiny size.
LAYOUTS = {
    "class token": "vit_tiny_patch16_224",
    "class token without position": "deit3_small_patch16_224",
    "no prefix": "vit_medium_patch16_gap_256",
    "registers": "vit_medium_patch16_reg4_gap_256",
    "class token and registers": "vit_small_patch14_reg4_dinov2",
    "pre-norm": "vit_xsmall_patch16_clip_224",
    "norm in the patch embedding": "aimv2_large_patch14_224",
    "attention pooling": "vit_base_patch16_siglip_224",
}


@dataclass
class Permutation:
    """A signed permutation and, from the formula alone, what it makes of an image."""

    rho: np.ndarray
    pi: np.ndarray
    mask: np.ndarray
    block: int
    arrays: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.arrays = {"rho": self.rho, "pi": self.pi, "mask": self.mask}

    def encrypt(self, images: torch.Tensor, bits: int = 8) -> torch.Tensor:
        plain = images.numpy()
        hidden = np.empty_like(plain)
        size, across = self.block, images.shape[-1] // self.block
        for j, source in enumerate(self.pi):
            top, left = divmod(int(source), across)
            patch = plain[:, :, top * size : (top + 1) * size, left * size : (left + 1) * size]
            moved = patch.reshape(len(plain), -1)[:, self.rho]
            moved = np.where(self.mask, (2**bits - 1 - moved.astype(np.int64)).astype(plain.dtype), moved)
            row, column = divmod(j, across)
            hidden[:, :, row * size : (row + 1) * size, column * size : (column + 1) * size] = moved.reshape(
                patch.shape
            )
        return torch.from_numpy(hidden)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Callable[..., ModelConfig]:
    """Makes a tiny ModelConfig with changes."""
    return lambda **changes: replace(TINY, **changes)


@pytest.fixture
def draw_permutation() -> Callable[..., Permutation]:
    """Draws a random signed permutation for a model."""

    def draw(model: Any, *, seed: int = 0, negate: bool = True) -> Permutation:
        generator = np.random.default_rng(seed)
        numbers = model.patch_embed.proj.weight[0].numel()
        rho, pi = generator.permutation(numbers), generator.permutation(model.patch_embed.num_patches)
        mask = generator.random(numbers) < 0.5 if negate else np.zeros(numbers, dtype=bool)
        return Permutation(rho=rho, pi=pi, mask=mask, block=model.patch_embed.patch_size[0])

    return draw


@pytest.fixture
def draw_images() -> Callable[..., torch.Tensor]:
    """Draws random uint8 images for a model."""

    def draw(model: Any, n: int = 2, *, seed: int = 0) -> torch.Tensor:
        shape = (n, model.patch_embed.proj.in_channels, *model.patch_embed.img_size)
        return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))

    return draw


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "layout" in metafunc.fixturenames:
        metafunc.parametrize("layout", LAYOUTS.values(), ids=[name.replace(" ", "-") for name in LAYOUTS])
