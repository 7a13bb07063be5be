"""A sweep at toy size: its points are what was typed, and its runs are kept and can be made again."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import at_once
import pytest
import torch

from medveil.config import load_config
from medveil.errors import ConfigError
from medveil.sheets import read_rows
from simulations import api, side_by_side, statistics
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.paired import measured
from simulations.points import Range, axes_in, drawn, folder_of, grid, label_of
from simulations.results import pack
from simulations.side_by_side import Job
from simulations.sweep import asked_points, laid_over
from simulations.sweep_command import Over

DRAWN = True


@pytest.fixture(scope="module", autouse=True)
def at_once_and_without_pages() -> Any:
    """Runs in this process; the intervals and pages of so small a run take longer than itself."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "run_tied", at_once.run_tied)
        patch.setattr(statistics, "add_intervals", lambda _: None)
        patch.setattr("simulations.cli.report_of", lambda run: (run / "report.html").write_text("") or run)
        yield


@pytest.fixture(scope="module")
def words(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    empty = tmp_path_factory.mktemp("conf") / "empty.yaml"
    empty.write_text("")
    return [str(empty), *tiny_settings, "rounds=1", "model.depth=1"]


def said(arguments: Sequence[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def swept(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two rates under two seeds."""
    out = tmp_path_factory.mktemp("swept") / "SWEEP"
    asked = ["sweep", *words, "train.lr=1e-3,3e-2", "compare.seeds=[1, 2]", "--out", str(out)]
    code, told, progress = said(asked)
    assert code == 0, progress
    return out, told


def test_values_are_parted_at_commas_that_nothing_holds_together() -> None:
    typed = ["train.lr=1e-3,3e-3", "rounds=2", "compare.seeds=[0, 1]", "data.path='a,b.npz'", "model.depth=int(2,6)"]
    axes, fixed = axes_in([*typed, "data.window=[40, 80],[50, 350]", 'data.labels="a,b.csv",c.csv'])
    assert axes == {
        "train.lr": ("1e-3", "3e-3"),
        "model.depth": Range(2, 6, "int"),
        "data.window": ("[40, 80]", "[50, 350]"),
        "data.labels": ("a,b.csv", "c.csv"),
    }
    assert fixed == ["rounds=2", "compare.seeds=[0, 1]", "data.path=a,b.npz"]


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        (["train.lr=1e-3,"], "train.lr: has an empty value"),
        (["train.lr=1,2", "train.lr=3"], "train.lr: is named twice"),
        (["train.lr=3", "train.lr=1,2"], "train.lr: is named twice"),
        (["seed=0,1"], "seed: cannot be swept; seeds are compare.seeds"),
        (["compare.arms=plain,fedper"], "compare.arms: cannot be swept"),
        (["train.lr=1e-3"], "names no setting with several values"),
        (["train.lr=log(0,1)"], "train.lr: has a logarithmic range from 0"),
        (["train.lr=uniform(2,1)"], "train.lr: has a range without numbers"),
        (["train.epochs=int(1,2.5)"], "train.epochs: has an int range whose ends are not whole"),
        (["train.lr=loguniform(1,2)"], "train.lr: has no range 'loguniform'; one of uniform, log, int"),
        (["train.lr=uniform(1,2)"], "train.lr: is a range; random=N"),
        ([f"train.lr={','.join(map(str, range(100)))}", f"rounds={','.join(map(str, range(50)))}"], "makes 5000 runs"),
    ],
)
def test_what_cannot_be_swept_is_refused_by_name(typed: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(")):
        asked_points(ExperimentConfig(), axes_in(typed)[0], random=None)


def test_a_grid_is_every_combination_and_what_is_drawn_is_within_and_of_more_points_the_same() -> None:
    axes, _ = axes_in(["a=1,2", "b=x,y,z"])
    assert [(each["a"], each["b"]) for each in grid(axes, seeds=1)] == [(a, b) for a in "12" for b in "xyz"]
    axes, _ = axes_in(["train.lr=log(1e-4,1e-2)", "model.depth=int(2,4)", "keys.policy=none,shared"])
    some = drawn(axes, 200, seed=3, seeds=1)
    assert some[:7] == drawn(axes, 7, seed=3, seeds=1)
    assert some[:7] != drawn(axes, 7, seed=4, seeds=1)
    assert {each["model.depth"] for each in some} == {2, 3, 4}
    assert {each["keys.policy"] for each in some} == {"none", "shared"}
    rates = sorted(each["train.lr"] for each in some)
    assert 1e-4 <= rates[0] < 1.5e-4
    assert 0.0005 < rates[100] < 0.002
    assert 0.007 < rates[-1] <= 1e-2
    assert len({folder_of(each) for each in some}) == 200
    few, _ = axes_in(["a=1,2", "b=int(1,2)"])
    assert len(drawn(few, 4, seed=0, seeds=1)) == 4
    with pytest.raises(ConfigError, match="there are not 5 points; 4 or fewer"):
        drawn(few, 5, seed=0, seeds=1)


def test_a_point_is_named_by_what_it_sets_in_any_order() -> None:
    point = {"train.lr": 0.001, "data.window": None, "cipher.negate": True}
    assert label_of(point) == "train.lr=0.001 data.window=null cipher.negate=true"
    assert folder_of(point) == folder_of(dict(reversed(point.items())))
    assert folder_of(point).startswith("negate-true-window-null-lr-0-001-")
    assert folder_of({"train.lr": 0.001}) != folder_of({"train.lr": 0.0010000001})


def test_a_point_is_what_run_makes_of_the_same_words(words: list[str]) -> None:
    over = Over(words[0], [*words[1:], "train.lr=0.004"], "cpu")
    made = over.made({"train.recipe": "small-data", "keys.policy": "shared"})
    assert (made.train.optimizer, made.train.lr, made.keys.policy, made.device) == ("muon", 0.004, "shared", "cpu")
    plain = load_config(ExperimentConfig, None, [*words[1:], "train.lr=0.004"])
    laid = laid_over(plain)({"train.recipe": "small-data", "keys.policy": "shared", "train.clip": 2.0})
    # Over an experiment that is there nobody knows which of its settings were said.
    assert (laid.train.optimizer, laid.train.lr, laid.train.clip) == ("muon", 0.003, 2.0)
    with pytest.raises(ConfigError, match=r"did you mean 'train\.lr'"):
        laid_over(plain)({"train.lrr": 1.0})


def test_every_run_is_a_row_and_every_point_is_beside_the_first(swept: tuple[Path, str]) -> None:
    out, told = swept
    document = json.loads((out / "sweep.json").read_text())
    with (out / "sweep.csv").open() as stream:
        rows = [dict(zip(heads, row, strict=True)) for heads, row in _with_heads(stream)]
    assert [(row["train.lr"], row["seed"]) for row in rows] == [
        ("0.001", "1"),
        ("0.001", "2"),
        ("0.03", "1"),
        ("0.03", "2"),
    ]
    for row, run in zip(rows, document["runs"], strict=True):
        lines = [json.loads(line) for line in (out / run["folder"] / "metrics.jsonl").read_text().splitlines()]
        judged = [line for line in lines if (line["site"], line["phase"]) == ("all", "validation")][-1]
        summary = json.loads((out / run["folder"] / "summary.json").read_text())
        assert float(row["validation_accuracy"]) == judged["accuracy"]
        assert float(row["validation_loss"]) == judged["loss"]
        assert float(row["test_auroc"]) == pytest.approx(summary["auroc"])
        assert int(row["bytes_up"]) == summary["bytes_up"] > 0
    first, second = document["points"]
    own = {run["point"]: [] for run in document["runs"]}
    for run in document["runs"]:
        own[run["point"]].append(run["validation_accuracy"])
    mean = {name: sum(values) / 2 for name, values in own.items()}
    assert first["accuracy_gained"] is None
    assert second["accuracy_gained"] == pytest.approx(mean[second["point"]] - mean[first["point"]])
    assert second["accuracy_interval"] is None
    assert second["same_images"] is True
    assert "| train.lr=0.03 | 2 |" in told
    assert f"report: {out / 'sweep.html'}" in told


def _with_heads(stream: Any) -> list[tuple[list[str], list[str]]]:
    (_, heads), *rows = read_rows(stream)
    return [(heads, row) for _, row in rows]


def test_the_page_has_all_points_and_figures_and_nothing_of_another_place(swept: tuple[Path, str]) -> None:
    page = (swept[0] / "sweep.html").read_text()
    for wanted in ("train.lr=0.03", 'id="gained-accuracy-', 'id="test-auroc-', 'id="along-0-'):
        assert wanted in page
    assert "://" not in page
    assert page.count("medveil-sim run") == 4


def test_a_row_is_made_again_by_its_command(swept: tuple[Path, str], tmp_path: Path) -> None:
    run = json.loads((swept[0] / "sweep.json").read_text())["runs"][3]
    program, *words = shlex.split(run["command"])
    assert program == "medveil-sim"
    words[words.index("--out") + 1] = str(tmp_path / "AGAIN")
    assert said(words)[0] == 0
    again = json.loads((tmp_path / "AGAIN" / "summary.json").read_text())
    assert (again["auroc"], again["accuracy"]) == (run["test_auroc"], run["test_accuracy"])


def test_with_one_value_more_only_that_one_is_run(
    swept: tuple[Path, str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = swept[0], json.loads((swept[0] / "sweep.json").read_text())
    started: list[list[str]] = []

    def failing(command: list[str], **_: Any) -> Any:
        started.append(command)
        return at_once.run_tied([command[0], "report", str(tmp_path)])

    monkeypatch.setattr(side_by_side, "run_tied", failing)
    asked = ["sweep", *words, "train.lr=1e-3,3e-2,0.5", "compare.seeds=[1, 2]", "--out", str(out), "--json"]
    code, told, progress = said(asked)
    assert code == 6
    assert (len(started), progress.count(": kept")) == (2, 4)
    document = json.loads(told)
    status = [(run["status"], bool(run["problem"])) for run in document["runs"]]
    assert status == [("finished", False)] * 4 + [("failed", True)] * 2
    assert [row["accuracy"] for row in document["points"]] == [row["accuracy"] for row in before["points"]]
    # As another command takes it up, so a file of results does.
    assert len(pack(out, tmp_path / "results.zip").packed) == 4


def test_what_cannot_be_is_refused_before_anything_is_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "run_tied", lambda *_, **__: pytest.fail("a run was started"))
    for typed, problem in (
        ("train.lr=1e-3,fast", "wrong type"),
        ("train.lrr=1e-3,1e-2", "did you mean 'train.lr'"),
        ("stem.train=averaged,local", "in the point stem.train=averaged"),
        ("federation=federated,svm", "is a baseline"),
        ("train.lr=1e-3,0.001", "stands there twice"),
        ("data.validation=0,0.2", "leaves nothing to compare by"),
    ):
        code, _, told = said(["sweep", *words, "keys.policy=per-site", typed, "--out", str(tmp_path / "S")])
        assert (code, problem in told, told.count("\n")) == (2, True, 1), told
    assert not list(tmp_path.glob("S/*/*"))


def test_from_python_some_points_are_drawn_and_impossible_ones_left_out(words: list[str], tmp_path: Path) -> None:
    plain = load_config(ExperimentConfig, None, words[1:])
    over = {"stem.train": ["averaged", "local"], "train.lr": api.Range(1e-3, 1e-2, "log")}
    plain.keys.policy, plain.seed = "per-site", 1
    made = api.sweep(plain, tmp_path / "SWEEP", over=over, random=2, leave_out=True, seeds=[5])
    (row,) = made.records()
    assert row["stem.train"] == "local"
    assert (row["seed"], row["status"], made.failed) == (5, "finished", ())
    (left,) = made.left_out
    assert "publishes the key" in left
    assert made.points()[0]["test"]["accuracy"]["mean"] == pytest.approx(row["test_accuracy"])
    # What made it was no command line: the file of its settings does.
    assert shlex.split(row["command"])[2] == str(made.folder / f"{row['folder']}.yaml")
    parquet = pytest.importorskip("pyarrow.parquet")
    (again,) = parquet.read_table(made.folder / "sweep.parquet").to_pylist()
    assert (again["train.lr"], again["validation_accuracy"]) == (row["train.lr"], row["validation_accuracy"])


def test_of_a_run_that_left_its_best_round_that_one_is_measured(swept: tuple[Path, str], tmp_path: Path) -> None:
    run = json.loads((swept[0] / "sweep.json").read_text())["runs"][3]
    copy = shutil.copytree(swept[0] / run["folder"], tmp_path / "run")
    summary = json.loads((copy / "summary.json").read_text())
    kept = {"by": "accuracy", "round": 0, "value": 0.5}
    (copy / "summary.json").write_text(json.dumps({**summary, "kept": kept}))
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    judged = {line["round"]: line["loss"] for line in lines if (line["site"], line["phase"]) == ("all", "validation")}
    assert judged[0] != judged[1] == run["validation_loss"]
    assert measured(Job("run", ExperimentConfig(), copy))["loss"] == judged[0]
