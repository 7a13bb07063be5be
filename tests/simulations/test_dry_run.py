"""What a command would do: named and estimated from one batch, without a run, a folder or a file."""

from __future__ import annotations

import json
from pathlib import Path

import at_once
import numpy as np
import pytest
import torch

from simulations import side_by_side, statistics
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.estimate import Estimate, Estimates, estimate
from simulations.probe import Probe, _Watch

ONE = Estimate(started=1, training=60, hiding=5, answering=4, seconds=140, memory=10**9, disk=10**6, up=2000, down=3000)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(side_by_side, "run_tied", at_once.run_tied)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    monkeypatch.setattr("simulations.cli.report_of", lambda run: (run / "report.html").write_text("") or run)


@pytest.fixture
def words(tiny_settings: list[str], tmp_path: Path) -> list[str]:
    (tmp_path / "empty.yaml").write_text("")
    return [str(tmp_path / "empty.yaml"), *tiny_settings, "rounds=1", "model.depth=1", "keys.policy=per-site"]


def test_before_and_after_a_run_the_bytes_are_the_same_and_kept_runs_say_how_good_estimates_were(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "COMPARED"
    asked = ["compare", *words, "compare.arms=[per-site-adapted]", "--out", str(out)]
    assert main([*asked, "--dry-run"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert before[0] == f"would run 1 of 1 runs; 0 are kept from {out}"
    assert before[1] == "  per-site-adapted seed 0: runs"
    assert not out.exists()
    assert main(asked) == 0
    capsys.readouterr()
    summary = json.loads((out / "per-site-adapted" / "seed-0" / "summary.json").read_text())
    from simulations.report.words import size  # noqa: PLC0415

    wanted = f"sent: {size(summary['bytes_up'])} by sites, {size(summary['bytes_down'])} to them"
    assert next(line for line in before if line.startswith("sent: ")) == wanted
    assert main([*asked, "--dry-run"]) == 0
    after = capsys.readouterr().out
    assert "would run 0 of 1 runs; 1 are kept" in after
    assert "per-site-adapted seed 0: kept" in after
    assert "of 1 finished here, such an estimate is" in after
    assert "times the processor time" in after


def test_every_long_command_says_what_it_would_run_and_leaves_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ExperimentConfig] = []
    monkeypatch.setattr(Estimates, "of", lambda _, experiment: seen.append(experiment) or ONE)
    monkeypatch.setattr("simulations.bench._write_images", lambda path, _: path)
    out = str(tmp_path / "OUT")
    before = sorted(tmp_path.iterdir())
    for command, said, runs in (
        (["run", *words], "would run 1 run: tiny", 1),
        (["run", *words, "federation=svm", "keys.policy=none", "--out", out], "would run 1 run", 1),
        (["sweep", *words, "train.lr=1e-3,1e-2", "compare.seeds=[0, 1]", "--out", out], "would run 4 of 4 runs", 4),
        (["ablate", *words, "--switch", "ema", "--out", out], "would run 2 of 2 runs", 2),
        (["pretrain", *words, "--out", f"{out}.safetensors"], "would run 1 run: tiny pre-training", 1),
        (["pays", *words, "train.minutes=2", "--out", out], "would run 3 runs: no pre-training seed 0", 3),
        (["poison", *words, "keys.policy=none", "--seeds", "0", "--rules", "fedavg", "--out", out], "would run", None),
        (["bench"], "would run 12 runs: none 1, shared 1", 12),
    ):
        seen.clear()
        assert main([*command, "--dry-run", "--json"]) == 0, command
        told = capsys.readouterr()
        assert said in told.err
        assert "memory: about 1.0 GB a run" in told.err
        assert runs is None or len(seen) == runs, command
        found = json.loads(told.out)
        assert (len(found["runs"]), found["estimate"]["memory"]) == (len(seen), 10**9), command
    assert sorted(tmp_path.iterdir()) == before
    assert main(["run", *words, "--resume", out, "--dry-run"]) == 2
    assert main(["bench", "--deployment", "--parts", "bytes", "--dry-run"]) == 0
    assert "would start real consortia on this machine for bytes" in capsys.readouterr().out
    assert main(["bench", "--scale", "4,16", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rounds": 4, "sites": [4, 16]}


def test_side_by_side_runs_take_their_share_of_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    from simulations.dry_run import in_words  # noqa: PLC0415

    lines = in_words(ONE + ONE + ONE, runs=3, jobs=2)
    assert lines[0].startswith("time: about 3 min 30 s with 2 side by side")
    assert lines[2] == "memory: about 1.0 GB a run, 2 at once"
    assert "training 3 min 0 s, reading and hiding 15.0 s" in lines[1]


def test_an_estimate_counts_what_a_run_does() -> None:
    parts = tuple(type("P", (), {"train": range(60), "validation": range(10), "test": range(20)})() for _ in range(2))
    found = Probe(16, 0.001, 0.002, 0.01, 0.003, 5.0, 2.0, 10**8, 300, 4000, 4100, parts)  # type: ignore[arg-type]
    config = ExperimentConfig(rounds=3, sites=2)
    config.keys.policy, config.train.epochs, config.evaluate_first = "per-site", 2, True
    config.server.keep_checkpoints = 2
    made = estimate(found, config)
    assert made.training == pytest.approx(3 * 2 * 120 * 0.01)
    # Each image once into the store; each round on validation images, the last on test images and by a thief too.
    assert made.hiding == pytest.approx(180 * 0.003)
    assert made.answering == pytest.approx(((3 + 1) * 20 + 40 * 3) * 0.003)
    assert made.seconds == pytest.approx(2 * (5 + made.training + made.hiding + made.answering))
    assert (made.up, made.down) == (3 * 2 * 4000, 4 * 2 * 4000)
    assert made.disk == 180 * 300 + 2 * 4100
    config.data.views, config.server.fraction, config.train.minutes = 0, 0.5, 1.0
    made = estimate(found, config)
    assert made.training == pytest.approx(3 * 0.5 * 2 * 60 / 2.0)
    assert made.hiding == pytest.approx((180 + 120 * 3 * 0.5 * 2) * 0.003)


def test_the_fastest_turn_counts_and_what_others_take_stretches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, spent = iter(range(0, 1000, 2)), iter([0, 3, 10, 11, 20, 22, *range(100, 200)])
    monkeypatch.setattr("simulations.probe.time.perf_counter", lambda: float(next(wall)))
    monkeypatch.setattr("simulations.probe.time.process_time", lambda: float(next(spent)))
    monkeypatch.setattr("simulations.probe._LONGEST_S", 13.0)
    watch = _Watch(gpu=False)
    made, took = watch.timed(lambda: "made")
    assert (made, took) == ("made", 1.0)
    assert watch.stretch == pytest.approx(6 / 6)


def test_attacks_say_which_apply_and_what_they_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(60) % 2)
    asked = [
        "--images",
        str(tmp_path / "d.npz"),
        "--keys",
        "3",
        "--images-per-key",
        "6",
        "--block",
        "8",
        "--out",
        str(tmp_path / "A"),
    ]
    assert main(["attack", "known-plaintext,brute-force", *asked, "--cipher", "block-pixel", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "would measure 2 of 2 attacks under 3 keys" in told
    assert "by one key of known-plaintext" in told
    named = ["--schemes", "block-pixel,none", "--attacks", "known-plaintext", "--jobs", "1", "--dry-run"]
    assert main(["attack-matrix", *asked, *named]) == 0
    told = capsys.readouterr().out
    assert "none: 1 of 1 attacks are missing" in told
    assert "looked at under block-pixel for all schemes, 1 of them side by side" in told
    assert main(["attack-matrix", *asked, *named, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing"]["none"] == ["known-plaintext"]
    assert found["pace"]["apply"] == {"known-plaintext": 1.0} and found["pace"]["seconds"] > 0
    assert not (tmp_path / "A").exists()
