from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from medveil.config import from_mapping
from medveil.contract import RunConfig, measure_key
from medveil.errors import ConfigError, FormatError
from medveil.paths import run_folder, run_uuid
from medveil.training import TrainConfig


def run(**changes: Any) -> RunConfig:
    return RunConfig(run="u", classes=["a", "b"], model={"name": "vit", "width": 3}, **changes)


def test_a_run_survives_json() -> None:
    made = run(name="Zürich", rounds=7, wire="bf16", kind="delta", keys="per-site", evaluate_first=False)
    again = RunConfig.from_json(made.to_json())
    assert again == made
    document = json.loads(made.to_json())
    assert (document["format"], document["version"]) == ("medveil-run", 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "multi-label"}, "'task' is not supported; supported: single-label"),
        ({"image_ndim": 3}, "'image_ndim' is not supported; supported: 2"),
        ({"wire": "fp8"}, "'wire' is not supported.*fp32, bf16"),
        ({"kind": "gradients"}, "'kind' is not supported.*weights, delta"),
        ({"rounds": 0}, "'rounds' is below 1; at least 1"),
        ({"least_sites": 0}, "'least_sites' is below 1; at least 1"),
        ({"run": "../../etc"}, "'run' is no identity of a run; up to 64 letters, digits and dashes"),
        ({"name": "../up"}, "'name' is no name"),
        ({"name": "a\nb"}, "'name' is no name"),
        ({"classes": ["a", "b\x1b[2J"]}, "'classes' has .*printable"),
        ({"proximal_mu": -0.1}, "'server.proximal_mu' is out of its range; 0 or more, finite"),
        ({"stem_warmup": -1}, "'stem.warmup' is below 0"),
        ({"classes": ["a"]}, "'classes' is no list of classes; 2 to 4096 different names"),
        ({"classes": ["a", "a"]}, "'classes' is no list of classes; 2 to 4096 different names"),
        ({"rounds": "many"}, "'rounds' has a value of the wrong type: it is text; expected int"),
        ({"round": 3}, "unknown key 'round'; did you mean 'rounds'"),
    ],
)
def test_what_this_version_does_not_do_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    document = json.loads(run().to_json()) | change
    with pytest.raises(ConfigError, match=says):
        RunConfig.from_json(json.dumps(document), where="run config")


def test_another_format_or_a_newer_version_is_refused() -> None:
    document = json.loads(run().to_json())
    with pytest.raises(FormatError, match="version 4; this MedVeil reads up to 3; upgrade"):
        RunConfig.from_json(json.dumps(document | {"version": 4}))
    with pytest.raises(FormatError, match="is not a medveil-run file"):
        RunConfig.from_json(json.dumps(document | {"format": "other"}))
    with pytest.raises(ConfigError, match="is not JSON"):
        RunConfig.from_json("{")
    for foreign in ("[]", "3", "null"):
        with pytest.raises(FormatError):
            RunConfig.from_json(foreign)


def test_a_run_of_version_1_promised_its_sites_nothing() -> None:
    document = json.loads(run().to_json()) | {"version": 1}
    del document["least_sites"]
    assert RunConfig.from_json(json.dumps(document)).least_sites == 1


def test_a_run_of_version_2_has_nothing_of_what_fits_small_data() -> None:
    document = json.loads(run().to_json()) | {"version": 2}
    del document["predict"]
    document["train"] = {"optimizer": "sgd", "epochs": 3}
    found = RunConfig.from_json(json.dumps(document))
    assert found.predict == {}
    train = from_mapping(TrainConfig, found.train, where="train")
    off = (train.ema, train.patch_dropout, train.minutes, train.augment, train.state, train.layer_decay, train.recipe)
    assert off == (0.0, 0.0, 0.0, "none", "fresh", 1.0, "none")


def test_keys_of_measures_and_folders_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_key("validation", "auroc") == "validation-auroc"
    monkeypatch.setenv("MEDVEIL_HOME", "/state")
    assert str(run_folder("", name="demo", run="0123456789")) == "/state/runs/demo-01234567"
    assert str(run_folder("/out", name="demo", run="0123")) == "/out"
    assert run_uuid("named", 5) == "named"
    assert run_uuid("", -1) == "flwr-ffffffffffffffff"
    assert run_uuid("", 5) == run_uuid("", 5) != run_uuid("", 6)


def test_every_field_has_a_default() -> None:
    assert all(
        each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
        for each in dataclasses.fields(RunConfig)
    )
