"""Checkpoints as people have them: wrapped, distilled, of another size, of numbers that are none."""

from __future__ import annotations

import functools

import pytest
import safetensors.torch
import torch

from medveil.errors import ConfigError, FormatError
from models.checkpoint import create, say_once
from models.config import ModelConfig
from models.vit import build_vit

DINOV3 = "vit_small_patch16_dinov3"
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2}


@functools.cache
def _made(name, classes):
    torch.manual_seed(4)
    model = create(name, num_classes=classes, **SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.state_dict()


def state_of(name="vit_tiny_patch16_224", classes=3):
    return {key: tensor.clone() for key, tensor in _made(name, classes).items()}


def config(path, name="vit_tiny_patch16_224", **changes):
    sizes = {"image_size": 16, "patch": 4, "channels": 3, "classes": 3, "width": 24, "depth": 1, "heads": 2}
    return ModelConfig(name, pretrained=str(path), mean=[0.5], std=[0.5], **{**sizes, **changes})


@pytest.fixture
def load(tmp_path):
    """Builds the model of a state dict that was saved so."""

    def made(state, name="vit_tiny_patch16_224", **changes):
        path = tmp_path / "weights.safetensors"
        safetensors.torch.save_file(state, path)
        return build_vit(config(path, name, **changes), seed=0)

    return made


@pytest.fixture(autouse=True)
def said(caplog):
    say_once.cache_clear()
    return caplog


def same(model, state, but=()):
    found = model.state_dict()
    return all(torch.equal(found[key], tensor) for key, tensor in state.items() if key not in but)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", DINOV3])
@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "backbone.", "model.", "_orig_mod.", "state_dict.", "teacher.backbone.", "student.module."),
        *("model_ema.module.", "_orig_mod.module.model.backbone.", "encoder."),
    ],
)
def test_wrappings_are_taken_off(prefix, name, load, said):
    state = state_of(name)
    assert same(load({prefix + key: tensor for key, tensor in state.items()}, name), state)
    assert said.text == ""


def test_what_stands_outside_a_backbone_is_left_out_in_one_line(load, said):
    state = state_of(classes=0)
    wrapped = {f"teacher.backbone.{key}": tensor for key, tensor in state.items()}
    beside = {"teacher.head.mlp.0.weight": torch.ones(8, 24), "teacher.head.last\x1b[2J": torch.ones(3)}
    assert same(load({**wrapped, **beside}), state)
    (line,) = [record.getMessage() for record in said.records]
    assert "'teacher.head.last" in line
    assert "and 1 more outside 'teacher.backbone.' are of another network, left out" in line
    assert "\x1b" not in line


def test_a_head_beside_a_backbone_is_its_own(load):
    state = state_of()
    wrapped = {key if key.startswith("head.") else f"backbone.{key}": tensor for key, tensor in state.items()}
    assert same(load(wrapped), state)


@pytest.mark.parametrize(
    "beside", [{"head.bias": torch.ones(3)}, {"head.weight": torch.ones(())}, {"head.weight": torch.ones(3, 7)}]
)
def test_what_is_no_head_of_a_backbone_is_left_out(beside, load, said):
    state = state_of(classes=0)
    model = load({**{f"backbone.{key}": tensor for key, tensor in state.items()}, **beside})
    assert same(model, state)
    assert "outside 'backbone.' are of another network, left out" in said.text


def test_of_several_sets_the_averaged_teacher_is_taken(load):
    state = state_of()
    both = {f"student.{key}": tensor + 1 for key, tensor in state.items()}
    assert same(load({**both, **{f"teacher.{key}": tensor for key, tensor in state.items()}}), state)


def test_a_distilled_deit_serves_a_plain_one(load, said):
    state = state_of("deit_tiny_distilled_patch16_224")
    model = load(state, "deit_tiny_patch16_224")
    assert torch.equal(model.pos_embed[0, 0], state["pos_embed"][0, 0])
    assert torch.equal(model.pos_embed[0, 1:], state["pos_embed"][0, 2:])
    assert same(model, state, but=("pos_embed", "dist_token", "head_dist.weight", "head_dist.bias"))
    (line,) = [record.getMessage() for record in said.records]
    assert line.endswith("its distillation token and head are left out")


def test_another_head_is_replaced_and_said_once(load, said):
    for _ in range(2):
        assert load(state_of(), classes=5).head.weight.shape == (5, 24)
    (line,) = [record.getMessage() for record in said.records]
    assert line == "the weights' head has 3 classes; a fresh one of 5 takes its place"


@pytest.mark.parametrize("size", [{"image_size": 24}, {"patch": 8}, {"image_size": 32, "patch": 8, "channels": 1}])
@pytest.mark.parametrize("name", [DINOV3, "eva02_tiny_patch14_224"])
def test_rotary_weights_serve_other_sizes_patches_and_channels(name, size, load):
    state = state_of(name)
    model = load(state, name, **size)
    pixels, channels = size.get("image_size", 16), size.get("channels", 3)
    assert same(model, {key: tensor for key, tensor in state.items() if key.startswith("blocks.")})
    assert model.rope.rows.tolist() == list(range((pixels // size.get("patch", 4)) ** 2))
    assert model.patch_embed.proj.weight.shape[1] == channels
    assert model.eval()(torch.zeros(1, channels, pixels, pixels)).isfinite().all()


def test_the_names_of_dinov3s_own_release_are_read_without_a_word(load, capfd):
    """Facebook's names, with a mask token, periods and a projection that only pre-training has."""
    state = state_of(DINOV3, classes=0)
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    theirs = {functools.reduce(lambda key, pair: key.replace(*pair), names.items(), key): t for key, t in state.items()}
    theirs |= {"mask_token": torch.ones(1, 24), "rope_embed.periods": torch.ones(3)}
    theirs["blocks.0.attn.qkv.bias"] = torch.zeros(72)
    assert same(load(theirs, DINOV3), state)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["blocks.0.attn.proj.weight", "pos_embed", "head.bias", "cls_token"])
def test_numbers_that_are_none_are_refused_by_name(key, value, load):
    state = state_of()
    state[key].view(-1)[-1] = value
    with pytest.raises(FormatError, match=f"its tensor '{key}' holds values that are not finite"):
        load(state)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_refused(dtype, load):
    state = state_of()
    state["blocks.0.mlp.fc1.weight"] = state["blocks.0.mlp.fc1.weight"].to(dtype)
    with pytest.raises(FormatError, match=r"its tensor 'blocks\.0\.mlp\.fc1\.weight' is of "):
        load(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fewer_or_more_digits_are_read(dtype, load):
    state = {key: tensor.to(dtype) for key, tensor in state_of().items()}
    assert same(load(state), {key: tensor.float() for key, tensor in state.items()})


@pytest.mark.parametrize(
    ("saved", "asked"),
    [(DINOV3, "vit_tiny_patch16_224"), ("vit_tiny_patch16_224", DINOV3), ("eva02_tiny_patch14_224", DINOV3)],
)
def test_another_architecture_is_refused_in_one_line(saved, asked, load):
    with pytest.raises(ConfigError, match=f"does not fit '{asked}'") as caught:
        load(state_of(saved), asked)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
