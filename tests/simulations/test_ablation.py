"""An ablation at toy size: every switch is one, its runs are kept, and differences are paired by seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medveil.config import load_config, setting_names, to_mapping
from medveil.errors import BasisError, ConfigError
from simulations import run as runs
from simulations import statistics
from simulations.ablation import AS_IT_IS, SWITCHES, _row, ablate, as_markdown, with_switch
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST


def base(tiny_settings: list[str], *more: str) -> ExperimentConfig:
    settings = [*tiny_settings, "rounds=1", "compare.seeds=[1]", "model.depth=1", *more]
    return load_config(ExperimentConfig, None, settings)


def test_a_switch_changes_what_it_says_and_nothing_else(tiny_settings: list[str]) -> None:
    plain = base(tiny_settings)
    for name, sections in SWITCHES.items():
        found, before = to_mapping(with_switch(plain, name)), to_mapping(plain)
        for section, values in sections.items():
            before[section] |= values
        assert found == before
        assert found != to_mapping(plain)
        named = {f"{section}.{key}" for section, values in sections.items() for key in values}
        assert named <= set(setting_names(ExperimentConfig))


def test_an_ablation_keeps_runs_and_reads_validation_alone(
    tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    config, out = base(tiny_settings), tmp_path / "ablation"
    made = ablate(config, out, switches=[])
    assert [row["switch"] for row in made.rows] == [AS_IT_IS]
    document = json.loads((out / "ablation.json").read_text())
    assert document["rows"] == made.rows
    assert "| as it is | 1 |" in made.text.read_text()
    lines = [json.loads(line) for line in (out / "as-it-is" / "seed-1" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if (line["site"], line["phase"]) == ("all", "validation")][-1]
    assert made.rows[0]["accuracy"] == last["accuracy"]
    monkeypatch.setattr(runs, "run_experiment", lambda *_, **__: pytest.fail("a run was made again"))
    assert ablate(config, out, switches=[]).rows == made.rows


def test_what_ran_under_other_settings_or_over_other_images_is_not_taken_for_these(
    tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    with np.load(tiny_settings[-1].removeprefix("data.path=")) as found:
        images, labels = found["images"], found["labels"].copy()
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    own, out = [*tiny_settings, f"data.path={tmp_path / 'own.npz'}"], tmp_path / "ablation"
    first = ablate(base(own), out, switches=[]).rows
    # One that is cut off leaves no word that the run of before was of its settings.
    with monkeypatch.context() as patch:
        patch.setattr(runs, "run_experiment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ablate(base(own, "train.lr=0.005"), out, switches=[])
    assert ablate(base(own, "train.lr=0.005"), out, switches=[]).rows != first
    labels[:4] = 1 - labels[:4]
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    with pytest.raises(BasisError, match="labels"):
        ablate(base(own, "train.lr=0.005"), out, switches=[])


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_without_validation_images_it_is_said_in_one_line(
    tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    with pytest.raises(ConfigError, match="measured nothing on validation images"):
        ablate(base(tiny_settings, "data.validation=0"), tmp_path / "a", switches=[])


def test_a_row_is_the_mean_paired_difference_and_its_interval() -> None:
    ran = [{"seed": s, "accuracy": 0.8 + 0.01 * s, "auroc": None, "seconds": 2.0} for s in (0, 1, 2)]
    base_ = {s: {"seed": s, "accuracy": 0.7, "auroc": None} for s in (0, 1, 2)}
    row = _row("ema", ran, base_)
    assert row["accuracy_gained"] == pytest.approx(0.11)
    # t(0.975, 2) = 4.3027, deviation 0.01, over the root of 3.
    assert row["accuracy_interval"] == pytest.approx([0.11 - 0.02484, 0.11 + 0.02484], abs=1e-4)
    assert (row["auroc"], row["auroc_gained"], row["auroc_interval"]) == (None, None, None)
    assert "| ema | 3 | 0.810 | +0.110 [+0.085, +0.135] | - | - | 2 |" in as_markdown([row])


def test_what_cannot_be_is_one_line_before_anything_is_run(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="names no switch or no seed, or one seed twice; switches: muon"):
        ablate(base(tiny_settings), tmp_path / "a", switches=["dropout"])
    with pytest.raises(ConfigError, match="one seed twice"):
        ablate(base(tiny_settings, "compare.seeds=[1, 1]"), tmp_path / "a", switches=["ema"])
    with pytest.raises(ConfigError, match="federation svm: is a baseline"):
        ablate(base(tiny_settings, "federation=svm", "keys.policy=none"), tmp_path / "a", switches=["ema"])
    assert not (tmp_path / "a").exists()
    for settings, switch in ((["train.scope=head"], "muon"), (["data.augment=light", "data.views=2"], "light")):
        with pytest.raises(ConfigError, match=f"with switch '{switch}'"):
            ablate(base(tiny_settings, *settings), tmp_path / "a", switches=["ema", switch])
        assert not list((tmp_path / "a").rglob(MANIFEST)), "a run was begun"
    assert main(["ablate", "--list"]) == 0
    assert "patch dropout  train.patch_dropout=0.5" in capsys.readouterr().out


def test_what_is_wrong_with_the_experiment_itself_is_no_switchs_doing(tiny_settings: list[str], tmp_path: Path) -> None:
    config = base(tiny_settings)
    config.train.minutes, config.train.epochs = 1.0, 3
    with pytest.raises(ConfigError) as refused:
        ablate(config, tmp_path / "ablation", switches=["muon"])
    assert "as it is" not in str(refused.value)
    assert "switch" not in str(refused.value)
    assert "'minutes' and 'epochs' are both set" in str(refused.value)
