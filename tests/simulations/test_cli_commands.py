"""`medveil-sim run | init | report`: what they print, what they leave, and going on after an interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fl_client import simulated_host, work
from fl_client.site import Site
from medveil.config import load_config
from medveil.wire import Tensors
from models.described import in_words
from simulations.cli import main
from simulations.config import ExperimentConfig

PROGRAM = Path(sys.executable).parent / "medveil-sim"
pytestmark = pytest.mark.usefixtures("fresh_sites")


@pytest.fixture
def empty(tmp_path: Path) -> str:
    torch.set_num_threads(1)
    (tmp_path / "empty.yaml").write_text("")
    return str(tmp_path / "empty.yaml")


def test_init_prints_what_run_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "experiment.yaml").write_text(text)
    assert load_config(ExperimentConfig, tmp_path / "experiment.yaml") == ExperimentConfig()
    assert "# Federated rounds.\nrounds: 5" in text
    assert main(["init", "--out", str(tmp_path / "other.yaml")]) == 0
    assert (tmp_path / "other.yaml").read_text() == text
    assert main(["init", "--out", str(tmp_path / "other.yaml")]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.usefixtures("drawn")
def test_run_prints_a_result_a_report_and_progress(
    empty: str, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", empty, *tiny_settings, "--out", str(out)]) == 0
    said = capsys.readouterr()
    first, second = said.out.splitlines()
    assert first.startswith("tiny: finished after 2 rounds; accuracy ")
    assert all(word in first for word in ("balanced accuracy", "auroc", "majority rate", "["))
    assert second == f"report: {out / 'report.html'}"
    assert (out / "report.html").is_file()
    near, model, *rest = said.err.splitlines()
    found = json.loads((out / "summary.json").read_text())["near"]
    assert near.startswith(f"{found['near']} of {found['test']} test images look like a training image (a correlation")
    assert near in (out / "report.html").read_text()
    assert model.startswith("model: vit_tiny_patch16_224 with width 24 (timm: 192), depth 2 (timm: 12), 2 heads")
    lines = [line.split() for line in rest]
    assert [line[1] for line in lines if line[3] == "train"] == ["1/2", "2/2"]
    assert all(line[0] == "round" and "loss" in line and "acc" in line for line in lines)
    for name in ("manifest.json", "metrics.jsonl", "summary.json", "examples.npz"):
        assert (out / name).is_file()
    # Terminal, manifest and report say what the model really is, in the same words.
    words = model.removeprefix("model: ")
    assert words == in_words(json.loads((out / "manifest.json").read_text())["model"])
    assert words in (out / "report.html").read_text()


def test_run_as_json_is_json_alone(
    empty: str, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", empty, *tiny_settings, "rounds=1", "--out", str(tmp_path / "out"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["format"] == "medveil-summary"
    assert len(summary["intervals"]["accuracy"]) == 2
    assert set(summary["thief"]) == {"owner", "wrong_key", "public_stem", "notes"}


# -- interrupts ------------------------------------------------------------------------------------------------------

ARMS = {
    "adapted": ["stem.init=adapted"],
    "secret, fitted": ["stem.init=secret", "stem.warmup=1"],
    "fedadam": ["keys.policy=shared", "server.strategy=fedadam"],
    "fedprox, deltas in bf16": ["server.strategy=fedprox", "wire=bf16", "kind=delta", "train.mixup=0.3"],
    "views on the fly": ["data.views=0", "data.augment=standard", "train.epochs=2"],
    "aes-ctr": ["keys.policy=shared", "cipher.scheme=aes-ctr", "cipher.negate=false"],
    "local-only, half the sites": ["federation=local-only", "keys.policy=none"],
    "a sample of sites": ["sites=3", "rounds=3", "server.fraction=0.67"],
}

SOON = {"secret, fitted", "views on the fly", "a sample of sites"}
"""Of `ARMS`, those that keep something beside the model."""


def interrupt(monkeypatch: pytest.MonkeyPatch, *, round_: int, site: str) -> None:
    """Press Ctrl-C when a site is about to train a round."""
    train = work.train

    def pressed(one: Site, number: int, incoming: Tensors, **asked: Any) -> object:
        if (number, one.setup.name) == (round_, site):
            signal.raise_signal(signal.SIGINT)
        return train(one, number, incoming, **asked)

    monkeypatch.setattr(work, "train", pressed)


@pytest.mark.parametrize("arm", [pytest.param(arm, marks=[] if arm in SOON else pytest.mark.slow) for arm in ARMS])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    empty: str, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arm: str
) -> None:
    settings = [*tiny_settings, "rounds=2", *ARMS[arm]]
    assert main(["run", empty, *settings, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch:
        site = "site-1" if arm == "a sample of sites" else "site-2"
        for round_ in (2, 3):
            interrupt(patch, round_=round_, site=site)
        capsys.readouterr()
        assert main(["run", empty, *settings, "--out", str(out)]) == 130
    said = capsys.readouterr().err
    assert "error: interrupted" in said.splitlines()
    assert f"go on with: medveil-sim run --resume {out}" in said
    assert "Traceback" not in said
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
    assert (out / "report.html").is_file()
    assert not (out / "summary.json").exists()
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    assert "Interrupted. Below" in (out / "report.html").read_text()

    simulated_host._simulated_site.cache_clear()
    torch.manual_seed(5)
    assert main(["run", "--resume", str(out)]) == 0
    last = "round-0003" if arm == "a sample of sites" else "round-0002"
    whole, mended = (load_file(run / "checkpoints" / f"{last}.safetensors") for run in (tmp_path / "whole", out))
    assert whole.keys() == mended.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(mended[name], tensor, err_msg=name)
    for path in (tmp_path / "whole" / "sites").glob("*/predictions.npz"):
        ours = np.load(out / "sites" / path.parent.name / "predictions.npz")["probabilities"]
        np.testing.assert_array_equal(ours, np.load(path)["probabilities"])
    figures = [json.loads((run / "summary.json").read_text()) for run in (tmp_path / "whole", out)]
    for key in ("accuracy", "auroc", "loss", "thief", "sites", "bytes_up", "bytes_down", "rounds"):
        assert figures[0][key] == figures[1][key], key
    lines = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "whole", out)
    ]
    for one, other in zip(*lines, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_who_interrupts_is_told_what_to_type(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my run"
    monkeypatch.setattr("simulations.run.run_experiment", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(["run", empty, "--out", str(out)]) == 130
    assert "it had not begun: give the same command again" in capsys.readouterr().err
    out.mkdir()
    (out / "manifest.json").write_text("{}")
    monkeypatch.setattr("simulations.run.resume_experiment", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(["run", "--resume", str(out)]) == 130
    assert f"go on with: medveil-sim run --resume '{out}'" in capsys.readouterr().err


def test_a_settled_change_is_refused_on_resume(
    empty: str,
    tiny_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["run", empty, *tiny_settings, "rounds=1", "--out", str(out)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("simulations.run.resume_experiment", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        assert main(["run", "--resume", str(out)]) == 130
    assert f"go on with: medveil-sim run --resume {out}" in capsys.readouterr().err
    before = (out / "summary.json").read_text()
    (out / "attacks").mkdir()
    (out / "attacks" / "damaged.json").write_text("{")
    assert main(["run", "--resume", str(out)]) == 0
    # A run that was attacked keeps that part of its page.
    assert "damaged.json" in (out / "report.html").read_text()
    assert json.loads((out / "summary.json").read_text())["accuracy"] == json.loads(before)["accuracy"]
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["experiment"]["rounds"] = 9
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert main(["run", "--resume", str(out)]) == 2
    assert "changed since the run began" in capsys.readouterr().err
    manifest["experiment"] = None
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert main(["run", "--resume", str(out)]) == 2
    assert "was not made by medveil-sim" in capsys.readouterr().err
    (out / "manifest.json").write_text(json.dumps(manifest | {"version": 9}))
    for words in (["run", "--resume", str(out)], ["report", str(out)]):
        assert main(words) == 2
        assert "version 9; this MedVeil reads up to 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_installed_program_can_be_interrupted_and_reported_on(
    empty: str, tiny_settings: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [str(PROGRAM), "run", empty, *tiny_settings, "rounds=100000", "--out", str(out)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("round 2/"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "error: interrupted" in rest.splitlines()
    assert "Traceback" not in rest
    assert json.loads((out / "manifest.json").read_text())["status"] == "interrupted"
    assert main(["report", str(out)]) == 0


@pytest.mark.parametrize("words", [[], ["run"], ["init"], ["report"], ["compare"], ["bench"]])
def test_every_command_helps_with_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "example: medveil-sim" in " ".join(text.split())
    if words:
        assert "--log-level" in text


def test_compare_lists_its_arms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"plain", "fedper", "per-site-adapted", "local-only", "centralised", "aes-ctr"} <= set(names)
