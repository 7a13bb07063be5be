"""Light updates: what of them trains, that their mean is exact, and that what they trained is a plain model."""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import pytest
import torch

from medveil.errors import ConfigError
from medveil.training import LIGHT, TrainConfig
from models.light import bias_names, core_names, frame, lighten, plain_tensors, scale_names
from models.policy import POLICIES, Policy
from models.sizes import skeleton
from models.stem import head_names, stem_names, trunk_names
from models.trains import check_training
from models.travel import load_tensors, set_trainable, tensors, trainable, travelling
from models.vit import build_vit, model_hash, normalise

RANK = 8
SCOPES = ("full", "head", "last-1-blocks", *LIGHT)
AVERAGED = Policy("none", "public", "averaged")
NO_BIAS = "aimv2_large_patch14_224"
LAYERS = [f"blocks.{b}.{m}" for b in (0, 1) for m in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


def light(config, scope, *, seed=3, rank=RANK):
    return lighten(build_vit(config, seed=0), scope, rank, seed=seed)


def stirred(model, names, seed):
    """Moves named tensors a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    with torch.no_grad():
        for name in names:
            state[name].add_(0.1 * torch.randn(state[name].shape, generator=generator, dtype=state[name].dtype))
    return model


def test_biases_norms_and_layer_scale_are_told_by_type_and_name(tiny):
    model = build_vit(tiny(name="deit3_small_patch16_224"), seed=0)
    norms = {f"blocks.{b}.norm{n}" for b in (0, 1) for n in (1, 2)} | {"norm"}
    biases = {f"{each}.bias" for each in (*LAYERS, *norms)}
    scales = {f"{each}.weight" for each in norms} | {f"blocks.{b}.ls{n}.gamma" for b in (0, 1) for n in (1, 2)}
    for policy in POLICIES:
        assert set(travelling(model, policy, "bias")) == biases | set(head_names(model))
        assert set(travelling(model, policy, "bias-norm")) == biases | scales | set(head_names(model))
        home = stem_names(model) if policy.train == "local" else []
        assert set(trainable(model, policy, "bias")) == biases | {*head_names(model), *home}


def test_every_linear_layer_of_the_blocks_has_a_core(tiny):
    model = light(tiny(), "lora-core")
    cores = [f"{each}.parametrizations.weight.0.core" for each in LAYERS]
    assert sorted(core_names(model)) == sorted(cores)
    assert set(travelling(model, AVERAGED, "lora-core")) == {*cores, *head_names(model)}
    names = set_trainable(model, Policy("per-site", "adapted", "local"), "lora-core")
    assert set(names) == {*cores, *head_names(model), *stem_names(model)}
    assert {name for name, each in model.named_parameters() if each.requires_grad} == set(names)
    assert sum(model.state_dict()[name].numel() for name in cores) == len(LAYERS) * RANK**2


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_base_patch16_siglip_224"])
def test_the_mean_of_models_is_the_model_of_the_mean(scope, name, tiny, draw_images):
    config = tiny(name=name)
    start = light(config, scope).double()
    names = travelling(start, AVERAGED, scope)
    shares, sites = (0.5, 0.3, 0.2), [stirred(copy.deepcopy(start), names, seed) for seed in range(3)]
    sent = [tensors(each, names) for each in sites]
    mean = {name: sum(share * each[name] for share, each in zip(shares, sent, strict=True)) for name in names}
    load_tensors(start, mean, expected=names)
    plain = [plain_tensors(each) for each in sites]
    found = {name: sum(share * each[name] for share, each in zip(shares, plain, strict=True)) for name in plain[0]}
    whole = build_vit(config, seed=1).double()
    load_tensors(whole, found, expected=whole.state_dict())
    images = normalise(draw_images(start), dtype=torch.float64)
    torch.testing.assert_close(whole.eval()(images), start.eval()(images), rtol=0, atol=1e-12)
    assert max(float((a - b).abs().max()) for a, b in zip(plain[0].values(), found.values(), strict=True)) > 1e-2


def test_the_mean_of_two_trained_factors_is_not():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(3, 24, 8, generator=generator), torch.randn(3, 8, 24, generator=generator)
    assert float(((left @ right).mean(0) - left.mean(0) @ right.mean(0)).abs().max()) > 1


def test_cores_begin_at_the_public_model(layout, tiny, draw_images):
    public, model = build_vit(tiny(name=layout), seed=0).eval(), light(tiny(name=layout), "lora-core").eval()
    images = normalise(draw_images(model))
    assert torch.equal(model(images), public(images))
    merged = plain_tensors(model)
    assert sorted(merged) == sorted(public.state_dict())
    assert all(torch.equal(merged[name], tensor) for name, tensor in public.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_merged_cores_are_the_model_that_was_trained(dtype, tiny, draw_images):
    model = light(tiny(), "lora-core")
    model = stirred(model, core_names(model), 0).to(torch.float64 if dtype == torch.float64 else torch.float32).eval()
    before, plain = model_hash(model), build_vit(tiny(), seed=1).to(model.head.weight.dtype).eval()
    load_tensors(plain, plain_tensors(model), expected=plain.state_dict())
    images = normalise(draw_images(model), dtype=plain.head.weight.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert torch.equal(model(images), plain(images))
        assert not torch.equal(build_vit(tiny(), seed=0).to(plain.head.weight.dtype).eval()(images), plain(images))
    assert model_hash(model) == before


@pytest.mark.parametrize(("rank", "length"), [(1, 1), (1, 24), (24, 24), (16, 24), (16, 768)])
def test_frames_are_orthogonal_with_entries_of_one_size(rank, length):
    rows = frame("0/a", rank, length)
    np.testing.assert_allclose(rows @ rows.T, np.eye(rank) * length / rank, atol=1e-6 * length / rank)
    assert np.sqrt(np.mean(rows**2)) == pytest.approx(rank**-0.5)


def test_frames_are_the_same_bits_everywhere():
    # Made with numpy 2.3 on x86-64. Whole numbers and single operations of IEEE 754 alone: nowhere may it differ.
    rows = frame("0/x", 16, 768).astype("<f4")
    assert hashlib.sha256(rows.tobytes()).hexdigest()[:16] == "a9f6be45c4b96801"


def test_frames_follow_from_the_seed_and_are_in_the_models_hash(tiny):
    first, again, other = (light(tiny(), "lora-core", seed=seed) for seed in (3, 3, 4))
    assert model_hash(first) == model_hash(again) != model_hash(other)
    frames = [value for name, value in first.state_dict().items() if name.endswith((".left", ".right"))]
    assert len(frames) == 2 * len(LAYERS)
    assert len({each.numpy().tobytes() for each in frames}) == len(frames), "each layer has its own"
    parameters = dict(first.named_parameters())
    assert not any(name.endswith((".left", ".right")) for name in parameters)
    assert model_hash(light(tiny(), "lora-core", rank=RANK - 1)) != model_hash(first)
    assert model_hash(light(tiny(), "bias")) == model_hash(build_vit(tiny(), seed=0))


@pytest.mark.parametrize("fused", [True, False])
def test_an_eva_model_has_biases_scales_and_cores_too(fused):
    from timm.models.eva import Eva  # noqa: PLC0415 - models.vit lets timm be imported

    model = Eva(
        img_size=16, patch_size=4, in_chans=1, num_classes=2, embed_dim=24, depth=2, num_heads=2, mlp_ratio=8 / 3,
        qkv_fused=fused, swiglu_mlp=True, scale_mlp=True, init_values=0.1, use_rot_pos_emb=True,
    ).eval()  # fmt: skip
    biases = set(bias_names(model)) - {"patch_embed.proj.bias", "head.bias"}
    attention = ("q_bias", "v_bias", "proj.bias") if fused else ("q_proj.bias", "v_proj.bias", "proj.bias")
    assert {f"blocks.0.attn.{each}" for each in attention} <= biases
    assert {f"blocks.0.mlp.{each}.bias" for each in ("fc1_g", "fc1_x", "fc2", "norm")} <= biases
    assert {name for name in scale_names(model) if name.startswith("blocks.0.")} == {
        *(f"blocks.0.{each}.weight" for each in ("norm1", "norm2", "mlp.norm")),
        "blocks.0.gamma_1",
        "blocks.0.gamma_2",
    }
    parameters = dict(model.named_parameters())
    assert all(parameters[name].ndim == 1 for name in (*biases, *scale_names(model)))
    images, first = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), "qkv" if fused else "q_proj"
    lighten(model, "lora-core", RANK, seed=0)
    assert len(core_names(model)) == 2 * (5 if fused else 7)
    before, core = model(images), f"blocks.0.attn.{first}.parametrizations.weight.0.core"
    stirred(model, [core], 0)
    # timm's attention reads the weight past the layer where it has biases of its own.
    assert not torch.equal(model(images), before)


@pytest.mark.parametrize(
    ("scope", "name", "rank", "says"),
    [
        ("bias", NO_BIAS, 16, "'scope' is bias, and the trunk of this model has no such parameters"),
        ("lora-core", "vit_tiny_patch16_224", 49, "'rank' is not 1 to 48, the width of the narrowest linear layer"),
        ("lora-core", "vit_tiny_patch16_224", 10**9, "'rank' is not 1 to 48"),
        ("lora-core", "vit_tiny_patch16_224", 0, "'rank' is not 1 to 48"),
    ],
)
def test_a_scope_that_the_model_has_nothing_for_is_refused_before_it_is_built(scope, name, rank, says, tiny):
    with pytest.raises(ConfigError, match=says) as caught:
        model = lighten(skeleton(tiny(name=name)), scope, rank, seed=0)
        check_training(model, AVERAGED, TrainConfig(scope=scope))
    assert caught.value.cure and "\n" not in str(caught.value)


def test_a_model_without_biases_has_other_light_scopes(tiny):
    for scope in ("bias-norm", "lora-core"):
        model = lighten(skeleton(tiny(name=NO_BIAS)), scope, RANK, seed=0)
        check_training(model, AVERAGED, TrainConfig(scope=scope))
        assert set(travelling(model, AVERAGED, scope)) & set(trunk_names(model))


def test_blocks_without_linear_layers_have_no_cores(tiny):
    model = skeleton(tiny())
    model.blocks = torch.nn.Sequential()
    with pytest.raises(ConfigError, match="the blocks of this model have no linear layer"):
        lighten(model, "lora-core", RANK, seed=0)


@pytest.mark.parametrize(
    "scope", ["lora", "LoRA", "lora-16", "LORA_r8", "qlora", "adalora", "rslora", "dora", " lora "]
)
def test_lora_is_refused_with_the_reason_and_what_to_take(scope):
    with pytest.raises(ConfigError, match=r"mean\(B A\) is not mean\(B\) mean\(A\); lora-core"):
        TrainConfig(scope=scope).check()


@pytest.mark.parametrize(
    "scope", ["", "Bias", "bias_norm", "lora-xs", "ffa-lora", "last-0-blocks", "last-99999-blocks", "stem", "full\n"]
)
def test_other_scopes_are_not_known(scope):
    with pytest.raises(ConfigError, match="'scope' is not known; one of full, head, bias, bias-norm, lora-core"):
        TrainConfig(scope=scope).check()


@pytest.mark.parametrize("scope", [*SCOPES, "last-12-blocks", "last-1-block"])
def test_scopes_of_the_table_are(scope):
    TrainConfig(scope=scope).check()


@pytest.mark.parametrize("rank", [0, -1, 257, 10**12])
def test_ranks_have_a_range(rank):
    with pytest.raises(ConfigError, match="'rank' is out of its range; 1 to 256"):
        TrainConfig(scope="lora-core", rank=rank).check()
