"""The stem under an orthogonal cipher: logits on ciphertext are those on plaintext, up to rounding and no further."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from medveil.errors import ConfigError
from models.stem import rotate, stem_names, unrotate
from models.vit import build_vit, model_hash, normalise


def draw_rotation(model, *, seed=0):
    generator = np.random.default_rng(seed)
    numbers = model.patch_embed.proj.weight[0].numel()
    matrix, _ = np.linalg.qr(generator.standard_normal((numbers, numbers)))
    return {"matrix": matrix, "pi": generator.permutation(model.patch_embed.num_patches)}


def turned(images, *, matrix, pi, block):
    """Patches turned and moved, from the formula alone: float64 (n, C, H, W) as a model reads them, not rounded."""
    plain = 2 * images.numpy().astype(np.float64) / 255 - 1
    out, across = np.empty_like(plain), images.shape[-1] // block
    for j, source in enumerate(pi):
        y, x = divmod(int(source), across)
        patch = plain[:, :, y * block : (y + 1) * block, x * block : (x + 1) * block]
        y, x = divmod(j, across)
        moved = patch.reshape(len(plain), -1) @ matrix.T
        out[:, :, y * block : (y + 1) * block, x * block : (x + 1) * block] = moved.reshape(patch.shape)
    return torch.from_numpy(out)


def rounded(read, length):
    """What 16 bits leave of numbers that a model reads: ciphertext, uint16."""
    values = np.rint(65535 / 2 * (1 + read.numpy() / np.sqrt(length)))
    assert values.min() >= 0
    assert values.max() <= 65535
    return torch.from_numpy(values.astype(np.uint16))


def sharp(config, seed=3):
    """A model whose weights are as large as trained ones, in double precision."""
    model = build_vit(config, seed=seed)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.double().eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_without_rounding_are_exact_and_with_it_as_close_as_stated(layout, channels, tiny, draw_images):
    model = sharp(tiny(name=layout, channels=channels))
    images, rotation = draw_images(model), draw_rotation(model)
    length = model.patch_embed.proj.weight[0].numel()
    block = model.patch_embed.patch_size[0]
    followed = copy.deepcopy(model)
    rotate(followed, **rotation)
    exact = turned(images, **rotation, block=block)
    hidden = rounded(exact, length)
    read = normalise(hidden, 16, torch.float64, gain=float(np.sqrt(length)))
    with torch.no_grad():
        plain = normalise(images, dtype=torch.float64)
        wanted = model(plain)
        torch.testing.assert_close(followed(exact), wanted, rtol=0, atol=1e-9)
        # The docstring's bound on a token: L / 65535 times the longest row of W.
        longest = float(model.patch_embed.proj.weight.flatten(1).norm(dim=1).max())
        tokens, moved = (m.patch_embed.proj(x).flatten(2) for m, x in ((model, plain), (followed, read)))
        off = (moved - tokens[:, :, rotation["pi"]]).abs().max()
        assert 0 < off <= length / 65535 * longest
        assert (followed(read) - wanted).abs().max() < 0.01
        assert (model(read) - wanted).abs().max() > 0.05, "without the rotation the logits must differ"


def test_unrotate_undoes_rotate_and_only_the_stem_moves(tiny):
    model = build_vit(tiny(), seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rotation, parameter = draw_rotation(model), model.patch_embed.proj.weight
    rotate(model, **rotation)
    assert model.patch_embed.proj.weight is parameter
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"patch_embed.proj.weight", "pos_embed"}
    assert torch.equal(before["pos_embed"][:, :1], after["pos_embed"][:, :1])
    unrotate(model, **rotation)
    for name in stem_names(model):
        torch.testing.assert_close(model.state_dict()[name], before[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_sgd_on_turned_patches_is_sgd_on_plain_ones_and_adam_is_not(optimiser, tiny, draw_images):
    public = sharp(tiny())
    images, rotation = draw_images(public, 6), draw_rotation(public)
    labels = torch.arange(6) % 3

    def train(model, inputs):
        made = {
            "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
            "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.05),
        }[optimiser](model.parameters())
        for _ in range(5):
            made.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            made.step()
        return {name: tensor.detach() for name, tensor in model.state_dict().items()}

    plain = train(copy.deepcopy(public), normalise(images, dtype=torch.float64))
    followed = copy.deepcopy(public)
    rotate(followed, **rotation)
    train(followed, turned(images, **rotation, block=4))
    unrotate(followed, **rotation)
    off = max(float((followed.state_dict()[name] - plain[name]).abs().max()) for name in plain)
    moved = max(float((public.state_dict()[name] - plain[name]).abs().max()) for name in plain)
    assert moved > 1e-3
    assert (off < 1e-9) == (optimiser == "sgd")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("matrix", np.eye(47), "'matrix' is float64 (47, 47) where the model has float64 (48, 48)"),
        ("matrix", np.eye(48, dtype=np.float32), "'matrix' is float32"),
        ("matrix", np.eye(48) * 1.001, "'matrix' is not orthogonal"),
        ("matrix", np.full((48, 48), np.nan), "'matrix' is not orthogonal"),
        ("pi", np.zeros(64, np.int64), "'pi' is no permutation"),
        ("pi", np.arange(63), "'pi' has shape (63,)"),
    ],
)
@pytest.mark.parametrize("move", [rotate, unrotate])
def test_arrays_that_do_not_fit_are_refused(*, move, name, value, says, tiny):
    model = build_vit(tiny(), seed=0)
    before = model_hash(model)
    with pytest.raises(ConfigError) as caught:
        move(model, **{**draw_rotation(model), name: value})
    assert says in str(caught.value)
    assert model_hash(model) == before
