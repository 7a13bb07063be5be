"""An ablation at toy size: every switch is one, its runs are kept, and differences are paired by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import at_once
import numpy as np
import pytest
import torch

from medveil.config import load_config, to_mapping
from medveil.config_keys import setting_names
from medveil.errors import BasisError, ConfigError
from simulations import side_by_side, statistics
from simulations.ablation import AS_IT_IS, ablate, as_markdown
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST
from simulations.paired import row_of, rows_of
from simulations.switches import NAMED, SWITCHES, all_names, switched, with_recipe


@pytest.fixture(autouse=True)
def at_once_and_without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process; the intervals and pages of so small a run take longer than itself."""
    torch.set_num_threads(1)
    monkeypatch.setattr(side_by_side, "run_tied", at_once.run_tied)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    monkeypatch.setattr("simulations.cli.report_of", lambda run: run)


def base(tiny_settings: list[str], *more: str) -> ExperimentConfig:
    settings = [*tiny_settings, "rounds=1", "compare.seeds=[1]", "model.depth=1", *more]
    return load_config(ExperimentConfig, None, settings)


def test_a_switch_changes_what_it_says_and_nothing_else(tiny_settings: list[str]) -> None:
    # Values that no switch has, so that each changes something.
    plain = base(tiny_settings, "rounds=2", "train.lr_warmup=0", "train.weight_decay=0.01", "train.clip=2")
    for name, sections in SWITCHES.items():
        found, before = to_mapping(switched(plain, name)), to_mapping(plain)
        for section, values in sections.items():
            before[section] |= values
        assert found == before
        assert found != to_mapping(plain)
        named = {f"{section}.{key}" for section, values in sections.items() for key in values}
        assert named <= set(setting_names(ExperimentConfig))


@pytest.mark.parametrize("recipe", NAMED)
def test_a_recipe_without_a_switch_lacks_what_the_switch_sets_and_nothing_else(
    tiny_settings: list[str], tmp_path: Path, recipe: str
) -> None:
    pretrained = [] if recipe == "small-data" else [f"model.pretrained={tmp_path}"]
    plain = base(tiny_settings, "train.lr_warmup=0", "train.weight_decay=0.01", "train.clip=2", *pretrained)
    whole, own = to_mapping(switched(plain, recipe)), to_mapping(plain)
    taken = set()
    for name in all_names(recipe):
        switch = name.removeprefix(f"{recipe} without ")
        left_out = {(section, key) for section, values in SWITCHES[switch].items() for key in values}
        taken |= left_out
        expected = {section: dict(values) if isinstance(values, dict) else values for section, values in whole.items()}
        for section, key in left_out:
            expected[section][key] = own[section][key]
        if expected == whole:
            with pytest.raises(ConfigError, match="changes nothing"):
                switched(plain, name)
        else:
            assert to_mapping(switched(plain, name)) == expected
    # What a recipe sets, some arm leaves out.
    assert taken == {(section, key) for section, values in NAMED[recipe].items() for key in values}
    assert f"{recipe} without medium" not in all_names(recipe)
    more = to_mapping(switched(plain, f"{recipe} with medium"))
    assert more == {**whole, "train": {**whole["train"], "augment": "medium"}}


def test_a_recipe_gives_way_to_another_also_where_the_experiment_names_it(
    tiny_settings: list[str], tmp_path: Path
) -> None:
    own = base(tiny_settings, "train.recipe=small-data", "train.lr=0.5", "model.init=mimetic")
    without = {"muon": "adamw", "ema": 0.0, "light": "none", "mimetic": "default", "rate": 0.5}
    for switch, value in without.items():
        [section, key] = next((section, key) for section, keys in SWITCHES[switch].items() for key in keys)
        assert to_mapping(switched(own, f"small-data without {switch}"))[section][key] == value
    tuned = base(tiny_settings, "train.recipe=small-data")
    tuned.model.pretrained = str(tmp_path)
    asked = base(tiny_settings, "train.recipe=fine-tune", f"model.pretrained={tmp_path}")
    assert switched(tuned, "fine-tune") == asked
    assert with_recipe(own, "none").train == base(tiny_settings, "train.lr=0.5").train


def test_an_ablation_keeps_runs_and_reads_validation_alone(
    tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = base(tiny_settings), tmp_path / "ablation"
    made = ablate(config, out, switches=["ema"], command="typed", jobs=2)
    assert [row["switch"] for row in made.rows] == [AS_IT_IS, "ema"]
    document = json.loads((out / "ablation.json").read_text())
    assert document["rows"] == made.rows
    assert (document["command"], document["name"]) == ("typed", config.name)
    assert "| as it is | 1 |" in made.text.read_text()
    assert made.rows[0]["accuracy_gained"] is None
    assert made.rows[1]["auroc_gained"] == made.rows[1]["auroc"] - made.rows[0]["auroc"]
    assert made.rows[0]["cpu_seconds"] > 0
    lines = [json.loads(line) for line in (out / "as-it-is" / "seed-1" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if (line["site"], line["phase"]) == ("all", "validation")][-1]
    assert made.rows[0]["accuracy"] == last["accuracy"]
    monkeypatch.setattr(side_by_side, "run_tied", lambda *_, **__: pytest.fail("a run was made again"))
    assert ablate(config, out, switches=["ema"]).rows == made.rows


def test_what_ran_under_other_settings_or_over_other_images_is_not_taken_for_these(
    tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(tiny_settings[-1].removeprefix("data.path=")) as found:
        images, labels = found["images"], found["labels"].copy()
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    own, out = [*tiny_settings, f"data.path={tmp_path / 'own.npz'}"], tmp_path / "ablation"
    first = ablate(base(own), out, switches=[]).rows
    # One that is cut off leaves no word that the run of before was of its settings.
    with monkeypatch.context() as patch:
        patch.setattr(side_by_side, "run_tied", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ablate(base(own, "train.lr=0.005"), out, switches=[])
    assert ablate(base(own, "train.lr=0.005"), out, switches=[]).rows != first
    labels[:4] = 1 - labels[:4]
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    with pytest.raises(BasisError, match="labels"):
        ablate(base(own, "train.lr=0.005"), out, switches=[])


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_without_validation_images_it_is_said_in_one_line(tiny_settings: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="measured nothing on validation images"):
        ablate(base(tiny_settings, "data.validation=0"), tmp_path / "a", switches=[])


def test_a_row_is_the_mean_paired_difference_and_its_interval() -> None:
    ran: list[dict[str, Any]] = [
        {"seed": s, "accuracy": 0.8 + 0.01 * s, "auroc": None, "seconds": 2.0, "cpu_seconds": 1.0} for s in (0, 1, 2)
    ]
    base_ = {s: {"seed": s, "accuracy": 0.7, "auroc": None} for s in (0, 1, 2)}
    row = row_of("ema", ran, base_)
    assert row["accuracy_gained"] == pytest.approx(0.11)
    # t(0.975, 2) = 4.3027, deviation 0.01, over the root of 3.
    assert row["accuracy_interval"] == pytest.approx([0.11 - 0.02484, 0.11 + 0.02484], abs=1e-4)
    assert (row["auroc"], row["auroc_gained"], row["auroc_interval"]) == (None, None, None)
    assert "| ema | 3 | 0.810 | +0.110 [+0.085, +0.135] | - | - | 2 | 1 |" in as_markdown([row])
    # Seeds that the first arm has not yet come to are not compared.
    some = rows_of({"as it is": [{**base_[0], "seconds": 1.0, "cpu_seconds": None}], "ema": ran})
    assert some[1]["accuracy_gained"] == pytest.approx(0.1)
    assert some[1]["accuracy_interval"] is None


def test_what_cannot_be_is_one_line_before_anything_is_run(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dropout", "small-data without dropout", "small-data without", "fine-tune within ema"):
        with pytest.raises(ConfigError, match=r"names no switch .*muon"):
            ablate(base(tiny_settings), tmp_path / "a", switches=[name])
    with pytest.raises(ConfigError, match="one seed twice"):
        ablate(base(tiny_settings, "compare.seeds=[1, 1]"), tmp_path / "a", switches=["ema"])
    with pytest.raises(ConfigError, match="federation svm: is a baseline"):
        ablate(base(tiny_settings, "federation=svm", "keys.policy=none"), tmp_path / "a", switches=["ema"])
    with pytest.raises(ConfigError, match="--from: is no recipe 'large-data'"):
        ablate(base(tiny_settings), tmp_path / "a", recipe="large-data")
    cases = [
        (["train.scope=head"], "muon", "with switch 'muon'"),
        (["data.augment=light", "data.views=2"], "light", "with switch 'light'"),
        ([], "fine-tune", "no weights to tune"),
        ([], "kept moments", "there is one round"),
        ([], "clipping", "changes nothing: train.clip=1.0 holds without it"),
    ]
    for settings, switch, why in cases:
        with pytest.raises(ConfigError, match=why):
            ablate(base(tiny_settings, *settings), tmp_path / "a", switches=["ema", switch])
    # What is wrong with the experiment itself is of no switch.
    with pytest.raises(ConfigError) as refused:
        ablate(base(tiny_settings, "train.lr=-1"), tmp_path / "a", switches=["ema"])
    assert "switch" not in str(refused.value)
    assert "'lr' is out of its range" in str(refused.value)
    assert not list((tmp_path / "a").rglob(MANIFEST)), "a run was begun"
    assert main(["ablate", "--list"]) == 0
    said = capsys.readouterr().out
    assert "patch dropout    train.patch_dropout=0.5" in said
    assert "logit adjustment train.logit_adjustment=1.0" in said
    assert "RECIPE without SWITCH" in said


def test_what_cannot_be_is_left_out_of_all_and_said(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []

    def note(jobs: list[side_by_side.Job], *_: object, **__: object) -> dict[str, str]:
        planned.extend(job.name for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.paired.run_all", note)
    with pytest.raises(KeyboardInterrupt):
        ablate(base(tiny_settings), tmp_path / "a")
    said = capsys.readouterr().err
    for name in ("fine-tune", "kept moments", "clipping"):
        assert f"'{name}' is left out: " in said
        assert f"'{name}' is left out: '" not in said
        assert f"{name} seed 1" not in planned
    assert {f"{name} seed 1" for name in (AS_IT_IS, "muon", "small-data", "second moment", "ten views")} <= set(planned)
    planned.clear()
    with pytest.raises(KeyboardInterrupt):
        ablate(base(tiny_settings), tmp_path / "b", recipe="small-data", switches=["muon", "small-data with medium"])
    assert planned == [f"small-data{switch} seed 1" for switch in ("", " without muon", " with medium")]


def test_what_is_wrong_with_the_experiment_itself_is_no_switchs_doing(tiny_settings: list[str], tmp_path: Path) -> None:
    config = base(tiny_settings)
    config.train.minutes, config.train.epochs = 1.0, 3
    with pytest.raises(ConfigError) as refused:
        ablate(config, tmp_path / "ablation", switches=["muon"])
    assert "as it is" not in str(refused.value)
    assert "switch" not in str(refused.value)
    assert "'minutes' and 'epochs' are both set" in str(refused.value)
