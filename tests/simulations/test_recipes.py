"""A recipe is what a run means where it says nothing itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_server.deployment.plan import RunFile
from medveil.config import load_config, setting_names, to_mapping
from medveil.errors import ConfigError
from medveil.recipes import RECIPES
from medveil.yaml_core import written_yaml
from simulations.config import ExperimentConfig

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
