"""Gradients of single images, clipped and hidden by noise; and what an audit makes of a model trained so."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from torch import nn
from torch.nn import functional

from crypto.base import PLAIN, Reading
from fl_client.config import TrainConfig
from fl_client.privacy import training
from fl_client.privacy.accountant import Charge, epsilon
from fl_client.privacy.chance import Chance
from fl_client.privacy.gradients import ClippedSum, Loss, by_unit, check_apart, of_each
from fl_client.privacy.training import Hidden, packed, train_hidden
from fl_client.training import RoundPlan
from medveil.errors import ConfigError, FederationError
from models.config import ModelConfig
from models.light import lighten
from models.patches import KeptPatches, leaving_out
from models.policy import Policy
from models.travel import trainable
from models.vit import build_vit

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

PLAIN_POLICY = Policy("none", "public", "averaged")
TRAIN = TrainConfig(
    batch_size=8, lr=0.1, precision="fp64", lr_warmup=0.0, optimizer="sgd", momentum=0.0, weight_decay=0
)
SEED = bytes(range(32))


@dataclass(frozen=True)
class Held:
    images: np.ndarray
    labels: np.ndarray
    reading: Reading = PLAIN

    def batch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        made: np.ndarray = self.images[indices]
        return made


def held(n: int = 12) -> Held:
    images = np.random.default_rng(0).integers(0, 256, (n, 1, 16, 16), dtype=np.uint8)
    return Held(images, np.arange(n, dtype=np.int64) % 2)


def vit(scope: str = "full", name: str = "vit_tiny_patch16_224") -> VisionTransformer:
    torch.set_num_threads(1)
    config = ModelConfig(name=name, image_size=16, patch=4, channels=1, classes=2, width=24, depth=2, heads=2)
    return lighten(build_vit(config, seed=0), scope, 4, seed=7).double()


def numbers(part: Held) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(2.0 * part.images / 255 - 1), torch.from_numpy(part.labels)


def parameters_of(model: nn.Module, names: list[str]) -> dict[str, nn.Parameter]:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return {name: each for name, each in model.named_parameters() if name in names}


def alone(model: nn.Module, parameters: dict[str, nn.Parameter], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What backward gives for one image, as one vector."""
    loss = functional.cross_entropy(model(x[None]), y[None], label_smoothing=0.1)
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(parameters.values()))])


def rows_of(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([each.flatten(1) for each in gradients.values()], dim=1)


@pytest.mark.parametrize("scope", ["full", "last-1-blocks", "bias", "bias-norm", "lora-core", "head"])
def test_gradients_are_those_of_each_image_alone(scope: str) -> None:
    model = vit(scope)
    parameters = parameters_of(model, trainable(model, PLAIN_POLICY, scope))
    x, y = numbers(held(4))
    found = rows_of(of_each(model, parameters, x, y, Loss(0.1, "fp64"), kept=KeptPatches(1)))
    right = torch.stack([alone(model, parameters, *each) for each in zip(x, y, strict=True)])
    assert torch.allclose(found, right, rtol=0, atol=1e-12)


def test_gradients_of_a_rotary_model_whose_biases_no_layer_reads_are_those_of_each_image_alone() -> None:
    model = vit(name="eva02_tiny_patch14_224")
    parameters = parameters_of(model, trainable(model, PLAIN_POLICY, "full"))
    x, y = numbers(held(3))
    found = rows_of(of_each(model, parameters, x, y, Loss(0.1, "fp64"), kept=KeptPatches(1)))
    right = torch.stack([alone(model, parameters, *each) for each in zip(x, y, strict=True)])
    assert torch.allclose(found, right, rtol=0, atol=1e-12)


def test_gradients_follow_the_patches_that_each_image_keeps() -> None:
    model = vit()
    parameters, (x, y) = parameters_of(model, trainable(model, PLAIN_POLICY, "full")), numbers(held(3))
    rows = torch.tensor([[0, 3, 9], [1, 2, 15], [8, 7, 6]])
    with leaving_out(model) as kept:
        found = rows_of(of_each(model, parameters, x, y, Loss(0.1, "fp64"), kept=kept, rows=rows))
        right = []
        for image, label, own in zip(x, y, rows, strict=True):
            kept.rows = own[None]
            right.append(alone(model, parameters, image, label))
    assert torch.allclose(found, torch.stack(right), rtol=0, atol=1e-12)


def test_what_a_unit_adds_is_within_the_clip_whatever_its_gradient() -> None:
    drawn = torch.randn(40, 7, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    scaled = {"a": drawn[:, :3] * 10.0 ** torch.arange(-20, 20)[:, None], "b": drawn[:, 3:] * 1e-3}
    for row in range(40):
        total = ClippedSum({"a": torch.zeros(3), "b": torch.zeros(4)}, 0.5)
        total.add({name: each[row : row + 1] for name, each in scaled.items()})
        norm = math.sqrt(sum(float(each.square().sum()) for each in total.total.values()))
        own = math.sqrt(sum(float(each[row].double().square().sum()) for each in scaled.values()))
        assert norm <= 0.5
        assert norm == pytest.approx(min(own, 0.5), rel=1e-5)


def test_a_gradient_that_is_not_finite_adds_nothing() -> None:
    total = ClippedSum({"a": torch.zeros(2)}, 1.0)
    total.add({"a": torch.tensor([[0.1, 0.2], [math.nan, 1.0], [math.inf, 0.0]])})
    assert torch.allclose(total.total["a"], torch.tensor([0.1, 0.2], dtype=torch.float64))


def hidden_by(
    members: list[np.ndarray], *, noise: float = 0.0, rate: float = 1.0, clip: float = 0.3, seed: bytes = SEED
) -> Hidden:
    return Hidden(clip, Charge(noise, rate, 1), members, Chance(seed))


@pytest.mark.parametrize("numbers_at_once", [2**26, 1])
def test_a_patients_images_are_summed_and_clipped_once(numbers_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one patient has more images than are computed at once."""
    monkeypatch.setattr(training, "HELD", numbers_at_once)
    model, part = vit("head"), held(6)
    names = trainable(model, PLAIN_POLICY, "head")
    patients = [np.array([0, 4, 5]), np.array([1]), np.array([2, 3])]
    before = copy.deepcopy(model)
    train = replace(TRAIN, batch_size=6, scope="head", label_smoothing=0.1)
    train_hidden(model, part, train, plan(), hidden_by(patients), trainable=names)

    parameters = parameters_of(before, names)
    x, y = numbers(part)
    each = torch.stack([alone(before, parameters, *one) for one in zip(x, y, strict=True)])
    sums = torch.stack([each[torch.from_numpy(rows)].sum(0) for rows in patients])
    assert (sums.norm(dim=1) > 0.3).any()
    wanted = (sums * (0.3 / sums.norm(dim=1)).clamp(max=1)[:, None]).sum(0) / len(patients)
    moved = [(dict(before.named_parameters())[n] - dict(model.named_parameters())[n]).flatten() for n in parameters]
    assert torch.allclose(torch.cat(moved) / 0.1, wanted, rtol=1e-4, atol=1e-12)


def test_units_are_computed_together_as_far_as_they_fit() -> None:
    units = [np.arange(n) for n in (2, 1, 1, 5, 3)]
    assert [[len(each) for each in group] for group in packed(units, 4)] == [[2, 1, 1], [5], [3]]
    assert list(packed([], 4)) == []
    summed = by_unit({"a": torch.ones(4, 2)}, torch.tensor([0, 2, 2, 0]), 3)
    assert summed["a"].tolist() == [[2, 2], [0, 0], [2, 2]]


def test_noise_has_the_deviation_it_says_in_every_weight() -> None:
    """A step in which no unit is, of a model whose every weight trains."""
    model, part = vit(), held(10)
    names, before = trainable(model, PLAIN_POLICY, "full"), copy.deepcopy(model).state_dict()
    units = [np.array([row]) for row in range(10)]
    hidden = hidden_by(units, noise=3.0, rate=1e-12, clip=0.5)
    train_hidden(model, part, replace(TRAIN, batch_size=10), plan(), hidden, trainable=names)
    moved = torch.cat([(model.state_dict()[name] - before[name]).flatten() for name in names])
    noise = moved / 0.1 * (1e-12 * 10) / (3.0 * 0.5)
    assert len(noise) > 15_000
    assert kstest(noise.numpy(), "norm").pvalue > 1e-3
    assert float(noise.std()) == pytest.approx(1.0, rel=5 / math.sqrt(2 * len(noise)))


def test_chance_is_of_its_seed_alone_and_no_two_steps_or_tensors_share_it() -> None:
    one, other = Chance(SEED), Chance(bytes(32))
    assert np.array_equal(one.normals(3, "a", 50), Chance(SEED).normals(3, "a", 50))
    drawn = [one.normals(3, "a", 50), one.normals(4, "a", 50), one.normals(3, "b", 50), other.normals(3, "a", 50)]
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.5
    counts = np.array([len(one.taken(step, 500, 0.2)) for step in range(200)])
    assert counts.mean() == pytest.approx(100, abs=5 * math.sqrt(80 / 200))
    assert counts.std() == pytest.approx(math.sqrt(80), rel=0.3), "each unit by itself, and no fixed number"
    assert not np.array_equal(one.taken(0, 500, 0.2), one.taken(1, 500, 0.2))
    with pytest.raises(ValueError, match="seed of 8"):
        Chance(bytes(8))


def test_all_that_training_offers_goes_with_noise_and_repeats_with_its_seed() -> None:
    """Averages, moments, FedProx's pull, patches left out, stochastic depth: none of it needs an image."""
    part = held(12)
    train = replace(TRAIN, optimizer="adamw", lr=0.01, ema=0.9, patch_dropout=0.25, label_smoothing=0.1, state="kept")
    made = []
    for seed in (SEED, SEED, bytes(32)):
        model, moments = vit("last-1-blocks"), dict[str, torch.Tensor]()
        names = trainable(model, PLAIN_POLICY, "last-1-blocks")
        hidden = hidden_by([np.array([row]) for row in range(12)], noise=1.0, rate=0.5, seed=seed)
        train_hidden(model, part, train, plan(proximal_mu=0.1), hidden, trainable=names, moments=moments)
        assert moments
        made.append(torch.cat([model.state_dict()[name].flatten() for name in names]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_model_that_takes_statistics_of_a_batch_is_refused() -> None:
    check_apart(vit())
    with pytest.raises(ConfigError, match="has BatchNorm1d, which takes statistics of a batch"):
        check_apart(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_training_that_diverges_ends_by_our_error() -> None:
    model, part = vit("head"), held(6)
    hidden = hidden_by([np.array([row]) for row in range(6)], noise=1.0)
    with pytest.raises(FederationError, match="a weight is not finite after round 1"):
        train_hidden(
            model,
            part,
            replace(TRAIN, lr=1e300, min_lr=1e300, batch_size=1),
            plan(),
            replace(hidden, clip=1e300),
            trainable=trainable(model, PLAIN_POLICY, "head"),
        )


# -- an audit ----------------------------------------------------------------------------------------------------------

SIDE, CANARIES = 32, 400
DELTA = 1e-3


class OneLayer(nn.Module):
    """A model whose gradient for an image points along that image: a canary that is drawn points its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 2
        self.head = nn.Linear(SIDE * SIDE, 2, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(x.flatten(1))
        return found


def lower_bound(noise: float) -> tuple[float, float]:
    """What one run shows of its canaries, as a bound of epsilon at 95 %; and what the accountant says.

    Andrew et al., "One-shot Empirical Privacy Estimation for Federated Learning", arXiv 2302.03098: many canaries in
    one run, each a direction of its own, scored by how far the model went its way. Half of those that are drawn train;
    of the others the scores are what chance gives.
    """
    drawn = np.random.default_rng(1)
    images = drawn.integers(0, 256, (2 * CANARIES, 1, SIDE, SIDE), dtype=np.uint8)
    part, model = Held(images[:CANARIES], drawn.integers(0, 2, CANARIES)), OneLayer()
    charge = Charge(noise, 0.25, 40)
    hidden = Hidden(1.0, charge, [np.array([row]) for row in range(CANARIES)], Chance(SEED))
    train = replace(TRAIN, batch_size=CANARIES // 4, epochs=10)
    train_hidden(model, part, train, plan(), hidden, trainable=["head.weight"])

    labels = np.concatenate([part.labels, drawn.integers(0, 2, CANARIES)])
    directions = (2.0 * images / 255 - 1).reshape(2 * CANARIES, -1)
    moved = (model.head.weight[1] - model.head.weight[0]).detach().numpy()
    scores = (directions / np.linalg.norm(directions, axis=1, keepdims=True)) @ moved * (2 * labels - 1)
    inside, outside = scores[:CANARIES], scores[CANARIES:]
    # The threshold is chosen on one half of the canaries, and judged on the other.
    ways = np.quantile(outside[::2], np.linspace(0.5, 0.99, 30))
    best = max(ways, key=lambda at: (inside[::2] > at).mean() / max(1 / CANARIES, (outside[::2] > at).mean()))
    hits, false = int((inside[1::2] > best).sum()), int((outside[1::2] > best).sum())
    n = CANARIES // 2
    least, most = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0, beta.ppf(0.975, false + 1, n - false)
    return math.log(max(1.0, (least - DELTA) / most)), epsilon([charge], DELTA)


def test_an_audit_finds_the_canaries_where_there_is_no_noise() -> None:
    found, counted = lower_bound(0.0)
    assert found > 1.0
    assert math.isinf(counted)


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_an_audit_finds_no_more_than_the_accountant_says(noise: float) -> None:
    found, counted = lower_bound(noise)
    assert found < counted < 40


def plan(**changes: Any) -> RoundPlan:
    return RoundPlan(**{"round": 1, "rounds": 1, "seed": 0, "rng": np.random.default_rng(0), **changes})
