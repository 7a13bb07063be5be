from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

from medveil.errors import ConfigError
from models.config import ModelConfig
from models.stem import adapt, head_names, restore, secret_size, set_secret, stem_names, trunk_names
from models.vit import build_vit, model_hash, normalise

SIZES = {
    "ViT-Ti 224/16": ModelConfig(classes=2, depth=3),
    "32/4": ModelConfig(image_size=32, patch=4, width=48, depth=3, heads=3, classes=2),
    "200/25": ModelConfig(image_size=200, patch=25, width=96, depth=2, heads=3, classes=2),
}


def logits(model, images, dtype=torch.float64):
    with torch.no_grad():
        return model(normalise(images, dtype=dtype))


def sharpen(model):
    """Weights as large as trained ones: fresh ones are so small that a patch out of place would hardly show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def check_equal_on_ciphertext(model, permutation, images, tolerance, dtype=torch.float64):
    model = sharpen(model).to(dtype).eval()
    adapted = copy.deepcopy(model)
    adapt(adapted, **permutation.arrays)
    hidden = permutation.encrypt(images)
    wanted = logits(model, images, dtype)
    torch.testing.assert_close(logits(adapted, hidden, dtype), wanted, rtol=0, atol=tolerance)
    strayed = (logits(model, hidden, dtype) - wanted).abs().max()
    assert strayed > 0.01, "without adaptation the logits must differ"


@pytest.mark.parametrize("negate", [False, True], ids=["plain", "negated"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_logits_on_ciphertext_are_those_on_plaintext(size, channels, negate, draw_permutation, draw_images):
    config = copy.copy(SIZES[size])
    config.channels = channels
    model = build_vit(config, seed=3)
    permutation, images = draw_permutation(model, negate=negate), draw_images(model)
    check_equal_on_ciphertext(copy.deepcopy(model), permutation, images, 1e-10)
    check_equal_on_ciphertext(model, permutation, images, 1e-4, torch.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_token_layout_follows(layout, channels, tiny, draw_permutation, draw_images):
    model = build_vit(tiny(name=layout, channels=channels), seed=5)
    check_equal_on_ciphertext(model, draw_permutation(model, seed=1), draw_images(model), 1e-10)


def test_sixteen_bits(tiny, draw_permutation):
    model = build_vit(tiny(channels=1), seed=0).double().eval()
    permutation = draw_permutation(model)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 4096, (2, 1, 32, 32), dtype=np.uint16))
    with torch.no_grad():
        wanted = model(normalise(images, 12, torch.float64))
        adapt(model, **permutation.arrays)
        found = model(normalise(permutation.encrypt(images, bits=12), 12, torch.float64))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_restore_undoes_adapt_bit_for_bit(layout, tiny, draw_permutation):
    model = build_vit(tiny(name=layout), seed=0)
    with torch.no_grad():
        model.patch_embed.proj.weight.view(-1)[:5] = torch.tensor([0.0, -0.0, 1e-40, float("inf"), -1e30])
    before, permutation = model_hash(model), draw_permutation(model)
    adapt(model, **permutation.arrays)
    assert model_hash(model) != before
    restore(model, **permutation.arrays)
    assert model_hash(model) == before


def test_adapt_moves_only_the_stem_and_no_prefix_row(tiny, draw_permutation):
    model = build_vit(tiny(), seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapt(model, **draw_permutation(model).arrays)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"patch_embed.proj.weight", "pos_embed"}
    assert torch.equal(before["pos_embed"][:, :1], after["pos_embed"][:, :1])


def test_adapt_is_in_place_and_takes_tensors(tiny, draw_permutation):
    model = build_vit(tiny(), seed=0)
    parameter = model.patch_embed.proj.weight
    permutation = draw_permutation(model)
    adapt(model, **{name: torch.from_numpy(array) for name, array in permutation.arrays.items()})
    assert model.patch_embed.proj.weight is parameter
    assert parameter.requires_grad
    assert parameter.is_leaf


def test_names_are_disjoint_and_whole(layout, tiny):
    model = build_vit(tiny(name=layout), seed=0)
    parts = stem_names(model), trunk_names(model), head_names(model)
    assert sorted(itertools.chain.from_iterable(parts)) == sorted(model.state_dict())
    assert head_names(model) == ["head.weight", "head.bias"]
    assert "pos_embed" in stem_names(model)
    assert all(not name.startswith("patch_embed.proj") for name in trunk_names(model))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("rho", np.arange(47), "'rho' has shape (47,)"),
        ("rho", np.zeros(48, dtype=np.int64), "'rho' is no permutation"),
        ("rho", np.arange(48.0), "'rho' is no permutation"),
        ("rho", np.arange(48) - 1, "'rho' is no permutation"),
        ("pi", np.arange(65), "'pi' has shape (65,)"),
        ("pi", np.arange(64)[None], "'pi' has shape (1, 64)"),
        ("mask", np.zeros(47, dtype=bool), "'mask' is bool (47,)"),
        ("mask", np.zeros(48, dtype=np.int64), "'mask' is int64"),
    ],
)
@pytest.mark.parametrize("move", [adapt, restore])
def test_arrays_that_do_not_fit_are_refused(*, move, name, value, says, tiny, draw_permutation):
    model = build_vit(tiny(), seed=0)
    before, arrays = model_hash(model), {**draw_permutation(model).arrays, name: value}
    with pytest.raises(ConfigError) as caught:
        move(model, **arrays)
    assert says in str(caught.value)
    assert model_hash(model) == before


def test_secret_stem_takes_the_normals_in_order_at_the_public_scale(layout, tiny):
    model = build_vit(tiny(name=layout), seed=0)
    public = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    normals = np.random.default_rng(7).standard_normal(secret_size(model))
    set_secret(model, normals)
    weight = model.patch_embed.proj.weight.detach()
    scale = public["patch_embed.proj.weight"].double().std(correction=0).item()
    np.testing.assert_allclose(weight.flatten().double(), normals[: weight.numel()] * scale, rtol=1e-6)
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    rows = model.pos_embed[0, prefix:].detach()
    scale = public["pos_embed"][0, prefix:].double().std(correction=0).item()
    np.testing.assert_allclose(rows.flatten().double(), normals[-rows.numel() :] * scale, rtol=1e-6)
    assert torch.equal(model.pos_embed[:, :prefix], public["pos_embed"][:, :prefix])
    for name in [*trunk_names(model), *head_names(model)]:
        assert torch.equal(model.state_dict()[name], public[name])
    sizes = sum(public[name].numel() for name in stem_names(model)) - prefix * rows.shape[1]
    assert secret_size(model) == sizes


def test_normals_that_do_not_fit_are_refused(tiny):
    model = build_vit(tiny(), seed=0)
    before, size = model_hash(model), secret_size(model)
    with pytest.raises(ConfigError, match=f"takes {size} normals"):
        set_secret(model, np.zeros(size - 1))
    with pytest.raises(ConfigError, match="not finite"):
        set_secret(model, np.full(size, np.nan))
    assert model_hash(model) == before
    torch.nn.init.zeros_(model.patch_embed.proj.weight)
    with pytest.raises(ConfigError, match="no scale"):
        set_secret(model, np.ones(size))
