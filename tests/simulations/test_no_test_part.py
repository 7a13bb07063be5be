"""`data.test=0`: a run without a test part has its pages and tables, and they leave out what there is none of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fl_client.data.items import Item
from fl_client.data.remarks import said_of_no_test
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
