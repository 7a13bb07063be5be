"""What a model takes, known before it is built: never below what it is, and exact where it is laid out."""

from __future__ import annotations

import pytest
import torch

from models.config import ModelConfig
from models.sizes import Shape, least_shape, shape_of, skeleton, training_bytes
from models.vit import build_vit

CONFIGS = [
    ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=24, depth=2, heads=2),
    ModelConfig(image_size=64, patch=16, channels=3, classes=7, width=48, depth=3, heads=4),
    ModelConfig(image_size=48, patch=8, channels=1, classes=3, depth=1),
    ModelConfig(name="vit_small_patch14_reg4_dinov2.lvd142m", image_size=28, patch=14, channels=3, classes=2, depth=2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_skeleton_has_every_tensor_and_no_storage(config: ModelConfig) -> None:
    torch.set_num_threads(1)
    built, bare = build_vit(config, seed=0), skeleton(config)
    assert all(tensor.is_meta for tensor in bare.state_dict().values())
    assert {name: tensor.shape for name, tensor in bare.state_dict().items()} == {
        name: tensor.shape for name, tensor in built.state_dict().items()
    }
    assert shape_of(bare) == shape_of(built)


@pytest.mark.parametrize("config", CONFIGS)
def test_arithmetic_alone_never_says_more_than_there_is(config: ModelConfig) -> None:
    least, found = least_shape(config), shape_of(build_vit(config, seed=0))
    for name in ("parameters", "tokens", "width", "depth", "heads"):
        assert 1 <= getattr(least, name) <= getattr(found, name), name


def test_a_step_of_training_keeps_about_what_is_said() -> None:
    torch.set_num_threads(1)
    config = ModelConfig(image_size=64, patch=8, channels=1, classes=2, width=96, depth=4, heads=4)
    model, batch = build_vit(config, seed=0), 16
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.zeros(batch, 1, 64, 64)).sum()
    weights = sum(parameter.untyped_storage().nbytes() for parameter in model.parameters())
    shape = shape_of(model)
    said = training_bytes(shape, batch=batch, image=64 * 64, itemsize=4) - 8 * 4 * shape.parameters
    assert loss.requires_grad
    assert 0.5 < said / (sum(kept.values()) - weights) < 2


def test_every_size_counts() -> None:
    one = Shape(parameters=10**6, tokens=65, width=64, depth=4, heads=4)
    base = training_bytes(one, batch=8, image=4096, itemsize=4)
    assert training_bytes(one, batch=8, image=4096, itemsize=8) == 2 * base
    more = [
        training_bytes(one, batch=9, image=4096, itemsize=4),
        training_bytes(one, batch=8, image=4097, itemsize=4),
        *(
            training_bytes(Shape(**{**vars(one), name: getattr(one, name) + 1}), batch=8, image=4096, itemsize=4)
            for name in vars(one)
        ),
    ]
    assert all(each > base for each in more)
