from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from crypto.base import PLAIN, Reading
from fl_client import optimizers
from fl_client.batches import generator, in_order, shuffled
from fl_client.class_shares import class_weights, logit_adjustment
from fl_client.config import SimulatedSites, TrainConfig
from fl_client.measures import majority_rate, measure
from fl_client.optimizers import learning_rate, make_optimizers
from fl_client.training import RoundPlan, predict, train_round
from fl_client.warmup import warm_up
from medveil.errors import ConfigError, FederationError
from models.config import ModelConfig
from models.stem import head_names, stem_names, trunk_names
from models.vit import build_vit

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Held:
    images: np.ndarray
    labels: np.ndarray
    asked: list[int]
    reading: Reading = PLAIN

    def batch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        self.asked.append(epoch)
        made: np.ndarray = self.images[indices]
        return made


def held(n: int = 40) -> Held:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.integers(0, 120, (n, 1, 8, 8), dtype=np.uint8)
    images[labels == 1, :, 2:5, 2:5] += 130
    return Held(images, labels.astype(np.int64), [])


def vit(**changes: Any) -> VisionTransformer:
    torch.set_num_threads(1)
    config = ModelConfig(image_size=8, patch=4, channels=1, classes=2, width=16, depth=2, heads=2, **changes)
    return build_vit(config, seed=0)


def plan(round_: int = 1, rounds: int = 2, *, mu: float = 0.0, seed: int = 5) -> RoundPlan:
    return RoundPlan(round=round_, rounds=rounds, seed=seed, rng=generator(seed, "train", round_), proximal_mu=mu)


def trained(config: TrainConfig, *, model: VisionTransformer | None = None, **settings: Any) -> VisionTransformer:
    model = model or vit()
    names = [name for name, _ in model.named_parameters()]
    train_round(model, held(), config, plan(**settings), trainable=names)
    return model


def same(a: VisionTransformer, b: VisionTransformer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


CONFIG = TrainConfig(batch_size=8, lr=3e-3)


def test_a_repeated_round_is_the_same_round_whatever_the_global_generators_say() -> None:
    config = replace(CONFIG, mixup=0.4)
    torch.manual_seed(1)
    first = trained(config, model=vit(drop_path=0.2))
    torch.manual_seed(2)
    np.random.default_rng().random()
    state = torch.get_rng_state()
    second = trained(config, model=vit(drop_path=0.2))
    assert same(first, second)
    assert torch.equal(torch.get_rng_state(), state), "training must leave the global generator alone"
    assert not same(first, trained(config, model=vit(drop_path=0.2), seed=6))


def test_a_round_leaves_nothing_behind_but_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    made: list[Any] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(optimizers, "make_optimizers", lambda *given: made.append(make_optimizers(*given)) or made[-1])
    model = vit()
    for round_ in (1, 2):
        trained(CONFIG, model=model, round_=round_)
    assert seeded == []
    assert len(made) == 1
    assert not any(each.state for each in made[0])
    trained(replace(CONFIG, lr=1e-2), model=model)
    assert len(made) == 2
    # A used model's optimisers begin as fresh ones do.
    again, fresh = vit(), vit()
    for name, tensor in fresh.state_dict().items():
        tensor.copy_(model.state_dict()[name])
        again.state_dict()[name].copy_(tensor)
    trained(CONFIG, model=again)
    again.load_state_dict(model.state_dict())
    assert same(trained(CONFIG, model=again), trained(CONFIG, model=fresh))


def test_it_learns() -> None:
    model, part = vit(), held()
    names = [name for name, _ in model.named_parameters()]
    results = [
        train_round(model, part, replace(CONFIG, epochs=8), plan(r, 3), trainable=names).accuracy for r in (1, 2, 3)
    ]
    assert results[-1] > 0.95
    probabilities = predict(model, part, CONFIG, batch_size=7)
    assert probabilities.shape == (40, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == part.labels).mean() > 0.95
    np.testing.assert_allclose(probabilities, predict(model, part, CONFIG), atol=1e-6)


def test_views_are_asked_for_by_the_epoch_of_the_whole_run() -> None:
    model, part = vit(), held(8)
    names = [name for name, _ in model.named_parameters()]
    for round_ in (1, 2):
        train_round(model, part, replace(CONFIG, epochs=2), plan(round_), trainable=names)
    assert part.asked == [0, 1, 2, 3]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_what_may_train_changes(optimizer: str) -> None:
    model = vit()
    before = copy.deepcopy(model.state_dict())
    train_round(model, held(), replace(CONFIG, optimizer=optimizer), plan(), trainable=head_names(model))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "change",
    [
        {"mixup": 0.5},
        {"label_smoothing": 0.2},
        {"optimizer": "sgd"},
        {"optimizer": "muon"},
        {"beta_2": 0.9},
        {"clip": 0.01},
        {"clip": 0.0},
        {"weight_decay": 5.0},
        {"epochs": 2},
        {"precision": "bf16"},
    ],
)
def test_every_setting_counts(change: dict) -> None:
    model = trained(replace(CONFIG, **change))
    assert not same(model, trained(CONFIG))
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_class_weights_are_balanced_over_the_classes_a_site_has() -> None:
    labels = np.array([0, 0, 0, 1, 3, 3])
    assert class_weights(labels, 4, CONFIG, CPU) is None
    weights = class_weights(labels, 4, replace(CONFIG, class_weights="balanced"), CPU)
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), [6 / 9, 2.0, 1.0, 1.0])
    counts = np.bincount(labels, minlength=4)
    assert float((weights.numpy() * counts).sum()) == pytest.approx(len(labels))


def test_logits_are_adjusted_by_the_shares_of_classes_a_site_has() -> None:
    labels = np.array([0, 0, 0, 1, 3, 3])
    assert logit_adjustment(labels, 4, CONFIG, CPU) is None
    adjustment = logit_adjustment(labels, 4, replace(CONFIG, logit_adjustment=2.0), CPU)
    assert adjustment is not None
    np.testing.assert_allclose(adjustment.shares.numpy(), [3 / 7, 1 / 7, 1 / 7, 2 / 7], rtol=1e-6)
    np.testing.assert_allclose(adjustment.added.numpy(), 2 * np.log([3 / 7, 1 / 7, 1 / 7, 2 / 7]), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("cure", [{"logit_adjustment": 1.0}, {"class_weights": "balanced"}])
def test_sites_of_unlike_shares_learn_one_answer_for_equal_shares(cure: dict[str, Any], smoothing: float) -> None:
    """Of images that say nothing a site learns its own shares of classes; with either cure, that all are alike."""
    images = np.full((40, 1, 8, 8), 128, dtype=np.uint8)
    for shares in ((38, 2), (2, 38)):
        labels = np.repeat([0, 1], shares)
        found = []
        for change in ({}, cure):
            model, part = vit(), Held(images, labels, [])
            config = replace(
                CONFIG, optimizer="sgd", lr=0.3, epochs=60, batch_size=40, label_smoothing=smoothing, **change
            )
            train_round(model, part, config, plan(rounds=1), trainable=head_names(model))
            found.append(float(predict(model, part, config)[0, 0]))
        own, made = found
        assert own == pytest.approx((1 - smoothing) * shares[0] / 40 + smoothing / 2, abs=0.05)
        assert made == pytest.approx(0.5, abs=0.06)


def test_the_proximal_term_holds_the_model_back() -> None:
    start = vit()

    def moved(mu: float) -> float:
        model = trained(replace(CONFIG, optimizer="sgd", lr=0.05, clip=0.0), mu=mu)
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        return sum(float(((a - b).detach() ** 2).sum()) for a, b in pairs)

    assert moved(5.0) < 0.7 * moved(0.0)


def test_the_learning_rate_is_one_cosine_over_the_run() -> None:
    config = TrainConfig(lr=1.0, min_lr=0.1, lr_warmup=0.2)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 20)
    assert rates[19] == rates[20] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert rates[60] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert learning_rate(0, 1, TrainConfig(lr=0.5)) == 0.5
    assert learning_rate(50, 100, TrainConfig(lr=1e-6, min_lr=1e-5, lr_warmup=0)) == 1e-6


def test_decay_spares_vectors_and_embeddings() -> None:
    model = vit()
    (optimizer,) = make_optimizers(model, dict(model.named_parameters()), CONFIG)
    decayed, spared = optimizer.param_groups
    assert decayed["weight_decay"] == CONFIG.weight_decay
    assert spared["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {"pos_embed", "cls_token", "head.bias"} <= {names[id(each)] for each in spared["params"]}
    assert "patch_embed.proj.weight" in {names[id(each)] for each in decayed["params"]}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_a_loss_that_is_not_finite_is_an_error_with_a_cure() -> None:
    model = vit()
    with torch.no_grad():
        model.get_parameter("head.weight").fill_(float("nan"))
    with pytest.raises(FederationError, match=r"loss of round 2 is not finite; lower train\.lr"):
        train_round(model, held(), CONFIG, plan(2), trainable=head_names(model))


def test_warming_up_fits_the_stem_and_leaves_trunk_and_head() -> None:
    model = vit()
    before = copy.deepcopy(model.state_dict())
    result = warm_up(model, held(), CONFIG, epochs=3, seed=1, rng=generator(1, "warmup"))
    assert result.n == 3 * 40
    after = model.state_dict()
    for name in [*trunk_names(model), *head_names(model)]:
        assert torch.equal(after[name], before[name]), name
    assert all(not torch.equal(after[name], before[name]) for name in stem_names(model))


def test_warming_up_is_no_slower_where_lower_layers_are() -> None:
    made = []
    for decay in (1.0, 0.5):
        model = vit()
        config = replace(CONFIG, layer_decay=decay)
        warm_up(model, held(), config, epochs=1, seed=1, rng=generator(1, "warmup"))
        made.append({name: model.state_dict()[name] for name in stem_names(model)})
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_batches_cover_every_image_once() -> None:
    for batches in (shuffled(23, 5, generator(0, "a")), in_order(23, 5)):
        chosen = list(batches)
        assert [len(each) for each in chosen] == [5, 5, 5, 5, 3]
        assert sorted(np.concatenate(chosen)) == list(range(23))
    a, b, c = (next(shuffled(23, 23, generator(s, "x", s))) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_measures_of_nothing_one_class_and_ties() -> None:
    empty = measure(np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
    assert empty.n == 0
    assert math.isnan(empty.loss)
    one = measure(np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]], np.float32))
    assert (one.accuracy, one.balanced_accuracy) == (0.5, 0.5)
    assert math.isnan(one.auroc)
    assert one.loss == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2, rel=1e-5)
    flat = measure(np.array([0, 1]), np.full((2, 2), 0.5, np.float32))
    assert flat.auroc == 0.5
    # Two of three classes are present: the third has no say in the balanced accuracy or the AUROC.
    three = measure(np.array([0, 0, 2]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], np.float32))
    assert three.balanced_accuracy == pytest.approx(0.75)
    assert three.auroc == pytest.approx((0.75 + 1) / 2)
    assert set(three.as_metrics("test")) == {
        f"test-{m}" for m in ("loss", "accuracy", "balanced-accuracy", "auroc", "n")
    }
    assert majority_rate(np.array([0, 2, 2])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizer": "lion"}, "adamw, sgd, muon"),
        ({"beta_2": 1.0}, "below 1"),
        ({"patch_dropout": 1.0}, "below 1"),
        ({"ema": 1.0}, "below 1"),
        ({"minutes": -1.0}, "a month"),
        ({"minutes": float("nan")}, "a month"),
        ({"minutes": 1.0, "epochs": 2}, "leave epochs at 1"),
        ({"minutes": 1.0, "precision": "fp64"}, "epochs"),
        ({"state": "lost"}, "fresh, kept"),
        ({"ema": -0.1}, "at least 0"),
        ({"layer_decay": 0.0}, "above 0, at most 1"),
        ({"layer_decay": 1.5}, "above 0, at most 1"),
        ({"augment": "standard"}, "none, light, medium, strong"),
        ({"recipe": "big-data"}, "none, small-data, pre-train, fine-tune"),
        ({"patch_dropout_steps": 1.1}, "0 to 1"),
        ({"class_weights": "some"}, "none, balanced"),
        ({"logit_adjustment": -1.0}, "0 or more"),
        ({"logit_adjustment": 1.0, "class_weights": "balanced"}, "one of them"),
        ({"precision": "fp8"}, "auto, fp32, bf16"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"lr": -1.0}, "0 or more"),
        ({"lr": float("nan")}, "0 or more"),
        ({"clip": float("inf")}, "0 or more"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"lr_warmup": -0.1}, "at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        replace(CONFIG, **change).check()
    assert f"'{next(iter(change))}'" in str(caught.value)


def test_what_simulated_sites_are_told_survives_json() -> None:
    sites = SimulatedSites(sites=3, seed=9, out="/x")
    assert SimulatedSites.from_json(sites.to_json()) == sites
    with pytest.raises(ConfigError, match="is not JSON"):
        SimulatedSites.from_json("{")
    with pytest.raises(ConfigError, match="did you mean 'sites'"):
        SimulatedSites.from_json('{"site": 3}')
