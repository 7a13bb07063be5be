"""Rotary positions follow a key: logits and training on ciphertext are those on plaintext."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from medveil.errors import ConfigError
from models import rotary
from models.config import ModelConfig
from models.patches import draw_rows, leaving_out
from models.policy import POLICIES, Policy
from models.rotary import ROWS
from models.sizes import shape_of, skeleton
from models.stem import (
    adapt,
    head_names,
    restore,
    rotate,
    secret_size,
    set_secret,
    stem_names,
    trunk_names,
    unrotate,
)
from models.travel import set_trainable, trainable, travelling
from models.vit import build_vit, model_hash, normalise

# Token layouts of timm's Eva, each as a name of that layout cut down to the tiny size.
ROTARY = {
    "class, registers, layer scale": "vit_small_patch16_dinov3",
    "the same with SwiGLU": "vit_small_plus_patch16_dinov3",
    "the same with biases": "vit_tiny_patch16_dinov3_qkvb",
    "the same with a class token's head": "vit_small_patch16_lingbot",
    "learned positions too, SwiGLU with a norm": "eva02_base_patch14_224",
    "learned positions too, class token's head": "eva02_base_patch16_clip_224",
    "class token alone": "vit_small_patch16_rope_224",
    "learned positions too, none of the class": "vit_small_patch16_rope_ape_224",
    "a register alone": "vit_medium_patch16_rope_reg1_gap_256",
    "attention pooling, pre-norm": "vit_pe_core_tiny_patch16_384",
    "learned frequencies": "vit_small_patch16_rope_mixed_224",
    "learned frequencies and positions": "vit_small_patch16_rope_mixed_ape_224",
    "no token but patches": "vit_pe_lang_gigantic_patch14_448",
}
LEARNED_ALONE = "eva_giant_patch14_224"
STEPS = 4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", ROTARY.values(), ids=[each.replace(" ", "-") for each in ROTARY])


def config_of(name):
    return ModelConfig(name, 16, 4, 1, 3, width=48, depth=2, heads=3, drop_path=0.1)


@functools.cache
def made(name):
    return build_vit(config_of(name), seed=2)


def small(name):
    """A model of its own, of 4 x 4 patches."""
    return copy.deepcopy(made(name))


def sharp(model):
    """In double precision, with weights as large as trained ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.double()


def logits(model, images):
    with torch.no_grad():
        return model(normalise(images, dtype=torch.float64))


def off(one, other):
    return float((one - other).abs().max())


def test_logits_on_ciphertext_are_those_on_plaintext(name, draw_permutation, draw_images):
    model = sharp(small(name)).eval()
    permutation, images = draw_permutation(model), draw_images(model)
    hidden, wanted = permutation.encrypt(images), logits(model, images)
    stem_alone = copy.deepcopy(model)
    adapt(model, **permutation.arrays)
    assert off(logits(model, hidden), wanted) < 1e-12
    moved = {key: value for key, value in model.state_dict().items() if key != ROWS}
    stem_alone.load_state_dict(moved, strict=False)
    assert off(logits(stem_alone, hidden), wanted) > 1e-4, "without its rotary rows a model must differ"


def train(model, images, labels, *, pi=None, share=0.0):
    """A few steps of AdamW with decay, clipping, label smoothing and MixUp, some patches left out."""
    model, generator = model.train(), np.random.default_rng(11)
    torch.manual_seed(11)
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    targets = nn.functional.one_hot(labels, 3).double()
    with leaving_out(model) as kept:
        for _ in range(STEPS):
            chosen = torch.from_numpy(generator.choice(len(images), 4, replace=False))
            other, part = chosen.flip(0), float(generator.beta(0.4, 0.4))
            if share:
                kept.rows = torch.from_numpy(draw_rows(generator, 4, model.patch_embed.num_patches, share, pi))
            inputs = normalise(images, dtype=torch.float64)
            found = model(part * inputs[chosen] + (1 - part) * inputs[other])
            wanted = part * targets[chosen] + (1 - part) * targets[other]
            loss = nn.functional.cross_entropy(found, wanted, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.5)
            optimiser.step()
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize(("train_stem", "share"), [("local", 0.5), ("frozen", 0.0)])
def test_training_on_ciphertext_equals_training_on_plaintext(name, train_stem, share, draw_permutation, draw_images):
    public = sharp(small(name))
    set_trainable(public, Policy("per-site", "adapted", train_stem), "full")
    permutation, images = draw_permutation(public), draw_images(public, 8)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 8))
    start = {key: tensor.clone() for key, tensor in public.state_dict().items()}
    plain = train(copy.deepcopy(public), images, labels, share=share)
    adapt(public, **permutation.arrays)
    train(public, permutation.encrypt(images), labels, pi=permutation.pi, share=share)
    restore(public, **permutation.arrays)
    secretly = public.state_dict()
    assert max(off(secretly[key], plain[key]) for key in plain) < 1e-10
    assert max(off(plain[key], start[key]) for key in plain if key.startswith("blocks")) > 1e-3, "it must have trained"


def test_patches_left_out_take_their_rows_with_them(draw_images):
    model = sharp(small("vit_small_patch16_dinov3")).eval()
    images, order = draw_images(model), torch.arange(model.patch_embed.num_patches)
    with leaving_out(model) as kept:
        every = logits(model, images)
        kept.rows = order.flip(0).expand(len(images), -1)
        assert off(logits(model, images), every) < 1e-12, "all patches in another order are the same image"
        kept.rows = order[:5].expand(len(images), -1)
        assert off(logits(model, images), every) > 1e-4
    assert model.patch_drop is None
    assert off(logits(model, images), every) == 0


def test_restore_undoes_adapt_bit_for_bit(name, draw_permutation):
    model = small(name)
    before, permutation = model_hash(model), draw_permutation(model)
    adapt(model, **permutation.arrays)
    assert model.rope.rows.tolist() == permutation.pi.tolist()
    restore(model, **permutation.arrays)
    assert model_hash(model) == before


def test_an_orthogonal_key_moves_the_rows_as_well():
    model = sharp(small("vit_small_patch16_dinov3")).eval()
    generator = np.random.default_rng(0)
    turn, pi = np.linalg.qr(generator.standard_normal((16, 16)))[0], generator.permutation(16)
    images = torch.from_numpy(generator.standard_normal((2, 1, 16, 16)))
    patches = nn.functional.unfold(images, 4, stride=4)
    hidden = nn.functional.fold(torch.from_numpy(turn) @ patches[:, :, pi], 16, 4, stride=4)
    with torch.no_grad():
        wanted = model(images)
        rotate(model, matrix=turn, pi=pi)
        assert off(model(hidden), wanted) < 1e-12
        unrotate(model, matrix=turn, pi=pi)
        assert off(model(images), wanted) < 1e-12


def test_rows_are_of_the_stem_and_never_travel_or_train(name):
    model = small(name)
    assert ROWS in stem_names(model)
    assert ROWS not in [*trunk_names(model), *head_names(model)]
    assert sorted([*stem_names(model), *trunk_names(model), *head_names(model)]) == sorted(model.state_dict())
    for policy in POLICIES:
        for scope in ("full", "last-1-block", "head"):
            assert ROWS not in travelling(model, policy, scope)
            assert ROWS not in trainable(model, policy, scope)


def test_a_secret_stem_leaves_the_public_rows(name):
    model = small(name)
    public = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    set_secret(model, np.random.default_rng(7).standard_normal(secret_size(model)))
    for key, tensor in model.state_dict().items():
        drawn = key in stem_names(model) and key != ROWS
        # Fresh biases are zero, and a deviation of nothing draws nothing.
        assert torch.equal(tensor, public[key]) == (not drawn or not bool(public[key].any()))


def test_what_timm_needs_again_is_its_own(name, draw_images):
    model = sharp(small(name)).eval()
    images, theirs = draw_images(model), copy.deepcopy(model)
    rotary.give_table_back(theirs)
    carried = {each.replace("rope.embedding.", "rope.") for each in model.state_dict()}
    assert carried - set(theirs.state_dict()) == {ROWS}
    assert not any("embedding" in each for each in theirs.state_dict())
    assert off(logits(theirs, images), logits(model, images)) == 0


def test_a_skeleton_is_the_model_without_storage(name):
    outline, model = skeleton(config_of(name)), small(name)
    assert shape_of(outline) == shape_of(model)
    assert {key: tensor.shape for key, tensor in outline.state_dict().items()} == {
        key: tensor.shape for key, tensor in model.state_dict().items()
    }


def test_images_of_any_size_are_of_one_here():
    model = small("vit_small_patch16_dinov3")
    assert not model.dynamic_img_size
    with pytest.raises(AssertionError, match="Input height"):
        model(torch.zeros(1, 1, 24, 24))


def test_learned_positions_alone_need_no_rows(draw_permutation, draw_images):
    model = sharp(small(LEARNED_ALONE)).eval()
    permutation, images = draw_permutation(model), draw_images(model)
    wanted = logits(model, images)
    adapt(model, **permutation.arrays)
    assert off(logits(model, permutation.encrypt(images)), wanted) < 1e-12
    assert ROWS not in model.state_dict()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "vit_base_patch16_sapiens2"}, r"at random in training \(rope jitter\)"),
        ({"name": "vit_small_patch16_dinov3", "width": 60, "heads": 6}, "heads of 10 numbers, and rotary"),
        ({"name": "vit_small_patch16_dinov3", "init": "mimetic"}, "is mimetic, .* and this one's are others"),
        ({"name": "eva02_tiny_patch14_224", "init": "mimetic"}, "is mimetic, .* and this one's are others"),
    ],
)
def test_what_would_not_hold_is_refused_in_one_line(changes, says, tiny):
    with pytest.raises(ConfigError, match=says) as caught:
        skeleton(tiny(**changes))
    assert "\n" not in str(caught.value)
