"""What fits small data trains on hidden images as on plain ones, and does what it says."""

from __future__ import annotations

import copy
import itertools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from crypto.base import PLAIN, ImageCipher, Reading
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SimulatedKey
from fl_client import training
from fl_client.averaging import WeightAverage, newest_share
from fl_client.batches import generator, shuffled
from fl_client.config import TrainConfig
from fl_client.muon import Muon
from fl_client.optimizers import learning_rate, make_optimizers, set_rate
from fl_client.site_model import follow, patch_order
from fl_client.training import RoundPlan, train_round
from medveil.errors import ConfigError, IntegrityError
from models.config import ModelConfig
from models.patches import draw_rows
from models.policy import Policy
from models.sizes import skeleton
from models.stem import head_names, restore, stem_names
from models.trains import check_training
from models.vit import build_vit, normalise

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

SMALL = TrainConfig(batch_size=8, lr=3e-3, epochs=2, precision="fp64", lr_warmup=0.1)
OWN = Policy("per-site", "adapted", "local")


@dataclass(frozen=True)
class Held:
    images: np.ndarray
    labels: np.ndarray
    reading: Reading = PLAIN

    def batch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        made: np.ndarray = self.images[indices]
        return made


def held(n: int = 24) -> Held:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.integers(0, 120, (n, 1, 16, 16), dtype=np.uint8)
    images[labels == 1, :, 2:9, 2:9] += 130
    return Held(images, labels.astype(np.int64))


def vit(**changes: Any) -> VisionTransformer:
    torch.set_num_threads(1)
    config = ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=24, depth=2, heads=2, **changes)
    return build_vit(config, seed=0)


def plan(round_: int = 1, rounds: int = 1, **more: Any) -> RoundPlan:
    return RoundPlan(round=round_, rounds=rounds, seed=5, rng=generator(5, "train", round_), **more)


def cipher(scheme: str = "block-pixel") -> ImageCipher:
    config = CipherConfig(scheme=scheme, block=4, negate=True)
    return make_cipher(config, SimulatedKey(3, "a"), channels=1, height=16, width=16)


def trained(config: TrainConfig, *, hidden: bool, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """A model after one round, on plain images or, with an adapted stem that is moved back at the end, on hidden."""
    model, part, hides = vit().to(dtype), held(), cipher()
    if hidden:
        part = Held(hides.encrypt(part.images), part.labels, hides.reading)
        follow(model, hides)
    names = [name for name, _ in model.named_parameters()]
    train_round(model, part, config, plan(pi=patch_order(hides) if hidden else None), trainable=names)
    if hidden:
        moves = hides.stem_permutation()
        restore(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


HIDDEN = (False, True)
SWITCHES: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon"},
    "ema": {"ema": 0.9},
    "layer decay": {"layer_decay": 0.6},
    "muon with layer decay": {"optimizer": "muon", "layer_decay": 0.6},
    "patch dropout": {"patch_dropout": 0.5, "patch_dropout_steps": 0.7},
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_trains_on_hidden_images_as_on_plain_ones(switch: str) -> None:
    config = replace(SMALL, **SWITCHES[switch])
    plain = trained(config, hidden=False)
    assert apart(trained(config, hidden=True), plain) < 1e-12
    assert apart(trained(SMALL, hidden=False), plain) > 1e-4, "the switch does nothing"
    start = {name: tensor.double() for name, tensor in vit().state_dict().items()}
    assert apart(start, plain) > 1e-3, "the run must have trained"


def test_in_single_precision_muon_is_apart_by_no_more_than_adamw() -> None:
    config = replace(SMALL, precision="fp32")
    found = {
        name: apart(*(trained(replace(config, optimizer=name), hidden=each, dtype=torch.float32) for each in HIDDEN))
        for name in ("adamw", "muon")
    }
    assert 0 < found["muon"] < 3 * found["adamw"]


def test_a_step_of_muon_is_torchs_but_for_its_rounding() -> None:
    torch.manual_seed(0)
    weight, gradient = torch.randn(12, 8), torch.randn(12, 8)
    stepped = []
    for kind in (torch.optim.Muon, Muon):
        parameter = torch.nn.Parameter(weight.clone())
        settings = {} if kind is Muon else {"nesterov": True, "adjust_lr_fn": "match_rms_adamw"}
        group = {"params": [parameter], "weight_decay": 0.1}
        made = kind([group], lr=0.1, momentum=0.95, ns_steps=5, **settings)
        for _ in range(3):
            parameter.grad = gradient.clone()
            made.step()
        stepped.append((parameter.detach(), made.state[parameter]["momentum_buffer"]))
    (theirs, their_buffer), (ours, our_buffer) = stepped
    assert torch.equal(our_buffer, their_buffer)
    moved = (theirs - weight).norm()
    assert 0 < (ours - theirs).norm() < 0.02 * moved


def test_muon_has_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    model = vit()
    parameters = dict(model.named_parameters())
    muon, adamw = make_optimizers(model, parameters, replace(SMALL, optimizer="muon", beta_2=0.98))
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    name_of = {id(parameter): name for name, parameter in parameters.items()}
    mine, others = ({name_of[id(p)] for g in each.param_groups for p in g["params"]} for each in (muon, adamw))
    assert mine == {f"blocks.{b}.{m}.weight" for b in (0, 1) for m in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert mine | others == set(parameters)
    assert not mine & others
    assert {"patch_embed.proj.weight", "pos_embed", "head.weight", "norm.weight"} <= others
    (group,) = muon.param_groups
    assert (group["momentum"], group["ns_steps"], group["weight_decay"]) == (0.95, 5, SMALL.weight_decay)
    assert {each["betas"] for each in adamw.param_groups} == {(0.9, 0.98)}


def test_muon_without_a_block_to_train_is_refused_in_one_line() -> None:
    config = replace(SMALL, optimizer="muon", scope="head")
    with pytest.raises(ConfigError, match=r"trains no block's matrices; adamw, or a scope with them"):
        check_training(vit(), OWN, config)
    check_training(vit(), OWN, replace(config, scope="last-1-blocks"))


def test_muon_leaves_what_does_not_train() -> None:
    model = vit()
    before = copy.deepcopy(model.state_dict())
    names = [name for name in before if name.startswith("blocks.1.") or name in head_names(model)]
    train_round(model, held(), replace(SMALL, optimizer="muon", precision="fp32"), plan(), trainable=names)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(names)
    assert not changed & set(stem_names(model))


def test_patches_are_drawn_in_the_plain_order_and_moved_by_the_key() -> None:
    hides = cipher()
    pi = patch_order(hides)
    assert pi is not None
    plain, hidden = (draw_rows(generator(0, "p"), 5, 16, 0.4, moved) for moved in (None, pi))
    assert plain.shape == (5, 9)
    assert all(len(set(rows)) == 9 for rows in plain.tolist())
    assert len({tuple(rows) for rows in plain.tolist()}) == 5
    np.testing.assert_array_equal(pi[hidden], plain)
    # The patches themselves: what lies at the hidden rows is what lies at the plain ones, by the cipher alone.
    image = np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(4, 0).repeat(4, 1)[None, None]
    bare = make_cipher(
        CipherConfig(scheme="block-pixel", block=4), SimulatedKey(3, "a"), channels=1, height=16, width=16
    )
    seen = bare.encrypt(image)[0, 0, ::4, ::4].reshape(-1)
    order = patch_order(bare)
    assert order is not None
    np.testing.assert_array_equal(seen, order)
    assert patch_order(cipher("per-block")) is None


def test_patches_in_another_order_are_no_equal_training() -> None:
    config, hides = replace(SMALL, patch_dropout=0.5, patch_dropout_steps=1.0), cipher()
    model, part = vit().double(), held()
    part = Held(hides.encrypt(part.images), part.labels, hides.reading)
    follow(model, hides)
    train_round(model, part, config, plan(), trainable=[name for name, _ in model.named_parameters()])
    moves = hides.stem_permutation()
    restore(model, rho=moves.rho, pi=moves.pi, mask=moves.mask)
    assert apart(dict(model.state_dict()), trained(config, hidden=False)) > 1e-4


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_medium_patch16_reg4_gap_256", "vit_base_patch16_siglip_224"]
)
def test_class_and_register_tokens_stay_and_the_rest_of_training_sees_all(name: str) -> None:
    model = build_vit(
        ModelConfig(name=name, image_size=16, patch=4, channels=1, classes=2, width=24, depth=1, heads=2), seed=0
    )
    before, met = model.patch_drop, []
    model.blocks[0].register_forward_pre_hook(lambda _, given: met.append(given[0].shape[1]))
    config = replace(SMALL, precision="fp32", epochs=1, patch_dropout=0.5, patch_dropout_steps=0.5, batch_size=6)
    train_round(model, held(), config, plan(), trainable=["head.weight"])
    prefix = model.num_prefix_tokens
    assert met == [prefix + 8, prefix + 8, prefix + 16, prefix + 16]
    assert model.patch_drop is before
    check_training(model, OWN, config)


def test_a_model_with_no_patch_to_leave_out_is_refused_in_one_line() -> None:
    whole = ModelConfig(image_size=8, patch=8, channels=1, classes=2, width=24, depth=1, heads=2)
    with pytest.raises(
        ConfigError, match="'patch_dropout' leaves patches out, and an image of this model is one patch"
    ):
        check_training(skeleton(whole), OWN, replace(SMALL, patch_dropout=0.5))


def test_the_average_is_the_one_its_formula_says_and_is_what_the_round_leaves() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    average, by_hand = WeightAverage([parameter], 0.8), 0.0
    for step in range(60):
        with torch.no_grad():
            parameter.fill_(float(step) ** 2)
        average.add()
        newest = max(0.2, 9 / (10 + step))
        by_hand = (1 - newest) * by_hand + newest * step**2
    assert float(parameter[0].detach()) == 59**2
    average.settle()
    np.testing.assert_allclose(parameter.detach().numpy(), by_hand, rtol=1e-12)
    assert newest_share(10**6, 0.8) == pytest.approx(0.2)


def test_a_short_round_forgets_where_it_began() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    average = WeightAverage([parameter], 0.999)
    with torch.no_grad():
        parameter.fill_(1.0)
    for _ in range(10):
        average.add()
    average.settle()
    assert float(parameter.detach()) > 0.99


def test_averaging_holds_nothing_that_does_not_train() -> None:
    model = vit()
    before = copy.deepcopy(model.state_dict())
    train_round(model, held(), replace(SMALL, ema=0.9, precision="fp32"), plan(), trainable=head_names(model))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(head_names(model))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_lower_layers_learn_more_slowly_and_all_that_trains_is_in_one_group(optimizer: str) -> None:
    model = vit()
    parameters = dict(model.named_parameters())
    optimizers = make_optimizers(model, parameters, replace(SMALL, optimizer=optimizer, layer_decay=0.5))
    set_rate(optimizers, 0.08)
    groups = [group for each in optimizers for group in each.param_groups]
    name_of = {id(parameter): name for name, parameter in parameters.items()}
    rates = {name_of[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert set(rates) == set(parameters)
    assert sum(len(group["params"]) for group in groups) == len(parameters)
    # Two blocks between stem and head: each layer half of the one above it.
    assert rates["head.weight"] == pytest.approx(0.08)
    assert rates["blocks.1.attn.qkv.weight"] == rates["blocks.1.norm1.bias"] == pytest.approx(0.04)
    assert rates["blocks.0.mlp.fc1.weight"] == pytest.approx(0.02)
    assert rates["patch_embed.proj.weight"] == rates["pos_embed"] == pytest.approx(0.01)
    decays = {name_of[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays["pos_embed"] == decays["blocks.0.norm1.weight"] == 0
    assert decays["blocks.0.mlp.fc1.weight"] == SMALL.weight_decay


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_kept_moments_go_on_where_the_round_before_ended(optimizer: str) -> None:
    config = replace(SMALL, optimizer=optimizer, epochs=1, lr_warmup=0.0, momentum=0.9)
    names = [name for name, _ in vit().named_parameters()]

    def two_rounds(moments: dict[str, torch.Tensor] | None) -> VisionTransformer:
        model = vit().double()
        for round_ in (1, 2):
            train_round(model, held(), config, plan(round_, 2), trainable=names, moments=moments)
        return model

    kept: dict[str, torch.Tensor] = {}
    once = two_rounds(kept)
    # One optimiser over both rounds, by hand: the same batches and rates, never begun anew.
    model, part, rate_of = vit().double().train(), held(), 6
    parameters = dict(model.named_parameters())
    optimizers, done = make_optimizers(model, parameters, config), 0
    for round_ in (1, 2):
        for chosen in shuffled(24, 8, generator(5, "train", round_)):
            set_rate(optimizers, learning_rate(done, rate_of, config))
            model.zero_grad()
            logits = model(normalise(torch.from_numpy(part.images[chosen]), dtype=torch.float64))
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(part.labels[chosen])).backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), config.clip)
            for each in optimizers:
                each.step()
            done += 1
    assert apart(dict(once.state_dict()), dict(model.state_dict())) < 1e-12
    assert apart(dict(two_rounds(None).state_dict()), dict(once.state_dict())) > 1e-5
    assert {key.partition("/")[2] for key in kept} == set(names)
    with pytest.raises(IntegrityError, match="of another model"):
        train_round(vit(), held(), config, plan(), trainable=names, moments={"exp_avg/nobody": torch.zeros(2)})


class Ticking:
    """A clock on which every look takes a quarter of a second."""

    def __init__(self) -> None:
        self.now = -0.25

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def test_a_round_by_the_clock_ends_with_its_share_and_its_rate_follows_what_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "process_time", Ticking())
    rates: list[float] = []
    monkeypatch.setattr(training, "set_rate", lambda _, rate: rates.append(rate))
    config = replace(SMALL, epochs=1, minutes=1.0, precision="fp32", lr=1.0, min_lr=0.0, lr_warmup=0.0)
    model, seen = vit(), []
    for round_ in (1, 2):
        result = train_round(model, held(), config, plan(round_, 2), trainable=["head.weight"])
        seen.append(result.n)
    # Two rounds share a minute: 30 seconds each, some looks a step, and so more than one pass over 24 images.
    assert all(24 < n < 30 * 4 * 8 for n in seen)
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert rates[0] == pytest.approx(1.0, abs=0.01)
    assert rates[-1] < 0.01
    middle = rates[seen[0] // 8]
    assert middle == pytest.approx(0.5, abs=0.05)


def test_a_clock_that_is_spent_at_once_still_lets_one_step_through(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**9, 10**4))
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    config = replace(SMALL, epochs=1, minutes=0.01, precision="fp32")
    assert train_round(vit(), held(), config, plan(), trainable=["head.weight"]).n == 8


def test_bf16_on_a_cpu_takes_attention_apart_for_its_time_alone() -> None:
    model, met = vit(), set()
    layer: Any = model.blocks[0].attn
    assert layer.fused_attn, "timm fuses attention by default"
    layer.register_forward_pre_hook(lambda module, _: met.add(module.fused_attn))
    config = replace(SMALL, precision="bf16", epochs=1)
    train_round(model, held(), config, plan(), trainable=["head.weight"])
    training.predict(model, held(), config)
    assert met == {False}
    assert layer.fused_attn
    training.predict(model, held(), replace(config, precision="fp32"))
    assert met == {False, True}
