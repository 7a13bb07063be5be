"""Names of timm's and what they are here; with MEDVEIL_ALL_NAMES=1 every name that adapts is shown to, in minutes."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest
import torch
from docsite.models import SAYS, made_of
from torch import nn

from medveil.errors import ConfigError, PolicyError
from medveil.training import TrainConfig
from models.config import ModelConfig
from models.listed import EXACT, PUBLIC, REFUSED, names, verdict
from models.policy import Policy
from models.sizes import shape_of, skeleton
from models.stem import adapt
from models.trains import check_training
from models.travel import set_trainable, travelling
from models.vit import build_vit, normalise

HANDFUL = {
    "vit_tiny_patch16_224": EXACT,
    "deit3_small_patch16_224": EXACT,
    "aimv2_large_patch14_224": EXACT,
    "test_vit": EXACT,
    "vit_7b_patch16_dinov3": EXACT,
    "eva02_tiny_patch14_224": EXACT,
    "vit_pe_core_tiny_patch16_384": EXACT,
    "vit_small_patch16_rope_mixed_224": EXACT,
    "vit_relpos_small_patch16_224": PUBLIC,
    "vit_srelpos_small_patch16_224": PUBLIC,
    "beitv2_base_patch16_224": PUBLIC,
    "vit_base_patch16_sapiens2": REFUSED,
    "vit_small_r26_s32_224": REFUSED,
    "vitamin_small_224": REFUSED,
    "deit_tiny_distilled_patch16_224": REFUSED,
    "swin_tiny_patch4_window7_224": REFUSED,
    "hiera_tiny_224": REFUSED,
    "naflexvit_base_patch16_gap": REFUSED,
    "xcit_nano_12_p16_224": REFUSED,
}
RELATIVE = [name for name, kind in HANDFUL.items() if kind == PUBLIC]
SHOWN = (
    names()
    if os.environ.get("MEDVEIL_ALL_NAMES")
    else ["test_vit", "vit_huge_plus_patch16_dinov3", "vit_wee_patch16_reg1_gap_256"]
)


@pytest.mark.parametrize(("name", "kind"), HANDFUL.items())
def test_a_name_is_what_a_run_finds_it_to_be(name, kind):
    found = verdict(name)
    assert found.kind == kind
    assert bool(found.reason) == (kind != EXACT)
    if kind == REFUSED:
        with pytest.raises(ConfigError) as caught:
            skeleton(ModelConfig(name))
        assert found.reason in str(caught.value)


def test_the_list_has_what_people_ask_for():
    found = names()
    assert set(HANDFUL) <= set(found)
    assert len(found) > 400
    assert "resnet18" not in found


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_said_to_adapt_does(name, draw_permutation, draw_images):
    if verdict(name).kind != EXACT:
        pytest.skip("is not said to adapt")
    model = build_vit(ModelConfig(name, 16, 4, 1, 2, width=32, depth=1, heads=2), seed=0).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        permutation, images = draw_permutation(model), draw_images(model)
        hidden = normalise(permutation.encrypt(images), dtype=torch.float64)
        wanted, strayed = model(normalise(images, dtype=torch.float64)), model(hidden)
        adapt(model, **permutation.arrays)
        assert (model(hidden) - wanted).abs().max() < 1e-12
        assert (strayed - wanted).abs().max() > 1e-6


@pytest.mark.parametrize("name", RELATIVE)
def test_relative_positions_train_with_a_public_stem_alone(name, draw_images):
    config = ModelConfig(name, 16, 4, 1, 2, width=32, depth=1, heads=2)
    model = build_vit(config, seed=0)
    assert shape_of(skeleton(config)) == shape_of(model)
    for policy in (Policy("per-site", "adapted", "local"), Policy("shared", "secret", "local")):
        with pytest.raises(PolicyError, match=r"adds to attention a learned number .*; set stem\.init to public"):
            check_training(model, policy, TrainConfig())
    public = Policy("shared", "public", "averaged")
    check_training(model, public, TrainConfig())
    with pytest.raises(ConfigError, match=r"'patch_dropout' leaves patches out, and a .* takes them all"):
        check_training(model, public, TrainConfig(patch_dropout=0.5))
    with pytest.raises(ConfigError, match="is mimetic"):
        skeleton(ModelConfig(name, init="mimetic"))
    assert all(model.state_dict()[each].is_floating_point() for each in travelling(model, public, "full"))
    set_trainable(model, public, "full")
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(model(normalise(draw_images(model, 4))), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    optimiser.step()
    assert np.isfinite(loss.item())
    moved = [each for each in before if not torch.equal(before[each], model.state_dict()[each])]
    assert any("rel" in each for each in moved)


def test_the_page_names_each_with_its_reason():
    page = made_of((found.kind, found.name, found.reason) for found in map(verdict, HANDFUL))
    assert all(f"`{name}`" in page for name in HANDFUL)
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## {kind[0].upper()}{kind[1:]}: {list(HANDFUL.values()).count(kind)} names" for kind in SAYS
    ]
    assert "rope jitter" in page
    assert set(SAYS) == {EXACT, PUBLIC, REFUSED}
