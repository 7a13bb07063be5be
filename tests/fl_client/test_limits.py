"""What a server may ask of a site: the contract field by field, and the site's own limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fl_client.deployment.config import LimitsConfig
from fl_client.deployment.limits import check_bytes, check_images, check_round, checked_run
from medveil.config import to_mapping
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY, RunConfig
from medveil.errors import MedVeilError
from medveil.training import TrainConfig
from models.config import ModelConfig

MODEL = ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=24, depth=2, heads=2)


def run(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab",
        "rounds": 3,
        "classes": ["none", "mass"],
        "image_size": 32,
        "model": to_mapping(MODEL),
        "train": to_mapping(TrainConfig()),
        "cipher": {"scheme": "block-pixel", "block": 8, "negate": True},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "local",
        "least_sites": 2,
    }
    return RunConfig(**{**values, **changes})


def asked(config: RunConfig, limits: LimitsConfig | None = None, weights: Path = Path("/none")) -> RunConfig:
    return checked_run({RUN_KEY: config.to_json()}, limits or LimitsConfig(), weights)


def refused(config: RunConfig, limits: LimitsConfig | None = None, weights: Path = Path("/none")) -> str:
    with pytest.raises(MedVeilError) as error:
        asked(config, limits, weights)
    return str(error.value)


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {section: {**getattr(run(), section), **values}}


def test_a_run_within_the_contract_and_the_limits_is_taken() -> None:
    assert asked(run()) == run()


def test_whatever_else_a_server_sends_is_not_looked_at() -> None:
    sent = {RUN_KEY: run().to_json(), SERVER_KEY: "{", SITES_KEY: '{"data": {"path": "/etc"}}', "x": 1}
    assert checked_run(sent, LimitsConfig(), Path("/none")) == run()


@pytest.mark.parametrize("text", [None, 7, "", "{", "[]", "x" * (2**20 + 1)])
def test_what_is_no_run_is_refused(text: object) -> None:
    with pytest.raises(MedVeilError):
        checked_run({RUN_KEY: text}, LimitsConfig(), Path("/none"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"run": ""}, "'run' is empty"),
        ({"run": "../../home"}, "'run' is '../../home'"),
        ({"name": "../x"}, "'name' is '../x'"),
        ({"task": "multi-label"}, "'task' is 'multi-label'"),
        ({"channels": 7}, "'channels' is 7"),
        ({"image_size": 4096}, "'image_size' is 4096; at most 2048"),
        ({"stem_warmup": 10**9, "stem_train": "local"}, "'stem_warmup' is 1000000000"),
        (changed("model", width=10**6), "'model.width' is 1000000; at most 4096"),
        (changed("model", depth=-1), "'model.depth' is -1"),
        (changed("model", heads=0), "'model.heads' is 0"),
        (changed("model", image_size=64), "'model.image_size' is 64, and the rest of the run makes it 32"),
        (changed("model", patch=16), "'model.patch' is 16"),
        (changed("model", classes=3), "'model.classes' is 3"),
        (changed("model", name="hf-hub:someone/else"), "'model.name' is 'hf-hub:someone/else'"),
        (changed("model", name="local-dir:/etc"), "'model.name' is 'local-dir:/etc'"),
        (changed("model", dropout=0.5), "unknown key 'dropout'"),
        (changed("model", pretrained="true"), "no weights of the name 'true'"),
        (changed("model", pretrained="/etc/passwd"), "'model.pretrained' is '/etc/passwd'"),
        (changed("model", pretrained="../stems/x.pth"), "'model.pretrained' is '../stems/x.pth'"),
        (changed("model", pretrained="~/x.pth"), "'model.pretrained' is '~/x.pth'"),
        (changed("train", epochs=10**6), "'train.epochs' is 1000000; at most 1000"),
        (changed("train", batch_size=10**9), "'train.batch_size' is 1000000000"),
        (changed("train", lr=-1.0), "'lr' is -1.0"),
        (changed("train", optimiser="sgd"), "unknown key 'optimiser'"),
        (changed("cipher", block=0), "'cipher.block' is 0"),
        (changed("cipher", key="00"), "unknown key 'key'"),
    ],
)
def test_what_is_not_in_the_contract_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    assert says in refused(run(**changes))


@pytest.mark.parametrize(
    ("limits", "changes", "says"),
    [
        ({"policies": ["shared"]}, {}, "limits.policies: this site does not accept 'per-site + adapted + local'"),
        ({}, {"keys": "none", "stem_init": "public"}, "this site does not accept 'none + public + local'"),
        (
            {"policies": ["none", "shared"]},
            {"keys": "shared", "stem_init": "public", "stem_train": "averaged"},
            "limits.send_stem: this site sends no stem",
        ),
        ({"most_rounds": 2}, {}, "limits.most_rounds: this site agrees to at most 2 rounds, and the run has 3"),
        ({"least_sites": 3}, {}, "limits.least_sites: this site wants 3 sites aggregated, and the run promises 2"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_with_the_limit(
    limits: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    assert says in refused(run(**changes), LimitsConfig(**limits))


def test_limits_meet_at_their_edges() -> None:
    edge = LimitsConfig(most_rounds=3, least_sites=2, policies=["per-site + adapted + local"])
    assert asked(run(), edge) == run()
    opened = LimitsConfig(policies=["shared"], send_stem=True)
    averaged = run(keys="shared", stem_init="public", stem_train="averaged")
    assert asked(averaged, opened) == averaged
    check_images(32, LimitsConfig(least_images=32))
    check_bytes(1_500_000, LimitsConfig(most_megabytes=1.5))
    for judge in (
        lambda: check_images(31, LimitsConfig(least_images=32)),
        lambda: check_bytes(1_500_001, LimitsConfig(most_megabytes=1.5)),
    ):
        with pytest.raises(MedVeilError, match=r"limit"):
            judge()


def test_too_few_images_are_not_counted_to_the_server() -> None:
    with pytest.raises(MedVeilError) as error:
        check_images(7, LimitsConfig(least_images=32))
    assert "7" not in str(error.value)


def test_rounds_are_the_runs_and_repeated_ones_count() -> None:
    limits = LimitsConfig(most_rounds=5)
    check_round(3, run(), done=4, limits=limits)
    for round_, done, says in ((4, 0, "round 4 of 3"), (-1, 0, "round -1 of 3"), (1, 5, "answered 5 times")):
        with pytest.raises(MedVeilError, match=says):
            check_round(round_, run(), done=done, limits=limits)


def test_weights_are_the_sites_own_file_of_that_name(tmp_path: Path) -> None:
    named = run(**changed("model", pretrained="vit.safetensors"))
    assert "no weights of the name 'vit.safetensors'" in refused(named, weights=tmp_path)
    (tmp_path / "vit.safetensors").write_bytes(b"")
    assert asked(named, weights=tmp_path).model["pretrained"] == str(tmp_path / "vit.safetensors")


def test_every_word_of_a_refusal_comes_from_the_run_or_the_limits(tmp_path: Path) -> None:
    # The refusal is sent: nothing of the site may be in it.
    for config in (run(**changed("model", pretrained="x.pth")), run(rounds=10**6), run(image_size=4096)):
        assert str(tmp_path) not in refused(config, weights=tmp_path)


def test_unknown_fields_are_refused_as_the_contract_does() -> None:
    document = json.loads(run().to_json()) | {"sites": 3}
    with pytest.raises(MedVeilError, match="unknown key 'sites'"):
        checked_run({RUN_KEY: json.dumps(document)}, LimitsConfig(), Path("/none"))
