"""A site that only measures, and one whose runs a person approves: in words, and with what changed since the last."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from enrolled_site import WORD, enrolled
from safetensors.torch import save_file

from crypto import sealed_file
from fl_client import work
from fl_client.cli import main
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.run_words import changes, in_words
from fl_client.deployment.told import ToldError
from fl_client.site import Site
from medveil.audit_verify import verify
from medveil.config import to_mapping
from medveil.contract import RUN_KEY, RunConfig
from medveil.evaluating import EVALUATE
from medveil.privacy import PrivacyConfig
from medveil.secagg.config import SecAggConfig
from medveil.training import TrainConfig
from models.config import ModelConfig
from models.vit import build_vit

SIZES = ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=24, depth=2, heads=2)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)
    torch.set_num_threads(1)


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    made = enrolled(tmp_path)
    limits = {"tasks": ["single-label", EVALUATE], "least_images": 8, "smallest_count": 2, "weights": ["any"]}
    return limited(made, **limits)


def limited(files: OwnFiles, **limits: Any) -> OwnFiles:
    """The site with other limits, written into its file."""
    document = yaml.safe_load(files.file.read_text())
    document["device"], document["limits"] = "cpu", {**document["limits"], **limits}
    files.file.write_text(yaml.safe_dump(document))
    return load_site(files.file)


def opened(files: OwnFiles, run: RunConfig) -> Site:
    host = OwnHost(files, open_keys(files, lambda named: WORD))
    return host.site_for({RUN_KEY: run.to_json()})


def run(**changed: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab",
        "name": "trial",
        "classes": ["0", "1"],
        "image_size": 16,
        "model": to_mapping(SIZES),
        "train": to_mapping(TrainConfig(batch_size=8)),
        "cipher": {"scheme": "block-pixel", "block": 4, "negate": True},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "local",
        "least_sites": 2,
    }
    return RunConfig(**{**values, **changed})


def evaluation(files: OwnFiles) -> RunConfig:
    """A run that measures weights which the site has in its own folder."""
    files.weights.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in build_vit(SIZES, seed=7).state_dict().items()}
    save_file(state, files.weights / "known.safetensors")
    return run(task=EVALUATE, model={**to_mapping(SIZES), "pretrained": "known.safetensors"})


# -- a run that only measures ------------------------------------------------------------------------------------------


def test_a_site_measures_all_its_labelled_images_and_keeps_nothing_of_the_model(files: OwnFiles) -> None:
    site = opened(files, evaluation(files))
    row = work.describe(site)
    assert (row["counts"], row["n-train"], row["n-validation"], row["n-test"]) == ([10, 10], 0, 0, 20)
    incoming = {name: site.bench.public[name].numpy() for name in site.travelling}
    measures = work.evaluate(site, 0, incoming)
    assert (measures["test-n"], measures["num-examples"]) == (20, 20)
    assert round(measures["test-accuracy"] * 10, 6).is_integer(), "told in as many steps as there are pairs of images"
    assert not list((files.own / "models").glob("*"))
    assert [path.name for path in (files.own / "stores").iterdir() if path.is_dir()] == [site.store.folder.name]
    assert site.store.folder.name.endswith("-measured")


def test_small_classes_take_no_part_in_any_number(files: OwnFiles) -> None:
    few = limited(files, smallest_count=11)
    site = opened(few, evaluation(few))
    measures = work.evaluate(site, 0, {name: site.bench.public[name].numpy() for name in site.travelling})
    assert work.describe(site)["counts"] == [0, 0]
    assert measures["num-examples"] == measures["test-n"] == 0
    assert measures["test-accuracy"] != measures["test-accuracy"], "withheld: not a number"


def test_a_site_can_take_part_in_evaluation_alone_and_never_does_unasked(files: OwnFiles) -> None:
    alone = limited(files, tasks=[EVALUATE])
    with pytest.raises(ToldError, match=r"limits\.tasks: this site takes no part in 'single-label'; it accepts evalu"):
        opened(alone, run())
    opened(alone, evaluation(alone))
    with pytest.raises(ToldError, match=r"model\.pretrained: this site has no weights of that name"):
        opened(alone, replace(evaluation(alone), model={**to_mapping(SIZES), "pretrained": "other.safetensors"}))
    with pytest.raises(ToldError, match=r"limits\.least_images: this site has fewer images to measure than"):
        opened(limited(alone, least_images=21), evaluation(alone))
    with pytest.raises(ToldError, match=r"limits\.tasks: this site takes no part in 'evaluate'"):
        opened(limited(files, tasks=["single-label"]), evaluation(files))


# -- a person who approves ---------------------------------------------------------------------------------------------


def command(files: OwnFiles, *words: str) -> int:
    code = main(["approve", *words, "--site", str(files.file)])
    logging.getLogger("medveil").propagate = True
    return code


def test_no_run_begins_before_its_settings_are_approved(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    strict = limited(files, approve_runs=True)
    refusal = r"limits\.approve_runs: a person at this site approves a run's settings first, and has not; .* --run 0f2c"
    with pytest.raises(ToldError, match=refusal):
        opened(strict, run())
    assert command(strict, "--run", "0f2c", "--yes") == 0
    said = capsys.readouterr().out
    for words in (
        "trains 1 round to tell 2 classes: 0, 1",
        "all of trunk and head; its stem stays",
        "the server reads this site's own updates",
        "none: the run promises nothing of a single image or patient",
        "block-pixel, blocks of 4, under this site's own key",
        "it is the first run whose settings are approved here",
    ):
        assert words in said
    opened(strict, run())
    opened(strict, run(run="1a", name="again", seed=3))
    other = run(run="2b", train=to_mapping(TrainConfig(batch_size=8, lr=0.01)), secagg=SecAggConfig())
    with pytest.raises(ToldError, match="--run 2b"):
        opened(strict, other)
    assert command(strict, "--run", "2b", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["changed"], told["approved"]) == (["train.lr: 0.001 -> 0.01"], False)
    with pytest.raises(ToldError):
        opened(strict, other)
    assert command(strict, "--run", "2b", "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["changed"], told["approved"]) == (["train.lr: 0.001 -> 0.01"], True)
    opened(strict, other)
    events = [json.loads(line) for line in strict.audit.path.read_text().splitlines()]
    assert [each["event"] for each in events if "run" in each["event"]] == ["approved-run", "approved-run"]
    assert len(verify(strict.audit.path).records) == len(events)


def test_an_approval_is_of_these_weights_and_can_be_taken_back_in_the_middle(files: OwnFiles) -> None:
    strict = limited(files, approve_runs=True)
    asked = evaluation(strict)
    host = OwnHost(strict, open_keys(strict, lambda named: WORD))
    with pytest.raises(ToldError):
        host.site_for({RUN_KEY: asked.to_json()})
    assert command(strict, "--run", "--yes") == 0
    site = host.site_for({RUN_KEY: asked.to_json()})
    host.allow(site, "evaluate", 0)
    assert command(strict, "--run", "--withdraw") == 0
    with pytest.raises(ToldError, match="approves a run's settings first"):
        host.allow(site, "evaluate", 0)
    assert command(strict, "--run", "--withdraw") != 0
    assert command(strict, "--run", "--yes") == 0
    host.allow(site, "evaluate", 0)
    state = {name: tensor.contiguous() for name, tensor in build_vit(SIZES, seed=8).state_dict().items()}
    save_file(state, strict.weights / "known.safetensors")
    with pytest.raises(ToldError, match="approves a run's settings first"):
        host.allow(site, "evaluate", 0)


def test_without_a_terminal_nothing_is_approved_and_options_belong_to_runs(
    files: OwnFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(files, run())
    assert command(files, "--run") == 2
    assert "--yes approves it without being asked" in capsys.readouterr().err
    assert command(files, "--yes") == 2
    assert "--yes without --run" in capsys.readouterr().err
    assert command(files, "--run", "zz") == 2


@pytest.mark.parametrize(
    ("made", "about", "says"),
    [
        (run(task=EVALUATE), "what it does", "measures one model on all labelled images of each site; nothing trains"),
        (run(task=EVALUATE), "what leaves", "no update, and nothing of a single image"),
        (
            run(task=EVALUATE, evaluate={"images": "test"}),
            "what it does",
            "on the test part of each site's own split",
        ),
        (run(secagg=SecAggConfig(on=True)), "who reads it", "updates leave under masks: the server reads sums"),
        (
            run(privacy=to_mapping(PrivacyConfig(unit="patient", epsilon=3.0))),
            "noise",
            "epsilon 3 at delta 1e-05 for each patient",
        ),
        (run(train={"scope": "bias"}), "what leaves", "what 'bias' trains, a small part of the model"),
        (run(keys="none", stem_init="public", stem_train="averaged"), "hiding", "plain images at the site"),
        (run(classes=["a\x1b[31m", "b"]), "what it does", "a"),
    ],
)
def test_what_a_run_does_is_said_in_words(made: RunConfig, about: str, says: str) -> None:
    words = in_words(made)
    assert says in words[about]
    assert "\x1b" not in str(words)


def test_changes_are_those_of_settings_alone() -> None:
    assert changes(run(), run(run="other", name="x", seed=9)) == []
    assert changes(run(), run(rounds=3, stem_train="frozen")) == ["rounds: 1 -> 3", "stem_train: local -> frozen"]
