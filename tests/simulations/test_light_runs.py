"""Whole runs under light scopes: equal to their twins, small on the wire, resumed, begun from and compared."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import at_once
import numpy as np
import pytest
import torch

from fl_client.simulated_host import _simulated_site
from fl_server import checkpoints
from fl_server.initial import initial_model
from fl_server.metrics import read_lines
from medveil.config import load_config
from medveil.errors import ConfigError
from medveil.training import LIGHT
from simulations.arms import ARMS, as_experiment, chosen_arms
from simulations.cli import main
from simulations.config import CompareConfig, ExperimentConfig
from simulations.engines import inprocess
from simulations.plan import make_plan
from simulations.predictions import load_predictions
from simulations.run import check_model, resume_experiment, run_experiment

Tiny = Callable[..., ExperimentConfig]
RANK = 4
ALL = (
    f"train.rank={RANK}",
    "train.precision=fp64",
    "train.ema=0.9",
    "train.layer_decay=0.8",
    "train.patch_dropout=0.4",
    "train.augment=light",
    "train.state=kept",
    "model.init=mimetic",
)


def ran(config: ExperimentConfig, out: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What travelled last, and the answers of all sites."""
    torch.set_num_threads(1)
    _simulated_site.cache_clear()
    plan = make_plan(config, out)
    inprocess.run_inprocess(plan)
    newest = checkpoints.load_newest(out / "checkpoints", run=plan.run.run)
    assert newest is not None
    found = load_predictions(out)
    return dict(newest.tensors), np.concatenate([found[site].probabilities for site in sorted(found)])


@pytest.mark.parametrize(("scope", "optimizer"), [("lora-core", "muon"), ("bias-norm", "adamw")])
def test_hidden_images_train_as_plain_ones(tiny: Tiny, tmp_path: Path, scope: str, optimizer: str) -> None:
    base = tiny(*ALL, f"train.scope={scope}", f"train.optimizer={optimizer}")
    arms = ("per-site-adapted", "fedper")
    (hidden, answers), (plain, wanted) = (ran(as_experiment(base, ARMS[arm], 0), tmp_path / arm) for arm in arms)
    assert set(hidden) == set(plain)
    for name, tensor in plain.items():
        np.testing.assert_allclose(hidden[name], tensor, rtol=2e-7, atol=2e-8, err_msg=name)
    np.testing.assert_allclose(answers, wanted, atol=1e-6)
    assert np.abs(wanted - 0.5).max() > 1e-3


@pytest.mark.parametrize("scope", ["full", "head", *LIGHT])
def test_what_trains_and_travels_is_counted(tiny: Tiny, tmp_path: Path, scope: str) -> None:
    # Width 24, two blocks of four layers and two norms, two classes.
    head, norms, cores = 2 * 24 + 2, 5 * 24, 8 * RANK**2
    bias = 2 * (72 + 24 + 96 + 24) + norms
    wanted = {"head": head, "bias": head + bias, "bias-norm": head + bias + norms, "lora-core": head + cores}
    settings = (f"train.scope={scope}", f"train.rank={RANK}", "keys.policy=none")
    for wire, size in (("fp32", 4), ("bf16", 2)):
        told = initial_model(make_plan(tiny(*settings, f"wire={wire}"), tmp_path).run).described
        assert told["trained"] == wanted.get(scope, told["parameters"])
        assert told["bytes_a_round"] == size * told["trained"]
    local = initial_model(make_plan(tiny(*settings, "stem.train=local"), tmp_path).run).described
    assert local["trained"] - local["bytes_a_round"] / 4 == 24 * (16 + 1 + 16 + 1), "the stem trains and stays"


def test_a_run_says_what_trains_and_travels(tiny: Tiny, tmp_path: Path) -> None:
    settings = ("rounds=1", "train.scope=lora-core", f"train.rank={RANK}", "keys.policy=none", "kind=delta")
    run_experiment(tiny(*settings), tmp_path / "run", progress=False)
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())["model"]
    lines = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["phase"] == "train"]
    for line in (each for each in lines if each["site"] != "all"):
        for way in ("bytes_up", "bytes_down"):
            # Ten tensors, each with a header.
            assert told["bytes_a_round"] <= line[way] < told["bytes_a_round"] + 10 * 300
    page = (tmp_path / "run" / "report.html").read_text()
    assert "178 trained; 0.712 kB each way a round and site" in page


@pytest.mark.parametrize(
    ("scope", "more"),
    [
        ("lora-core", ("server.strategy=fedprox", "wire=bf16", "keys.policy=per-site", "stem.init=secret")),
        ("bias", ("server.strategy=fedmedian", "sites=3", "kind=delta", "keys.policy=shared")),
        ("lora-core", ("server.strategy=fedadam", "keys.policy=none")),
    ],
)
def test_every_strategy_wire_and_stem_takes_it(tiny: Tiny, tmp_path: Path, scope: str, more: tuple[str, ...]) -> None:
    experiment = tiny("rounds=2", f"train.scope={scope}", f"train.rank={RANK}", "stem.warmup=0", *more)
    tensors, answers = ran(experiment, tmp_path / "run")
    assert all(np.isfinite(each).all() for each in tensors.values())
    moved = [name for name, each in tensors.items() if name.endswith(".core") and np.abs(each).max() > 0]
    assert len(moved) == (8 if scope == "lora-core" else 0)
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)


def test_cores_that_begin_at_zero_may_learn(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("rounds=1", "train.scope=lora-core", f"train.rank={RANK}", "train.lr=0.05", "train.epochs=4")
    assert not run_experiment(tiny(*settings), out, progress=False).partial, "no update is left out as too large"
    plan = make_plan(tiny(*settings), tmp_path)
    assert initial_model(plan.run).least_norm > 5
    plan.run.train["scope"] = "full"
    assert initial_model(plan.run).least_norm == 0


def test_a_light_run_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    out, settings = tmp_path / "run", ("train.scope=lora-core", f"train.rank={RANK}", "train.state=kept")
    run_experiment(tiny("rounds=1", *settings), out, progress=False)
    resume_experiment(out, rounds=2, progress=False)
    uuid = json.loads((out / "manifest.json").read_text())["run"]
    first, second = (checkpoints.load_round(out / "checkpoints", round_, run=uuid) for round_ in (1, 2))
    assert set(first.tensors) == set(second.tensors)
    assert all(not np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("train.scope=lora",), r"'scope' is LoRA, .*; lora-core"),
        (("train.scope=biases",), "'scope' is not known; one of full, head, bias, bias-norm, lora-core"),
        (("train.scope=lora-core", "train.rank=25"), "'rank' is not 1 to 24"),
        (("train.scope=lora-core", "train.rank=0"), "'rank' is out of its range; 1 to 256"),
        (("train.scope=bias", "train.optimizer=muon"), "'scope' trains no block's matrices; adamw, or .* lora-core"),
        (("train.scope=bias", "model.name=aimv2_large_patch14_224"), "the trunk of this model has no such parameters"),
        (("train.scope=last-3-blocks",), "the model has 2 blocks"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_started(
    tiny: Tiny, tmp_path: Path, overrides: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_model(make_plan(tiny(*overrides), tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_arms_are_run_under_each_scope_and_baselines_once() -> None:
    config = CompareConfig(arms=["plain", "svm", "fedper", "per-site-adapted"], scopes=["full", "bias"])
    arms = {arm.name: arm for arm in chosen_arms(config)}
    assert list(arms) == [
        f"{arm}-{scope}" for arm in ("plain", "fedper", "per-site-adapted") for scope in config.scopes
    ] + ["svm"]
    assert arms["per-site-adapted-bias"].twin == "fedper-bias"
    assert arms["plain-bias"].text == "plain FedAvg, nothing hidden; trains bias"
    made = as_experiment(ExperimentConfig(), arms["plain-bias"], 3)
    assert (made.train.scope, made.seed, made.name) == ("bias", 3, "experiment plain-bias")
    with pytest.raises(ConfigError, match="names a scope twice"):
        chosen_arms(CompareConfig(scopes=["bias", "bias"]))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> Path:
    """Two scopes of one arm beside a baseline."""
    out = tmp_path_factory.mktemp("compared") / "out"
    assert of_scopes(out, tiny_settings, "[full, lora-core]") == ""
    return out


def of_scopes(out: Path, tiny_settings: list[str], scopes: str) -> str:
    """Compare in this process; returns what the command said, where it said an error."""
    empty, said = out.with_name("empty.yaml"), io.StringIO()
    empty.write_text("")
    settings = [*tiny_settings, "rounds=1", "train.rank=4", "compare.arms=[plain, nearest-neighbour]"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("simulations.side_by_side.run_tied", at_once.run_tied)
        with contextlib.redirect_stderr(said):
            code = main(["compare", str(empty), *settings, f"compare.scopes={scopes}", "--out", str(out)])
    return said.getvalue() if code else ""


def test_a_comparison_shows_accuracy_against_bytes(compared: Path) -> None:
    document = json.loads((compared / "compare.json").read_text())
    arms: dict[str, dict[str, Any]] = {each["name"]: each for each in document["arms"]}
    assert list(arms) == ["plain-full", "plain-lora-core", "nearest-neighbour"]
    light, full = arms["plain-lora-core"], arms["plain-full"]
    sent = {name: each["bytes_a_round_and_site"]["up"] for name, each in arms.items()}
    assert 4 * (8 * 16 + 50) <= sent["plain-lora-core"] < sent["plain-full"] / 4
    assert sent["plain-full"] == pytest.approx(full["bytes_up"] / 2, rel=1e-6)
    assert light["beside_full"]["name"] == "plain-full"
    means = [each["scores"]["accuracy"]["mean"] for each in (light, full)]
    assert light["beside_full"]["equivalence"]["difference"] == pytest.approx(means[0] - means[1], abs=0.05)
    assert full["beside_full"] is arms["nearest-neighbour"]["beside_full"] is None
    assert sent["nearest-neighbour"] is None
    head, _, *rows = (compared / "compare.md").read_text().splitlines()[:5]
    assert "a site sends a round" in head and "above training all of it" in head
    assert "(plain-full)" in rows[1] and all(row.count("|") == head.count("|") for row in rows)
    assert "bytes_up_a_round" in (compared / "compare.csv").read_text().splitlines()[0]
    page = (compared / "compare.html").read_text()
    assert "Beside training all of it" in page and "train.scope: lora-core" in page


def test_a_scope_that_cannot_be_is_refused_before_any_arm_runs(tmp_path: Path, tiny_settings: list[str]) -> None:
    said = of_scopes(tmp_path / "out", tiny_settings, "[full, lora]")
    assert "'scope' is LoRA" in said and "begins" not in said
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_dir()]


def test_weights_that_are_not_whole_are_refused_before_any_arm_runs(tmp_path: Path, tiny_settings: list[str]) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"{")
    said = of_scopes(tmp_path / "out", [*tiny_settings, f"model.pretrained={tmp_path / 'cut.safetensors'}"], "[]")
    assert said.startswith(f"error: {tmp_path / 'cut.safetensors'}: ") and said.count("\n") == 1
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_dir()]


def test_settings_from_before_scopes_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("name: old\ncompare: {arms: [plain], seeds: [0]}\ntrain: {scope: head}\n")
    config = load_config(ExperimentConfig, tmp_path / "old.yaml")
    assert (config.compare.scopes, config.train.rank) == ([], 16)
