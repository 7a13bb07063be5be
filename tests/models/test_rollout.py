"""Attention rollout: of the adapted model on hidden images, put back, that of the plaintext twin on plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from medveil.errors import ConfigError
from models.config import ModelConfig
from models.light import lighten
from models.rollout import in_plain_order, rollout, why_unread
from models.stem import adapt
from models.vit import build_vit, normalise

# Each a way of telling the classifier or attention apart, as a timm name cut down to the tiny size.
READ = {
    "class token": "vit_tiny_patch16_224",
    "pooled, registers": "vit_medium_patch16_reg4_gap_256",
    "pooled by attention": "vit_base_patch16_siglip_224",
    "rotary, class token and registers": "vit_small_patch16_dinov3",
    "rotary, learned frequencies": "vit_small_patch16_rope_mixed_224",
    "rotary, pooled by attention": "vit_pe_core_tiny_patch16_384",
}


def made(name, **changes):
    """In double precision, with weights as large as trained ones, of 4 x 4 patches."""
    model = build_vit(ModelConfig(name, 16, 4, 1, 3, **{"width": 24, "depth": 2, "heads": 2, **changes}), seed=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.double().eval()


class NoAttention(nn.Module):
    def forward(self, tokens, **_):
        return tokens


def seen(model, images):
    return rollout(model, normalise(images, dtype=torch.float64))


@pytest.mark.parametrize("name", READ.values(), ids=[each.replace(" ", "-") for each in READ])
def test_rollout_on_hidden_images_put_back_is_that_of_the_plaintext_twin(name, draw_permutation, draw_images):
    twin = made(name)
    permutation, images = draw_permutation(twin), draw_images(twin)
    adapted = copy.deepcopy(twin)
    adapt(adapted, **permutation.arrays)
    plain, hidden = seen(twin, images), seen(adapted, permutation.encrypt(images))
    assert plain.shape == (2, 16)
    assert float((in_plain_order(hidden, permutation.pi) - plain).abs().max()) < 1e-12
    assert float((hidden - plain).abs().max()) > 1e-6, "the key must have moved something"
    assert float(plain.std(dim=1).min()) > 1e-4, "attention must differ from patch to patch"


def by_hand(model, images):
    """Abnar and Zuidema's equations 1 and 2, block by block, from each block's own queries and keys."""
    tokens = model.patch_embed.proj(normalise(images, dtype=torch.float64)).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.cls_token.expand(len(images), -1, -1), tokens], dim=1) + model.pos_embed
    flow = torch.eye(tokens.shape[1], dtype=torch.float64).expand(len(images), -1, -1)
    for block in model.blocks:
        width, heads = tokens.shape[2], block.attn.num_heads
        q, k, _ = block.attn.qkv(block.norm1(tokens)).split(width, dim=2)
        tables = [
            torch.softmax(a @ b.transpose(1, 2) / (width // heads) ** 0.5, dim=2)
            for a, b in zip(q.split(width // heads, dim=2), k.split(width // heads, dim=2), strict=True)
        ]
        raw = sum(tables) / heads + torch.eye(tokens.shape[1], dtype=torch.float64)
        flow = raw / raw.sum(dim=2, keepdim=True) @ flow
        tokens = block(tokens)
    return flow


@torch.no_grad()
def test_rollout_is_the_papers(draw_images):
    model = made("vit_tiny_patch16_224")
    images = draw_images(model)
    flow = by_hand(model, images)
    assert float((seen(model, images) - flow[:, 0, 1:]).abs().max()) < 1e-12
    model.global_pool = "avg"
    assert float((seen(model, images) - flow[:, 1:, 1:].mean(dim=1)).abs().max()) < 1e-12


def test_reading_attention_changes_no_answer_and_no_layer(draw_images):
    model = made("vit_tiny_patch16_224")
    model.blocks[0].attn.fused_attn = False
    images = normalise(draw_images(model), dtype=torch.float64)
    before = model(images)
    assert bool((rollout(model, images).sum(dim=1) < 1).all())
    assert torch.equal(model(images), before)
    assert not model.blocks[0].attn.fused_attn


def test_light_layers_are_read_as_they_act(draw_images):
    model = lighten(made("vit_tiny_patch16_224"), "lora-core", 4, seed=1)
    images = draw_images(model)
    before = seen(model, images)
    with torch.no_grad():
        model.blocks[0].attn.qkv.parametrizations.weight[0].core.normal_()
    assert float((seen(model, images) - before).abs().max()) > 1e-6


def test_what_cannot_be_rolled_out_is_refused_with_its_reason(draw_images):
    model = made("vit_tiny_patch16_224")
    images = draw_images(model)
    model.global_pool = "avgmax"
    with pytest.raises(ConfigError, match="pooling by 'avgmax' reads differs from feature to feature"):
        seen(model, images)
    model.global_pool = "token"
    model.blocks[1].attn = NoAttention()
    with pytest.raises(ConfigError, match="1 tables of attention in 2 blocks"):
        seen(model, images)
    beside = made("vit_small_patch16_18x2_224")
    assert "several attentions side by side" in (why_unread(beside) or "")
