"""Whole runs with what fits small data: equal to their plaintext twins, repeatable, and refused before they start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_client.simulated_host import _simulated_site
from fl_server import checkpoints
from fl_server.manifest import _told
from medveil.config import load_config
from medveil.errors import ConfigError
from medveil.wire import Tensors
from simulations.arms import ARMS, as_experiment
from simulations.compare import compare
from simulations.config import ExperimentConfig
from simulations.engines import inprocess
from simulations.plan import make_plan
from simulations.predictions import load_predictions
from simulations.run import _recorded, check_model

Tiny = Callable[..., ExperimentConfig]
ALL = (
    "train.precision=fp64",
    "train.optimizer=muon",
    "train.ema=0.9",
    "train.layer_decay=0.8",
    "train.patch_dropout=0.4",
    "train.augment=medium",
    "model.init=mimetic",
    "predict.views=3",
)


@dataclass(frozen=True)
class Ran:
    tensors: Tensors
    probabilities: np.ndarray


def ran(config: ExperimentConfig, out: Path) -> Ran:
    torch.set_num_threads(1)
    _simulated_site.cache_clear()
    plan = make_plan(config, out)
    inprocess.run_inprocess(plan)
    newest = checkpoints.load_newest(out / "checkpoints", run=plan.run.run)
    assert newest is not None
    found = load_predictions(out)
    return Ran(newest.tensors, np.concatenate([found[site].probabilities for site in sorted(found)]))


@pytest.fixture(scope="module")
def twins(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Ran]:
    base, folder = load_config(ExperimentConfig, None, [*tiny_settings, *ALL]), tmp_path_factory.mktemp("twins")
    arms = ("per-site-adapted", "fedper")
    hidden, plain = (ran(as_experiment(base, ARMS[arm], 0), folder / arm) for arm in arms)
    return hidden, plain


def test_with_all_of_it_hidden_images_train_as_plain_ones(twins: tuple[Ran, Ran]) -> None:
    hidden, plain = twins
    for name, tensor in plain.tensors.items():
        np.testing.assert_allclose(hidden.tensors[name], tensor, rtol=2e-7, atol=2e-8, err_msg=name)
    np.testing.assert_allclose(hidden.probabilities, plain.probabilities, atol=1e-6)
    assert np.abs(plain.probabilities - 0.5).max() > 1e-3


def test_a_repeated_run_is_the_same_and_views_change_answers_alone(
    tiny: Tiny, twins: tuple[Ran, Ran], tmp_path: Path
) -> None:
    _, plain = twins
    base = tiny(*ALL[:-1], "predict.views=1")
    again = ran(as_experiment(base, ARMS["fedper"], 0), tmp_path / "again")
    for name, tensor in plain.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor, err_msg=name)
    assert np.abs(again.probabilities - plain.probabilities).max() > 1e-6
    np.testing.assert_allclose(plain.probabilities.sum(1), 1, rtol=1e-5)


def test_arms_that_should_be_equal_are_not_compared_by_the_clock(tiny: Tiny, tmp_path: Path) -> None:
    config, out = tiny("train.minutes=0.1", "compare.arms=[fedper, per-site-adapted]"), tmp_path / "compared"
    with pytest.raises(ConfigError, match="'per-site-adapted' equals 'fedper' in theory"):
        compare(config, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("train.optimizer=muon", "train.scope=head"), "'optimizer' is muon.*'scope' trains no block"),
        (("train.patch_dropout=1",), "'patch_dropout' is out of its range"),
        (("train.ema=1",), "'ema' is out of its range"),
        (("train.augment=light", "data.augment=light", "data.views=2"), "data.augment.*so is 'train.augment'"),
        (("train.augment=huge",), "'augment' is not known; one of none, light, medium, strong"),
        (("predict.views=0",), "'views' is out of its range; 1 to 64"),
        (("predict.augment=none",), "'augment' is not known; one of light, medium, strong"),
        (("model.init=other",), "model.init: is 'other'"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_started(
    tiny: Tiny, tmp_path: Path, overrides: tuple[str, ...], says: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=says) as caught:
        check_model(make_plan(tiny(*overrides), out))
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arm", "scheme"), [("per-site-secret", "block-pixel"), ("per-site-adapted", "orthogonal"), ("aes-ctr", "aes-ctr")]
)
def test_every_kind_of_stem_and_cipher_trains_with_all_of_it(tiny: Tiny, tmp_path: Path, arm: str, scheme: str) -> None:
    more = ("rounds=1", "train.precision=auto", "train.state=kept", "stem.warmup=1", "predict.views=2")
    experiment = as_experiment(tiny(*ALL, *more), ARMS[arm], 0)
    experiment.cipher.scheme = scheme
    experiment.cipher.negate = experiment.cipher.negate and scheme == "block-pixel"
    found = ran(experiment, tmp_path / "run")
    assert all(np.isfinite(tensor).all() for tensor in found.tensors.values())
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)


def test_a_run_of_an_older_medveil_goes_on_as_it_began(tiny: Tiny, tmp_path: Path) -> None:
    plan = make_plan(tiny(), tmp_path / "run")
    older = dataclasses.asdict(plan.run)
    del older["predict"], older["model"]["init"]
    for name in ("recipe", "minutes", "state", "layer_decay", "beta_2", "augment", "ema", "patch_dropout"):
        del older["train"][name]
    assert _recorded({"run_config": older}, where="manifest.json") == plan.run
    assert _told(older) == _told(dataclasses.asdict(plan.run))
    older["train"]["lr"] = 0.5
    assert _recorded({"run_config": older}, where="manifest.json") != plan.run
