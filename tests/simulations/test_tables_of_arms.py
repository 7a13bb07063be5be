"""What a comparison's documents say for a table: paired differences with baselines, costs, command and commit."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docsite import results
from docsite.taken import take

from fl_server.spent import Spent
from medveil.config import load_config
from simulations import made, statistics
from simulations.arms import ARMS, as_experiment
from simulations.config import ExperimentConfig
from simulations.predictions import load_predictions
from simulations.report.comparison import ArmResult, write_comparison
from simulations.run import run_experiment

NAMES = ("plain", "centralised", "nearest-neighbour", "svm")
COMMAND = "medveil-sim compare FILE --out OUT"


def experiment(path: Path, *more: str) -> ExperimentConfig:
    given = ["sites=2", "rounds=1", "data.source=npz", f"data.path={path}", "cipher.block=8", "train.batch_size=16"]
    given += ["model.width=24", "model.depth=1", "model.heads=2", "threads=1", "train.epochs=1"]
    return load_config(ExperimentConfig, None, [*given, *more])


def run(base: ExperimentConfig, arm: str, out: Path) -> Path:
    run_experiment(as_experiment(base, ARMS[arm], 0), out, progress=False, report=lambda run: run)
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("tables") / "d.npz"
    labels = np.arange(120) % 2
    images = np.random.default_rng(0).integers(0, 200, (120, 16, 16)).astype(np.uint8)
    images[labels == 1, :8] += 40
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="module")
def folder(data: Path) -> Path:
    """The documents about four arms, two of them baselines; each site tests on images of its own."""
    base, root = experiment(data), data.parent
    rows = []
    for arm in NAMES:
        ran = run(base, arm, root / arm / "seed-0")
        rows.append(ArmResult(arm, ARMS[arm].text, ARMS[arm].twin, [ran], baseline=ARMS[arm].is_baseline))
    write_comparison(root / "out", rows, command=COMMAND)
    return root / "out"


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return document


def right(root: Path, arm: str) -> dict[str, bool]:
    sites = load_predictions(root / arm / "seed-0").values()
    return {name: bool(is_right) for each in sites for name, is_right in zip(each.ids, each.correct, strict=True)}


@pytest.mark.parametrize("arm", ["plain", "centralised"])
def test_an_arm_is_paired_with_each_baseline_image_by_image(found: dict[str, Any], data: Path, arm: str) -> None:
    own = next(each for each in found["arms"] if each["name"] == arm)
    assert [pair["name"] for pair in own["beside_baselines"]] == ["nearest-neighbour", "svm"]
    for pair in own["beside_baselines"]:
        mine, theirs = right(data.parent, arm), right(data.parent, pair["name"])
        assert set(mine) == set(theirs)
        test = pair["equivalence"]
        assert test["n"] == len(mine)
        assert test["difference"] == pytest.approx(np.mean([mine[name] - theirs[name] for name in mine]))
        (low, high), (narrow_low, narrow_high) = test["interval_95"], test["interval_90"]
        assert low < narrow_low <= test["difference"] <= narrow_high < high


def test_what_an_arm_took_stands_beside_it(found: dict[str, Any], folder: Path) -> None:
    arms = {each["name"]: each for each in found["arms"]}
    for name in ("plain", "centralised"):
        cpu = arms[name]["cpu_seconds"]
        assert 0 < cpu["training"] < cpu["all"]
        assert arms[name]["parameters"] > 1000
    assert arms["svm"]["cpu_seconds"]["all"] > 0
    assert arms["svm"]["parameters"] is None
    lines = [json.loads(line) for line in (folder.parent / "plain/seed-0/metrics.jsonl").read_text().splitlines()]
    sent = [line["bytes_up"] for line in lines if line["phase"] == "train" and line["site"] == "site-1"]
    assert arms["plain"]["bytes_a_round_and_site"]["up"] == sent[0]
    with (folder / "compare.csv").open(newline="") as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    assert float(rows["plain"]["cpu_seconds"]) == arms["plain"]["cpu_seconds"]["all"]
    assert rows["centralised"]["above_baseline_low"] != ""
    assert found["command"] == COMMAND
    text = (folder / "compare.md").read_text()
    assert "Accuracy of each arm less each baseline's" in text
    assert text.count("| centralised | ") == 3
    # What a terminal does not show is not in it, but for the blanks of intervals, which are put right there.
    assert {each for each in text if not each.isascii()} <= set("\u00a0–−")
    page = (folder / "compare.html").read_text()
    assert "of it training" in page
    assert page.count('<th scope="row">centralised</th><td>') >= 2


def test_a_run_names_the_commit_it_was_made_by(found: dict[str, Any], folder: Path) -> None:
    by = made.commit()
    assert found["commits"] == ([] if by is None else [by])
    path = folder.parent / "svm" / "seed-0" / "manifest.json"
    made.note_commit(path.parent, "another")
    made.note_commit(path.parent, "another")
    assert json.loads(path.read_text())["commits"] == [*found["commits"], "another"]


# Whatever is imported on the way was imported by the runs of that fixture.
@pytest.mark.usefixtures("folder")
@pytest.mark.slow
def test_by_the_clock_one_place_spends_what_all_sites_do(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    base = experiment(data, "train.minutes=0.01", "rounds=2")
    spent = {}
    for arm in ("plain", "centralised"):
        summary = json.loads((run(base, arm, tmp_path / arm) / "summary.json").read_text())
        spent[arm] = summary["cpu_seconds"]["training"]
    # Two sites of 0.6 s of processor time each; what they do around their steps comes on top.
    assert spent["plain"] == pytest.approx(1.2, abs=0.4)
    assert spent["centralised"] == pytest.approx(spent["plain"], abs=0.4)


def test_time_goes_on_from_a_checkpoint() -> None:
    first = Spent()
    with first.training():
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
    told = first.as_scalars()
    assert 0.02 <= told["cpu_training"] <= told["cpu_seconds"]
    again = Spent(told).as_scalars()
    assert all(again[name] >= told[name] for name in told)
    # Whoever is told of it late has counted since it began.
    late = Spent()
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    late.goes_on(told)
    assert late.as_scalars()["cpu_seconds"] >= told["cpu_seconds"] + 0.02
    # A checkpoint of an older MedVeil tells the wall's time alone.
    assert Spent({"seconds": 7.0}).as_scalars()["seconds"] >= 7.0


def test_what_a_comparison_left_becomes_the_tables_of_a_page(
    folder: Path, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    private = {**found, "command": f"medveil-sim compare a data.path={tmp_path}/d.npz 'x=[1, 2]' --out {tmp_path}/out"}
    (folder / "compare.json").write_text(json.dumps(private))
    taken = take(folder, tmp_path, name="tiny")
    assert str(folder.parent) not in taken.read_text()
    assert str(tmp_path) not in taken.read_text()
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- results: tiny.json -->\n<!-- /results -->\n\n<!-- results: tiny.json differences -->\n<!-- /results -->\n"
    )
    assert results.write([page]) == [page]
    assert results.wrong([page]) == []
    text, central = page.read_text(), found["arms"][1]
    assert "Measured with `medveil-sim compare a data.path=d.npz 'x=[1, 2]' --out out`" in text
    score = central["scores"]["accuracy"]
    told = f"{score['mean']:.3f} [{score['interval'][0]:.3f}"
    assert f"| all images in one place, nothing hidden (`centralised`) | 1 | {told}" in text
    assert "| 1 split, nothing drawn |" in text
    assert f"| `centralised` | {central['parameters']:,.0f} | {central['cpu_seconds']['all'] / 60:.1f} |" in text
    for pair in central["beside_baselines"]:
        line = f"| `centralised` | `{pair['name']}` | {100 * pair['equivalence']['difference']:+.2f} | ["
        assert text.count(line) == 2
    # A figure changed by hand is found, in the whole and in a part.
    page.write_text(text.replace(line, line.replace("| [", "| (")))
    assert len(results.wrong([page])) == 2
    other = tmp_path / "other.md"
    for head, cell, right in (("less", "`svm`", True), ("less", "`cnn`", False), ("thief", "1", False)):
        other.write_text(
            f"<!-- rows of: {page} tiny.json -->\n| arm | {head} |\n|---|---|\n| `plain` | {cell} |\n<!-- /rows -->\n"
        )
        assert (results.wrong([other]) == []) == right
    with pytest.raises(SystemExit, match="has no part 'nothing'; a comparison has scores"):
        results.rendered("tiny.json nothing")


@pytest.mark.parametrize(
    ("name", "why"), [("../x", "no name of a file"), ("A b", "no name of a file"), ("ok", "holds none")]
)
def test_what_is_no_result_is_not_taken(tmp_path: Path, name: str, why: str) -> None:
    if why == "no name of a file":
        (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(SystemExit, match=why):
        take(tmp_path, tmp_path, name=name)
