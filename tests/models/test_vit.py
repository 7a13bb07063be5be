from __future__ import annotations

import hashlib
import json
import struct

import pytest
import torch
from torch import nn

from medveil.config import from_mapping
from medveil.errors import ConfigError
from models.config import ModelConfig
from models.vit import build_vit, model_hash, normalise


def test_configuration_builds_what_it_says(tiny):
    model = build_vit(tiny(image_size=40, patch=5, channels=2, classes=7, width=60, depth=3, heads=4), seed=0)
    assert model.patch_embed.proj.weight.shape == (60, 2, 5, 5)
    assert model.pos_embed.shape == (1, 1 + 64, 60)
    assert (len(model.blocks), model.blocks[0].attn.num_heads, model.head.out_features) == (3, 4, 7)
    assert model.head.weight.dtype == torch.float32


def test_unset_fields_keep_what_timm_defines():
    model = build_vit(ModelConfig(), seed=0)
    assert model.patch_embed.proj.weight.shape == (192, 3, 16, 16)
    assert model.patch_embed.img_size == (224, 224)
    assert (len(model.blocks), model.head.out_features) == (12, 1000)


def test_fresh_weights_depend_on_the_seed_alone(tiny):
    first = model_hash(build_vit(tiny(), seed=1))
    torch.manual_seed(99)
    assert model_hash(build_vit(tiny(), seed=1)) == first
    assert model_hash(build_vit(tiny(), seed=2)) != first


def test_the_global_generator_is_left_alone(tiny):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build_vit(tiny(), seed=1)
    assert torch.equal(torch.rand(3), wanted)


def test_drop_path_grows_to_its_rate(tiny):
    model = build_vit(tiny(depth=3, drop_path=0.2), seed=0)
    assert getattr(model.blocks[-1].drop_path1, "drop_prob", None) == pytest.approx(0.2)
    assert isinstance(model.blocks[0].drop_path1, nn.Identity)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("vit_tiny_patch16_22", "did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.nothing", "Invalid pretrained tag"),
        ("hf-hub:someone/something", "timm has no model"),
        ("", "timm has no model"),
        ("resnet18", "is a ResNet"),
        ("swin_tiny_patch4_window7_224", "is a SwinTransformer"),
        ("vit_base_patch16_sapiens2", "shifts, stretches or scales its rotary positions"),
        ("deit_tiny_distilled_patch16_224", "is a VisionTransformerDistilled"),
        ("vit_small_r26_s32_224", "HybridEmbed"),
        ("vit_base_mci_224", "HybridEmbed"),
        ("vitamin_xlarge_256", "no learned absolute position embedding"),
    ],
)
def test_other_architectures_are_refused_with_the_reason(name, says):
    with pytest.raises(ConfigError) as caught:
        build_vit(ModelConfig(name=name), seed=0)
    assert says in str(caught.value)
    assert str(caught.value).startswith("model.name: ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_size": 30}, "model.image_size: 30 is no multiple of the patch size 4; pad the images to 32"),
        ({"image_size": 0}, "model.image_size: is 0"),
        ({"patch": -4}, "model.patch: is -4"),
        ({"channels": 0}, "model.channels: is 0"),
        ({"classes": 1}, "model.classes: is 1"),
        ({"depth": 0}, "model.depth: is 0"),
        ({"heads": 5}, "model.heads: 5 heads do not divide the width 48"),
        ({"width": 50}, "model.heads: 3 heads do not divide the width 50"),
        ({"drop_path": 1.0}, "model.drop_path: is 1.0"),
        ({"mean": [0.5]}, "mean and std describe pretrained weights"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(changes, says, tiny):
    with pytest.raises(ConfigError) as caught:
        build_vit(tiny(**changes), seed=0)
    assert says in str(caught.value)


def test_a_model_without_classifier_is_refused(tiny):
    with pytest.raises(ConfigError, match="no classifier"):
        build_vit(tiny(name="vit_small_patch14_reg4_dinov2", classes=None), seed=0)


def test_configuration_from_yaml_types():
    config = from_mapping(ModelConfig, {"pretrained": False, "mean": [0.1, 0.2, 0.3], "patch": 8}, where="here")
    assert build_vit(from_mapping(ModelConfig, {"pretrained": False, "depth": 1}, where="here"), seed=0)
    assert (config.mean, config.patch) == ([0.1, 0.2, 0.3], 8)


@pytest.mark.parametrize(("bits", "kind"), [(8, torch.uint8), (16, torch.uint16), (12, torch.uint16), (5, torch.uint8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_negation_is_exactly_a_change_of_sign(bits, kind, dtype):
    values = torch.arange(2**bits, dtype=torch.int64)
    found = normalise(values.to(kind), bits, dtype)
    negated = normalise((2**bits - 1 - values).to(kind), bits, dtype)
    assert found.dtype == dtype
    assert torch.equal(found, -negated)
    wanted = (2 * values.double() - (2**bits - 1)) / (2**bits - 1)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=torch.finfo(dtype).eps)
    assert (float(found[0]), float(found[-1])) == (-1.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_gain_multiplies_and_keeps_negation_a_change_of_sign(dtype):
    values = torch.arange(2**16).to(torch.uint16)
    found = normalise(values, 16, dtype, gain=27.7)
    assert found.dtype == dtype
    assert torch.equal(found, -normalise((65535 - values.int()).to(torch.uint16), 16, dtype, gain=27.7))
    wanted = normalise(values, 16, torch.float64) * 27.7
    torch.testing.assert_close(found.double(), wanted, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_normalise_leaves_its_input_alone():
    images = torch.full((1, 1, 2, 2), 7, dtype=torch.uint8)
    normalise(images)
    assert int(images.sum()) == 28


@pytest.mark.parametrize(
    ("images", "bits"),
    [(torch.zeros(2), 8), (torch.zeros(2, dtype=torch.int64), 8), (torch.zeros(2, dtype=torch.uint8), 12)]
    + [(torch.zeros(2, dtype=torch.uint16), bits) for bits in (0, 17)],
)
def test_normalise_refuses_what_is_no_image(images, bits):
    with pytest.raises(ConfigError):
        normalise(images, bits)


def test_model_hash_is_what_its_description_says():
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, 1.5)
    nn.init.constant_(layer.bias, -2.0)
    wanted = hashlib.sha256()
    for name, shape, values in (("bias", [1], [-2.0]), ("weight", [1, 2], [1.5, 1.5])):
        wanted.update(json.dumps([name, "torch.float32", shape]).encode() + b"\n")
        wanted.update(struct.pack(f"<{len(values)}f", *values))
    assert model_hash(layer) == wanted.hexdigest()


def test_model_hash_sees_names_types_shapes_and_values():
    base = nn.Linear(4, 2, bias=False)
    kinds = {model_hash(base), model_hash(nn.Linear(4, 2, bias=False)), model_hash(nn.Sequential(base))}
    reshaped = nn.Linear(2, 4, bias=False)
    reshaped.weight = nn.Parameter(base.weight.detach().reshape(4, 2))
    kinds.add(model_hash(reshaped))
    kinds.add(model_hash(base.to(torch.bfloat16)))
    assert len(kinds) == 5
