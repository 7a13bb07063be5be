"""Light scopes train on hidden images as on plain ones, with all that training offers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from crypto.base import PLAIN, Reading
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SimulatedKey
from fl_client.batches import generator
from fl_client.config import TrainConfig
from fl_client.optimizers import Moments, make_optimizers
from fl_client.site_model import follow, patch_order
from fl_client.training import RoundPlan, train_round
from fl_client.warmup import warm_up
from medveil.training import CORE, LIGHT
from models.config import ModelConfig
from models.light import core_names, lighten
from models.policy import Policy
from models.stem import restore, stem_names
from models.travel import trainable
from models.vit import build_vit

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

State = dict[str, torch.Tensor]
TRAIN = TrainConfig(batch_size=8, lr=3e-3, precision="fp64", lr_warmup=0.0, rank=6)
OWN = Policy("per-site", "adapted", "local")
HIDES = make_cipher(
    CipherConfig(scheme="block-pixel", block=4, negate=True), SimulatedKey(3, "a"), channels=1, height=16, width=16
)


@dataclass(frozen=True)
class Held:
    images: np.ndarray
    labels: np.ndarray
    reading: Reading = PLAIN

    def batch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        made: np.ndarray = self.images[indices]
        return made


def held() -> Held:
    labels = np.arange(24) % 2
    images = np.random.default_rng(0).integers(0, 120, (24, 1, 16, 16), dtype=np.uint8)
    images[labels == 1, :, 2:9, 2:9] += 130
    return Held(images, labels.astype(np.int64))


def vit(scope: str) -> VisionTransformer:
    torch.set_num_threads(1)
    config = ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=24, depth=2, heads=2)
    return lighten(build_vit(config, seed=0), scope, TRAIN.rank, seed=7).double()


def state_of(model: VisionTransformer) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def apart(a: State, b: State) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def trained(config: TrainConfig, *, hidden: bool, rounds: int = 2) -> State:
    """A model after some rounds, on plain images or, with an adapted stem that is moved back at the end, on hidden."""
    model, part, pi = vit(config.scope), held(), None
    if hidden:
        part, pi = Held(HIDES.encrypt(part.images), part.labels, HIDES.reading), patch_order(HIDES)
        follow(model, HIDES)
    moments: Moments | None = {} if config.state == "kept" else None
    for round_ in range(1, rounds + 1):
        plan = RoundPlan(round=round_, rounds=rounds, seed=5, rng=generator(5, "train", round_), pi=pi)
        train_round(model, part, config, plan, trainable=trainable(model, OWN, config.scope), moments=moments)
    if hidden:
        moves = HIDES.stem_permutation()
        restore(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)
    return state_of(model)


ALL: dict[str, dict[str, Any]] = {
    "plain adamw": {},
    "sgd": {"optimizer": "sgd"},
    "all that fits small data": {
        "ema": 0.9,
        "layer_decay": 0.6,
        "patch_dropout": 0.5,
        "state": "kept",
        "mixup": 0.3,
        "label_smoothing": 0.1,
    },
}
CASES = [(scope, switch) for scope in LIGHT for switch in ALL]


@pytest.mark.parametrize(("scope", "switch"), [*CASES, (CORE, "muon")])
def test_light_scopes_train_on_hidden_images_as_on_plain_ones(scope: str, switch: str) -> None:
    config = replace(TRAIN, scope=scope, **({"optimizer": "muon"} if switch == "muon" else ALL[switch]))
    plain, start = trained(config, hidden=False), state_of(vit(scope))
    assert apart(trained(config, hidden=True), plain) < 1e-12
    names = trainable(vit(scope), OWN, scope)
    assert all(torch.equal(plain[name], tensor) for name, tensor in start.items() if name not in names)
    assert not any(torch.equal(plain[name], start[name]) for name in names), "all of it trains"
    assert apart(plain, start) > 1e-3 or switch == "sgd", "the run must have trained"


def test_cores_are_muons_and_decay_to_the_public_start() -> None:
    model = vit(CORE)
    parameters = {name: p for name, p in model.named_parameters() if name in trainable(model, OWN, CORE)}
    name_of = {id(parameter): name for name, parameter in parameters.items()}
    muon, adamw = make_optimizers(model, parameters, replace(TRAIN, scope=CORE, optimizer="muon"))
    assert {name_of[id(p)] for group in muon.param_groups for p in group["params"]} == set(core_names(model))
    (alone,) = make_optimizers(model, parameters, replace(TRAIN, scope=CORE))
    decays = {name_of[id(p)]: group["weight_decay"] for group in alone.param_groups for p in group["params"]}
    assert {decays[name] for name in core_names(model)} == {TRAIN.weight_decay}
    assert len([p for group in adamw.param_groups for p in group["params"]]) == len(parameters) - 8


def test_a_step_on_cores_moves_weights_as_far_as_a_step_on_weights() -> None:
    steps = {}
    for scope in (CORE, "full"):
        config = replace(TRAIN, scope=scope, weight_decay=0.0, batch_size=24, min_lr=TRAIN.lr, clip=0.0)
        model = vit(scope)
        before = {name: layer.weight.detach().clone() for name, layer in layers(model)}
        plan = RoundPlan(round=1, rounds=1, seed=5, rng=generator(5, "train", 1))
        train_round(model, held(), config, plan, trainable=trainable(model, OWN, scope))
        moved = [float((layer.weight.detach() - before[name]).square().mean().sqrt()) for name, layer in layers(model)]
        steps[scope] = np.array(moved)
    # One step of AdamW moves each number by the rate, of a weight or of a core.
    np.testing.assert_allclose(steps["full"], TRAIN.lr, rtol=0.02)
    np.testing.assert_allclose(steps[CORE], TRAIN.lr, rtol=0.02)


def layers(model: VisionTransformer) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in model.blocks.named_modules() if isinstance(each, torch.nn.Linear)]


def test_a_secret_stem_is_fitted_to_a_light_trunk_that_stands_still() -> None:
    model = vit(CORE)
    before = copy.deepcopy(state_of(model))
    warm_up(model, held(), replace(TRAIN, scope=CORE), epochs=1, seed=1, rng=generator(1, "warmup", "a"))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(stem_names(model))
