"""From an experiment to what server and sites are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_client.config import SimulatedSites
from fl_server.config import ServerSettings
from medveil.config import from_mapping
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY, RunConfig
from medveil.errors import ConfigError, DataError
from simulations.config import ExperimentConfig
from simulations.examples import write_examples
from simulations.plan import make_plan
from simulations.run import MANIFEST, read_manifest

Tiny = Callable[..., ExperimentConfig]


def test_what_the_data_decide_is_filled_in_and_the_experiment_is_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    config, before = tiny(), tiny()
    plan = make_plan(config, tmp_path / "run")
    assert config == before
    run = plan.run
    assert (run.classes, run.channels, run.image_size) == (["0", "1"], 1, 16)
    assert {name: run.model[name] for name in ("image_size", "patch", "channels", "classes")} == {
        "image_size": 16,
        "patch": 4,
        "channels": 1,
        "classes": 2,
    }
    assert (run.keys, run.stem_init, run.stem_train) == ("per-site", "adapted", "local")
    assert len(run.run) == 36
    assert make_plan(config, tmp_path / "run").run.run != run.run
    assert make_plan(config, tmp_path / "run", run="mine").run.run == "mine"


def test_images_that_are_no_multiple_of_the_block_get_a_larger_model(tiny: Tiny, tmp_path: Path) -> None:
    plan = make_plan(tiny("cipher.block=5"), tmp_path)
    assert (plan.run.image_size, plan.run.model["image_size"], plan.run.model["patch"]) == (16, 20, 5)
    with pytest.raises(ConfigError, match=r"'data\.image_size' is 16, not a multiple of 'cipher\.block' 5"):
        make_plan(tiny("cipher.block=5", "keys.policy=none"), tmp_path)


@pytest.mark.parametrize(("scheme", "pads"), [("per-block", True), ("orthogonal", True), ("pixel-wise", False)])
def test_whether_a_scheme_pads_is_its_own_word(tiny: Tiny, tmp_path: Path, scheme: str, pads: bool) -> None:
    config = tiny("cipher.block=5", f"cipher.scheme={scheme}", "keys.policy=shared")
    if pads:
        assert make_plan(config, tmp_path).run.model["image_size"] == 20
        return
    with pytest.raises(ConfigError, match=f"scheme {scheme} pads nothing: choose 15"):
        make_plan(config, tmp_path)


@pytest.mark.parametrize(("scheme", "stays"), [("per-block", True), ("etc", False), ("orthogonal", False)])
def test_a_setting_the_scheme_does_not_have_is_ignored_aloud(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, stays: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr("simulations.resolved._log.warning", lambda *words: said.append(words[0] % words[1:]))
    settings = (f"cipher.scheme={scheme}", "keys.policy=shared", "cipher.negate=true")
    assert make_plan(tiny(*settings), tmp_path).run.cipher["negate"] is stays
    of_it = [each for each in said if not each.startswith("policy ")]
    assert of_it == ([] if stays else [f"cipher.negate changes nothing under scheme {scheme}"])


def test_blocks_a_scheme_does_not_take_are_refused_before_any_image_is_read(tiny: Tiny, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", images=np.zeros((40, 48, 48), np.uint8), labels=np.arange(40) % 2)
    settings = (f"data.path={tmp_path / 'large.npz'}", "cipher.scheme=orthogonal", "cipher.block=48")
    with pytest.raises(ConfigError, match="blocks of 2304 values for orthogonal; at most 2048: a block of 45"):
        make_plan(tiny(*settings), tmp_path / "run")


def test_an_unknown_scheme_is_refused_whoever_holds_keys(tiny: Tiny, tmp_path: Path) -> None:
    for keys in ("none", "shared"):
        with pytest.raises(ConfigError, match=r"cipher\.scheme: 'block-pixels' is no cipher"):
            make_plan(tiny("cipher.scheme=block-pixels", f"keys.policy={keys}"), tmp_path)


def test_the_seed_papers_preset(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for number in range(40):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(path)
    config = tiny("cipher.scheme=seed-paper", "data.source=images", f"data.path={folder}", "data.image_size=200")
    config.cipher.block, config.cipher.negate = 25, False
    plan = make_plan(config, tmp_path / "run")
    assert plan.run.cipher == {"scheme": "block-pixel", "block": 25, "negate": False, "derivation": 2}
    assert (plan.run.channels, plan.run.model["image_size"]) == (3, 200)


def test_policies_decide_what_is_hidden(tiny: Tiny, tmp_path: Path) -> None:
    plain = make_plan(tiny("keys.policy=none"), tmp_path)
    assert plain.run.cipher == {"scheme": "none", "block": 4, "negate": False, "derivation": 2}
    assert (plain.run.stem_init, plain.run.stem_train) == ("public", "averaged")
    shared = make_plan(tiny("keys.policy=shared"), tmp_path)
    assert (shared.run.stem_init, shared.run.stem_train) == ("public", "averaged")
    together = make_plan(tiny("federation=centralised", "sites=3", "data.partition.kind=dirichlet"), tmp_path)
    assert (together.sites.sites, together.sites.data.partition.kind) == (1, "iid")
    assert make_plan(tiny("federation=local-only"), tmp_path).experiment.server.strategy == "local-only"


def test_the_run_config_is_three_strings_both_sides_can_read(tiny: Tiny, tmp_path: Path) -> None:
    plan = make_plan(tiny("server.strategy=fedadam"), tmp_path / "run")
    config = plan.run_config(resume=True)
    assert RunConfig.from_json(str(config[RUN_KEY])) == plan.run
    sites = SimulatedSites.from_json(str(config[SITES_KEY]))
    assert sites == plan.sites
    assert Path(sites.out).is_absolute()
    settings = ServerSettings.from_json(str(config[SERVER_KEY]))
    assert (settings.out, settings.sites, settings.resume) == (str(plan.out), 2, True)
    assert settings.server.strategy == "fedadam"
    assert settings.experiment is not None
    assert from_mapping(ExperimentConfig, settings.experiment, where="manifest") == plan.experiment
    again = make_plan(
        from_mapping(ExperimentConfig, json.loads(str(config[SERVER_KEY]))["experiment"], where="x"),
        plan.out,
        run=plan.run.run,
    )
    assert again == plan, "a resolved experiment resolves to itself: this is what --resume relies on"


def test_what_someone_should_know_of_the_data_is_said(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rows = ["path,label,group"]
    for number in range(8):
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},{number // 2}")
    (folder / "labels.csv").write_text("\n".join(rows))
    settings = ("data.source=images", f"data.path={folder}", "data.labels=labels.csv", "data.image_size=16")
    with pytest.raises(DataError, match=r"8 images in 4 groups.*write data\.group_by=group"):
        make_plan(tiny(*settings), tmp_path / "run")
    assert make_plan(tiny(*settings, "data.group_by=group"), tmp_path / "run").experiment.data.split == "drawn"
    assert caplog.text == ""


def test_the_manifest_says_whose_the_split_is(tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "test"):
        for number in range(16):
            path = tmp_path / "images" / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20), number, np.uint8)).save(path)
    settings = ("data.source=images", f"data.path={tmp_path / 'images'}", "data.image_size=16", "sites=2")
    plan = make_plan(tiny(*settings), tmp_path / "run")
    assert (plan.experiment.data.split, plan.run.classes) == ("official", ["a", "b"])
    assert json.loads(str(plan.run_config()[SERVER_KEY]))["experiment"]["data"]["split"] == "official"
    assert "own split is kept: 16 train, 16 test images, validation drawn from train" in caplog.text


def test_data_that_cannot_be_dealt_is_refused_before_anything_runs(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/nowhere"):
        make_plan(tiny("data.path=/nowhere.npz"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("scheme", ["block-pixel", "aes-ctr"])
def test_examples_are_hidden_by_a_key_that_hid_nothing_else(tiny: Tiny, tmp_path: Path, scheme: str) -> None:
    config = tiny("keys.policy=shared", f"cipher.scheme={scheme}", f"cipher.negate={scheme == 'block-pixel'}")
    plan = make_plan(config, tmp_path)
    path = write_examples(plan)
    assert path is not None
    first = dict(np.load(path))
    assert {array.shape for array in first.values()} == {(4, 1, 16, 16)}
    np.testing.assert_array_equal(first["decrypted"], first["original"])
    assert not np.array_equal(first["ciphertext"], first["original"])
    assert not np.array_equal(first["wrong_key"], first["original"])
    again = dict(np.load(write_examples(plan) or ""))
    np.testing.assert_array_equal(again["original"], first["original"])
    assert not np.array_equal(again["ciphertext"], first["ciphertext"]), "the key was not thrown away"


def test_there_is_no_example_where_nothing_is_hidden(tiny: Tiny, tmp_path: Path) -> None:
    assert write_examples(make_plan(tiny("keys.policy=none"), tmp_path)) is None
    assert not list(tmp_path.iterdir())


def test_a_run_that_names_no_derivation_is_read_as_the_first(tmp_path: Path) -> None:
    cipher = {"scheme": "block-pixel", "block": 8, "negate": False}
    document = {
        "format": "medveil-manifest",
        "version": 1,
        **{"run": "r", "name": "tiny", "status": "finished", "server": {}, "sites": [], "left_out": [], "resumed": []},
        "experiment": {"cipher": cipher},
        "run_config": {"rounds": 1, "cipher": {**cipher, "derivation": 2}},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    found = read_manifest(tmp_path)
    assert found["experiment"]["cipher"]["derivation"] == 1
    assert found["run_config"]["cipher"]["derivation"] == 2
