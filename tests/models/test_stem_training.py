"""Training on ciphertext from the adapted stem is training on plaintext from the public one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from models.policy import Policy
from models.stem import adapt, restore
from models.travel import set_trainable
from models.vit import build_vit, normalise

STEPS = 6
OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05),
}


def train(model, images, labels, optimiser, *, seed=11):
    """A few steps with clipping, label smoothing and MixUp, on batches that depend on the seed alone."""
    model = model.double().train()
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = OPTIMISERS[optimiser](parameters)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    targets = nn.functional.one_hot(labels, 3).double()
    for _ in range(STEPS):
        chosen = torch.from_numpy(generator.choice(len(images), 4, replace=False))
        other, part = chosen.flip(0), float(generator.beta(0.4, 0.4))
        inputs = normalise(images, dtype=torch.float64)
        mixed = part * inputs[chosen] + (1 - part) * inputs[other]
        loss = criterion(model(mixed), part * targets[chosen] + (1 - part) * targets[other])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimiser.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def distance(a, b, names):
    return max(float((a[name] - b[name]).abs().max()) for name in names)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("train_stem", ["local", "frozen"])
def test_training_on_ciphertext_equals_training_on_plaintext(
    *, layout, train_stem, optimiser, tiny, draw_permutation, draw_images
):
    public = build_vit(tiny(name=layout, drop_path=0.1), seed=2)
    set_trainable(public, Policy("per-site", "adapted", train_stem), "full")
    permutation, images = draw_permutation(public), draw_images(public, 8)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 8))
    hidden = permutation.encrypt(images)
    start = {name: tensor.double() for name, tensor in copy.deepcopy(public).state_dict().items()}

    plain = train(copy.deepcopy(public), images, labels, optimiser)
    adapted = copy.deepcopy(public)
    adapt(adapted, **permutation.arrays)
    train(adapted, hidden, labels, optimiser)
    restore(adapted, **permutation.arrays)
    secretly = adapted.state_dict()

    assert distance(secretly, plain, plain) < 1e-9
    moved = distance(plain, start, [name for name in plain if name.startswith(("blocks", "head"))])
    assert moved > 1e-3, "the run must have trained"
    stem_moved = distance(plain, start, ["patch_embed.proj.weight", "pos_embed"])
    assert (stem_moved > 1e-4) == (train_stem == "local")


def test_without_adaptation_training_differs(tiny, draw_permutation, draw_images):
    public = build_vit(tiny(), seed=2)
    permutation, images = draw_permutation(public), draw_images(public, 8)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 8))
    plain = train(copy.deepcopy(public), images, labels, "adamw")
    hidden = train(copy.deepcopy(public), permutation.encrypt(images), labels, "adamw")
    assert distance(hidden, plain, [name for name in plain if name.startswith("blocks")]) > 1e-4
