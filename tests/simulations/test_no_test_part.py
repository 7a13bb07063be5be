"""`data.test=0`: a run without a test part has its pages and tables, and they leave out what there is none of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fl_client.data.items import Item
from fl_client.data.remarks import said_of_no_test
from simulations.cli import main
from simulations.report.comparison import ArmResult, write_comparison
from simulations.report.page import write_report
from simulations.run_command import print_result
from simulations.statistics import add_intervals

MakeRun = Callable[..., Path]


def untested(run: Path) -> Path:
    """A run's folder as its sites leave it where none of them tests."""
    for file in run.glob("sites/*/predictions.npz"):
        np.savez(file, ids=np.zeros(0, "U1"), labels=np.zeros(0, int), probabilities=np.zeros((0, 4), np.float32))
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    nothing = dict.fromkeys(("accuracy", "balanced_accuracy", "auroc", "majority_rate", "loss"))
    summary |= {**nothing, "n": 0, "intervals": None, "thief": {}}
    summary["sites"] = {site: {**nothing, "n": 0} for site in summary["sites"]}
    path.write_text(json.dumps(summary))
    return run


def test_its_report_and_summary_say_that_nothing_was_tested(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untested(make_run())
    summary = add_intervals(run)
    assert summary["intervals"] is None and "no site" in summary["intervals_note"]
    text = re.sub(r"<style>.*?</style>", "", write_report(run).read_text(), flags=re.DOTALL)
    assert "no test result" in text
    assert 'id="calibration"' not in text and 'id="roc"' not in text
    print_result(summary)
    assert "no test images, so no scores" in capsys.readouterr().out


def test_its_comparison_has_rows_without_scores(make_run: MakeRun, tmp_path: Path) -> None:
    arms = [
        ArmResult("plain", "averaged", None, [untested(make_run("one", keys="none"))]),
        ArmResult("hidden", "hidden", "plain", [untested(make_run("two"))]),
    ]
    write_comparison(tmp_path / "out", arms)
    made = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert all(each["scores"]["accuracy"]["mean"] is None for each in made["arms"])
    assert "no predictions" in made["arms"][1]["twin"]["reason"]
    assert "no test images" in (tmp_path / "out" / "compare.md").read_text()


def test_all_that_is_done_with_a_run_is_done_without_a_test_part(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, trained on, attacked, exported and asked; what is handed out has no column of nothing."""
    torch.set_num_threads(1)
    (tmp_path / "empty.yaml").write_text("")
    run, model, out = (str(tmp_path / name) for name in ("run", "model", "out.csv"))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((16, 16), 99, np.uint8)).save(tmp_path / "images" / "one.png")
    for line in (
        ["run", str(tmp_path / "empty.yaml"), *tiny_settings, "data.test=0", "rounds=1", "--out", run],
        ["run", "--resume", run, "rounds=2"],
        ["attack", "chosen-plaintext", "--run", run, "--quick", "--keys", "2", "--images-per-key", "2"],
        ["report", run],
        ["export", run, model],
        ["predict", model, str(tmp_path / "images"), "--out", out],
    ):
        assert main(line) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "no test images, so no scores" in said
    assert "probabilities as the model gives them (temperature 1)" in said
    card, data = ((tmp_path / "model" / name).read_text() for name in ("MODEL_CARD.md", "DATA_CARD.md"))
    assert "held out no test part" in card
    assert "| Test" not in card + data and "Test images" not in data
    assert "| Accuracy | 0." in card


def test_it_is_said_before_a_run() -> None:
    items = [Item("a", 0), Item("b", 1, split="train")]
    assert "no image is tested on" in said_of_no_test(items, 0.0)[0]
    assert said_of_no_test(items, 0.2) == said_of_no_test([*items, Item("c", 1, split="test")], 0.0) == []


def test_a_page_shows_measures_over_all_images_beside_the_mean_of_sites(make_run: MakeRun) -> None:
    run = make_run(rounds=1, examples=False)
    summary = add_intervals(run)
    text = " ".join(re.sub(r"<[^>]+>", " ", write_report(run).read_text()).split())
    assert "Over the test images of all sites together" in text
    for name in ("f1", "pr_auc", "sensitivity", "specificity"):
        assert f"{summary['pooled'][name]['value']:.3f}" in text
    assert "4 of 4 sites" in text
