"""A model to look at is not filled, and what has storage is filled as ever."""

from __future__ import annotations

import torch
from torch import nn

from models.checkpoint import create
from models.without_storage import without_storage


def test_what_is_built_has_the_shapes_of_the_real_one_and_no_numbers() -> None:
    sizes = {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32}
    with without_storage():
        outline = create("vit_tiny_patch16_224", **sizes)
    real = create("vit_tiny_patch16_224", **sizes)
    assert all(each.is_meta for each in outline.state_dict().values())
    assert {name: (each.shape, each.dtype) for name, each in outline.state_dict().items()} == {
        name: (each.shape, each.dtype) for name, each in real.state_dict().items()
    }


def test_what_has_storage_is_filled_meanwhile_too() -> None:
    there = torch.ones(3)
    with without_storage():
        nn.init.zeros_(there)
        there.add_(2.0).mul_(3.0)
        filled = torch.empty(4, device="cpu").uniform_(5, 6)
        made = torch.empty(2).normal_()
    assert there.tolist() == [6.0, 6.0, 6.0]
    assert filled.min() >= 5
    assert made.is_meta and made.shape == (2,)
    assert torch.zeros(1).add_(1).item() == 1
