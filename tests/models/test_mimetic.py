"""Mimetic weights: what the paper says of products, the same bits everywhere, and refusals."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from medveil.errors import ConfigError
from models import mimetic
from models.config import ModelConfig
from models.mimetic import STEP, sines_of
from models.sizes import skeleton
from models.stem import adapt
from models.vit import build_vit, model_hash, normalise

WIDE = ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=96, depth=2, heads=3, init="mimetic")


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return build_vit(WIDE, seed=4)


def products(model, block: int):
    """Query times key of each head, and value times output, from the layers' own weights."""
    attention = model.blocks[block].attn
    query, key, value = (part.double() for part in attention.qkv.weight.detach().chunk(3))
    rank = 96 // 3
    heads = [query[h * rank : (h + 1) * rank].T @ key[h * rank : (h + 1) * rank] for h in range(3)]
    return heads, value.T @ attention.proj.weight.detach().double().T


def test_products_are_near_multiples_of_the_identity_as_in_the_paper(model) -> None:
    for block in (0, 1):
        heads, output = products(model, block)
        # Of full rank: the product is the drawn matrix itself, diagonal -0.4 and noise of deviation 0.4 / sqrt(96).
        assert float(output.diagonal().mean()) == pytest.approx(-0.4, abs=0.02)
        off = output - torch.diag(output.diagonal())
        assert float(off.std()) == pytest.approx(0.4 / 96**0.5, rel=0.05)
        for product in heads:
            assert int(torch.linalg.matrix_rank(product)) == 32
            assert float(product.diagonal().mean()) > 5 * abs(float((product - torch.diag(product.diagonal())).mean()))
        assert not torch.equal(heads[0], heads[1])


def test_queries_and_keys_are_the_best_of_their_rank(model) -> None:
    rng = np.random.default_rng(0)
    product = mimetic._drawn(rng, 40, *mimetic.QUERY_KEY)
    left, right = mimetic._split(product, 12)
    values = np.linalg.svd(product, compute_uv=False)
    assert np.linalg.norm(product - left @ right) == pytest.approx(np.sqrt((values[12:] ** 2).sum()))
    np.testing.assert_allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1))


def test_positions_are_timms_and_train(model) -> None:
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed  # noqa: PLC0415 - after models.vit

    grid = build_sincos2d_pos_embed([4, 4], dim=96)
    np.testing.assert_allclose(model.pos_embed.detach()[0, 1:], grid, atol=2 * STEP)
    assert not model.pos_embed.detach()[0, 0].any()
    assert model.pos_embed.requires_grad
    assert sines_of(3, 5, 8).shape == (15, 8)


def test_it_is_the_same_bits_whatever_decomposes(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another LAPACK: the last digits differ, and the signs of vectors."""
    rng, svd = np.random.default_rng(1), np.linalg.svd

    def otherwise(product):
        left, values, right = svd(product + 1e-15 * rng.standard_normal(product.shape))
        signs = rng.choice([-1.0, 1.0], len(values))
        return left * signs, values, right * signs[:, None]

    monkeypatch.setattr(np.linalg, "svd", otherwise)
    assert model_hash(build_vit(WIDE, seed=4)) == model_hash(model)
    assert model_hash(build_vit(WIDE, seed=5)) != model_hash(model)


def test_a_key_moves_it_as_any_stem(model, draw_permutation, draw_images) -> None:
    moves, plain = draw_permutation(model), copy.deepcopy(model).double().eval()
    hidden, images = copy.deepcopy(plain), draw_images(model, 3)
    adapt(hidden, **moves.arrays)
    logits = [each(normalise(x, dtype=torch.float64)) for each, x in ((plain, images), (hidden, moves.encrypt(images)))]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"init": "mimic"}, "model.init: is 'mimic'; one of default, mimetic"),
        ({"pretrained": "x.safetensors"}, "model.init: is mimetic, and 'pretrained' weights begin as they are"),
        ({"pretrained": "true", "width": None, "depth": None, "heads": None}, "'pretrained' weights begin as they are"),
        ({"width": 18, "heads": 3}, "model.init: sines and cosines of two axes do not fill the width 18"),
        ({"name": "vit_small_plus_patch16_dinov3"}, "model.init: is mimetic, .* and this one's are others"),
    ],
)
def test_what_cannot_begin_so_is_refused_before_it_is_built(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        skeleton(replace(WIDE, **change))


def test_other_attention_is_refused() -> None:
    parallel = replace(WIDE, name="vit_small_patch16_18x2_224", width=96, heads=3)
    with pytest.raises(ConfigError, match="one matrix of queries, keys and values"):
        build_vit(parallel, seed=0)
