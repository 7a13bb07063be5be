"""A recipe is what a run means where it says nothing itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_server.deployment.plan import RunFile
from medveil.config import load_config, to_mapping
from medveil.config_keys import setting_names
from medveil.errors import ConfigError
from medveil.recipes import RECIPES, overridden
from medveil.yaml_core import written_yaml
from simulations.config import ExperimentConfig
from simulations.confs import conf_files
from simulations.plan import make_plan
from simulations.report.record import RunRecord
from simulations.report.sentences import course
from simulations.switches import switched

NAMED = [name for name in RECIPES if name != "none"]
WEIGHTS = {
    "small-data": "model.pretrained=false",
    "pre-train": "model.pretrained=false",
    "fine-tune": "model.pretrained=weights.safetensors",
}


def said(recipe: str, *overrides: str, schema: type = ExperimentConfig, path: Path | None = None) -> dict:
    return to_mapping(load_config(schema, path, [f"train.recipe={recipe}", WEIGHTS[recipe], *overrides]))


@pytest.mark.parametrize("schema", [ExperimentConfig, RunFile])
@pytest.mark.parametrize("recipe", NAMED)
def test_a_recipe_says_what_the_run_leaves_unsaid(recipe: str, schema: type) -> None:
    found, bare = said(recipe, schema=schema), to_mapping(load_config(schema))
    names = set(setting_names(schema))
    for section, values in RECIPES[recipe].items():
        assert {f"{section}.{name}" for name in values} <= names
        assert {name: found[section][name] for name in values} == values
        rest = set(found[section]) - set(values) - {"recipe", "pretrained"}
        assert {name: found[section][name] for name in rest} == {name: bare[section][name] for name in rest}


def test_what_a_run_says_wins_also_where_it_says_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("train: {optimizer: adamw, recipe: small-data, lr: 0.5}\nmodel: {init: default}\n")
    found = load_config(ExperimentConfig, file, ["train.ema=0", "train.lr=0.25"])
    assert (found.train.optimizer, found.train.lr, found.train.ema, found.model.init) == ("adamw", 0.25, 0.0, "default")
    assert found.train.patch_dropout == RECIPES["small-data"]["train"]["patch_dropout"]
    # What came of it, written in full as a manifest has it, means the same again.
    again = tmp_path / "again.yaml"
    again.write_text(written_yaml(to_mapping(found), flow=False))
    assert load_config(ExperimentConfig, again) == found


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["train.recipe=big"], "train.recipe: is 'big'; one of none, small-data, pre-train, fine-tune"),
        (["train.recipe=fine-tune"], "train.recipe: is fine-tune, and there are no weights to tune"),
        (["train.recipe=small-data", "model.pretrained=true"], "train.recipe: is small-data, for fresh weights"),
        (["train.cutmix=1"], "unknown key 'train.cutmix'"),
        (["model.shifted_patches=true"], "unknown key 'model.shifted_patches'"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(ExperimentConfig, None, overrides)
    assert "\n" not in str(caught.value)


# What each file had in its own place before it could give way.
BEFORE = {
    "brain-mri": {"data": {"views": 4, "augment": "light"}, "train": {"batch_size": 16, "lr": 1e-3}},
    "histology": {"data": {"views": 4, "augment": "light", "flip": True}, "train": {"batch_size": 32, "lr": 5e-4}},
}


@pytest.mark.parametrize("name", BEFORE)
def test_an_experiment_of_ours_has_a_whole_recipe_by_one_setting(name: str) -> None:
    path = conf_files()[name]
    found = to_mapping(load_config(ExperimentConfig, path))
    for section, values in BEFORE[name].items():
        assert {key: found[section][key] for key in values} == values
    assert found["train"]["label_smoothing"] == 0.05
    adopted = load_config(ExperimentConfig, path, ["train.recipe=small-data"])
    assert overridden("small-data", to_mapping(adopted)) == []
    assert (adopted.data.augment, adopted.data.views) == ("none", 1)
    assert adopted.train.epochs == found["train"]["epochs"]
    # An ablation's arm of that recipe is the same run.
    arm = switched(load_config(ExperimentConfig, path), "small-data")
    adopted.train.recipe, adopted.without_recipe = "none", {}
    assert arm == adopted


def test_what_a_run_has_otherwise_is_said_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = ["data.source=phantoms", "data.phantoms.images=24", "data.phantoms.sites=1", "sites=1", "cipher.block=16"]
    asked = ["train.recipe=small-data", "train.lr=0.5", "train.ema=0", "server.q=0.5"]
    config = load_config(ExperimentConfig, None, [*given, *asked])
    with caplog.at_level("WARNING"):
        plan = make_plan(config, tmp_path / "run")
    (line,) = [each.getMessage() for each in caplog.records if "recipe" in each.getMessage()]
    told = "train.lr 0.5 instead of 0.003, train.ema 0.0 instead of 0.99"
    assert line == f"train.recipe small-data, but for {told}"
    assert "without effect under fedavg: server.q 0.5" in caplog.messages
    run_config = {"train": plan.run.train, "model": plan.run.model}
    record = RunRecord(tmp_path, {"run_config": run_config})
    assert ("recipe", f"small-data, but for {told}") in course(record)


@pytest.mark.parametrize(
    "sections", ["{keys: {policy: none}}", "{train: 3}", "{train: {recipe: small-data}}", "{train: {cutmix: 1}}"]
)
def test_what_no_recipe_could_take_the_place_of_is_refused(tmp_path: Path, sections: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"without_recipe: {sections}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(ExperimentConfig, file)
    assert "\n" not in str(caught.value)
