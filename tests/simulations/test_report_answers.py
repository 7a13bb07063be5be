"""What a run's page says of its answers, of what happened on the way, of attacks; and where its links lead."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, classification_report, roc_auc_score

from simulations.attacks.matrix import page as matrix_page
from simulations.attacks.matrix.part import report_of
from simulations.attacks.matrix.table import Cell, read_attacks, read_table
from simulations.attacks.registry import ATTACKS
from simulations.attacks.study.result import Measured, Result, verdict_of
from simulations.predictions import Predictions, load_predictions
from simulations.report import answers, events
from simulations.report.comparison import ArmResult, write_comparison
from simulations.report.figures import Line, curves
from simulations.report.page import write_report

MakeRun = Callable[..., Path]


def visible(path: Path) -> str:
    text = re.sub(r"<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def hrefs(path: Path) -> list[str]:
    return [each for each in re.findall(r'href="([^"]*)"', path.read_text()) if not each.startswith("#")]


def drawn(labels: list[int], rows: list[list[float]]) -> Predictions:
    ids = np.array([str(each) for each in range(len(labels))])
    return Predictions(ids, np.array(labels, np.int64), np.array(rows, np.float32))


def test_measures_of_each_class_are_those_of_the_definitions(make_run: MakeRun) -> None:
    sites = load_predictions(make_run())
    found = answers.pooled(sites)
    assert found is not None
    names = ["none", "mass", "ring", "diffuse"]
    made = answers.per_class(found, names)
    judge = classification_report(
        found.labels, found.probabilities.argmax(1), target_names=names, output_dict=True, zero_division=np.nan
    )
    for place, row in enumerate(made):
        assert row["sensitivity"] == pytest.approx(judge[row["name"]]["recall"])
        assert row["precision"] == pytest.approx(judge[row["name"]]["precision"], nan_ok=True)
        assert row["auroc"] == pytest.approx(roc_auc_score(found.labels == place, found.probabilities[:, place]))
        others = found.labels != place
        assert row["found"][0] < row["sensitivity"] < row["found"][1]
        assert row["spared"][0] < row["specificity"] < row["spared"][1]
        assert row["specificity"] == pytest.approx(np.mean(found.probabilities[others].argmax(1) != place))


def test_the_area_under_a_drawn_curve_is_its_auroc(make_run: MakeRun) -> None:
    two = load_predictions(make_run("two", classes=["no", "yes"]))
    found = answers.pooled(two)
    assert found is not None
    curves, precision = answers.curves_of(found, two, ["no", "yes"])
    assert [each.name for each in curves] == [each.name for each in precision] == list(two)
    for each, own in zip(precision, two.values(), strict=True):
        assert each.area == pytest.approx(average_precision_score(own.labels, own.probabilities[:, 1]))
        assert each.points[-1] == (0.0, 1.0)
        assert each.interval is not None
        assert each.interval[0] < each.area < each.interval[1]
    for each in curves:
        assert each.interval is not None
        assert each.interval[0] < each.area < each.interval[1]
        assert np.trapezoid([y for _, y in each.points], [x for x, _ in each.points]) == pytest.approx(each.area)
    four = load_predictions(make_run("four"))
    found = answers.pooled(four)
    assert found is not None
    curves, precision = answers.curves_of(found, four, list("abcd"))
    assert [each.name for each in curves] == list("abcd")
    for place, (roc, pr) in enumerate(zip(curves, precision, strict=True)):
        own, scores = found.labels == place, found.probabilities[:, place]
        assert roc.area == pytest.approx(roc_auc_score(own, scores), abs=1e-6)
        assert pr.area == pytest.approx(average_precision_score(own, scores), abs=1e-6)


def test_calibration_is_how_right_over_how_sure() -> None:
    rng = np.random.default_rng(0)
    yes = rng.random(500)
    made = drawn([int(each) for each in rng.random(500) < yes], [[1 - each, each] for each in yes])
    found = answers.bins(answers.Answers(made.labels, made.probabilities.astype(float), np.arange(500)))
    # The judge bins the sure side alone: all answers are at least half sure.
    sure, right = made.probabilities.max(1), (made.probabilities.argmax(1) == made.labels).astype(int)
    share, mean = calibration_curve(right, sure, n_bins=10)
    assert [each.accuracy for each in found if each.n] == pytest.approx(share.tolist())
    assert [each.confidence for each in found if each.n] == pytest.approx(mean.tolist(), abs=1e-5)
    always = drawn([0, 0, 1, 1], [[1.0, 0.0]] * 4)
    worst = answers.bins(answers.Answers(always.labels, always.probabilities.astype(float), np.arange(4)))
    assert answers.calibration_error(worst) == pytest.approx(0.5)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("rows", [[[0.5, 0.5]], [[1.0, 0.0]], [[0.2, 0.8], [0.2, 0.8]]])
def test_few_or_equal_answers_have_a_page_too(make_run: MakeRun, rows: list[list[float]]) -> None:
    run = make_run(sites=["a"], classes=["no", "yes"])
    np.savez(
        run / "sites" / "a" / "predictions.npz",
        ids=[str(each) for each in range(len(rows))],
        labels=[0] * len(rows),
        probabilities=np.array(rows, np.float32),
    )
    text = visible(write_report(run))
    assert "Expected calibration error" in text
    assert "ROC curves" not in text


@pytest.mark.usefixtures("drawn")
def test_no_section_is_empty_and_the_contents_are_the_headings(make_run: MakeRun) -> None:
    began = make_run("began", status="running", examples=False)
    for gone in (began / "metrics.jsonl", *began.glob("sites/*/site.json")):
        gone.unlink()
    for run in (make_run("whole"), make_run("failed", status="failed", examples=False), began):
        text = write_report(run).read_text()
        headings = re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', text)
        contents = re.search(r'<nav class="contents".*?</nav>', text, flags=re.DOTALL)
        assert contents is not None
        assert re.findall(r'<a href="#([^"]+)">([^<]+)</a>', contents[0]) == headings
        for section in re.findall(r"<section.*?</section>", text, flags=re.DOTALL):
            assert re.search(r"<(?:table|svg|dl|img|ul|pre)\b|every file was read", section), section[:200]
        assert "real server" not in text
        assert "real sites" not in text
    assert "Not on this page: Training" in visible(began / "report.html")


def test_a_servers_folder_says_why_it_has_less(make_run: MakeRun) -> None:
    run = make_run(examples=False)
    for file in run.glob("sites/*/*"):
        file.unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "experiment": None}))
    summary = json.loads((run / "summary.json").read_text())
    nothing = dict.fromkeys(("accuracy", "balanced_accuracy", "auroc", "majority_rate"))
    summary |= {**nothing, "thief": {"owner": nothing, "notes": {}}, "intervals_note": "they stay at the sites"}
    summary["sites"] = {site: {"n": 20, **nothing} for site in summary["sites"]}
    (run / "summary.json").write_text(json.dumps(summary))
    text = visible(write_report(run))
    assert "stay with the sites" in text
    assert "stolen model" not in text.partition("Not on this page")[0]
    assert "On each site's test images" not in text
    assert "In brackets" not in text


def test_drop_outs_and_resumes_are_shown(make_run: MakeRun) -> None:
    run = make_run()
    manifest = json.loads((run / "manifest.json").read_text())
    gone = [{"round": each, "site": "clinic-a", "reason": "no reply <b>"} for each in (1, 2, 3, 7)]
    manifest |= {"left_out": gone, "resumed": ["2026-01-02T03:05:00+00:00"] * 2, "went_on": "resuming after round 3"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = visible(write_report(run))
    assert "taken up again 2 times: 2026-01-02 03:05:00 UTC and 2026-01-02 03:05:00 UTC" in text
    assert "4 rounds went on without a site" in text
    assert "clinic-a 1 to 3, 7 4 no reply &lt;b&gt;" in text
    assert "resumed 2 times" in text


@pytest.mark.parametrize("value", ["many", 3, None, [1], {"a": 1}, [{"round": "x", "site": [], "reason": {}}]])
def test_events_of_another_kind_do_no_harm(make_run: MakeRun, value: object) -> None:
    run = make_run(examples=False)
    manifest = json.loads((run / "manifest.json").read_text())
    odd = {"left_out": value, "resumed": value, "went_on": value, "model": value}
    (run / "manifest.json").write_text(json.dumps({**manifest, **odd}))
    assert "<h2" in write_report(run).read_text()


def test_rounds_are_written_as_people_do() -> None:
    assert events.ranges({5, 1, 2, 3}) == "1 to 3, 5"


def test_the_models_size_is_shown_as_the_manifest_tells_it(make_run: MakeRun) -> None:
    run = make_run(examples=False)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["model"] = {"name": "vit_x", "width": 128, "depth": 4, "heads": 2, "patch": 8, "parameters": 1234567}
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = visible(write_report(run))
    assert "vit_x with width 128, depth 4, 2 heads; patch 8, 1.23 M parameters" in text


@pytest.mark.usefixtures("drawn")
def test_files_are_linked_relatively_and_are_there(make_run: MakeRun) -> None:
    odd = 'javascript:alert(1) "x" #?'
    page = write_report(make_run(sites=["a", odd]))
    found = hrefs(page)
    assert {"./manifest.json", "./metrics.jsonl", "./summary.json"} <= set(found)
    assert len(found) == len(set(found)) == 8
    for each in found:
        assert re.fullmatch(r"\./[\w./%-]+", each), each
        assert (page.parent / unquote(each)).is_file()


# --- attacks ---


def attacked(name: str, *, target: float | None = 0.9, wanted: int | None = None, reason: str | None = None) -> Result:
    listed = ATTACKS[name]()
    measured = Measured(
        target=target,
        control=1.0,
        chance=0.1,
        wrong_key=None,
        ci95={"target": [0.8, 0.95], "control": [1, 1], "chance": [0.1, 0.1]},
        unit="share",
        direction="higher",
        chance_rule="",
        text="what is <recovered>",
        values={},
    )
    metrics = {} if reason else {listed.main: measured}
    verdict = verdict_of(kind=listed.kind, reason=reason, main=metrics.get(listed.main), margin=listed.margin)
    data = {"path": "x", **({} if wanted is None else {"images_wanted": wanted})}
    shape = {"block": 8, "negate": True, "channels": 1, "height": 32, "width": 32, "bits": 8}
    return Result(
        attack=name,
        kind=listed.kind,
        text=listed.text,
        knowledge=sorted(map(str, listed.knowledge)),
        papers=[],
        applicable=reason is None,
        reason=reason,
        verdict=verdict,
        target={"scheme": "block-pixel", **shape},
        control="none",
        data=data,
        n=40,
        images_per_key=20,
        keys=2,
        seeds=[0, 1],
        main=listed.main,
        margin=listed.margin,
        metrics=metrics,
        seconds=3.0,
    )


def test_a_runs_attacks_are_the_matrix_pages_table(make_run: MakeRun) -> None:
    run = make_run()
    folder = run / "attacks"
    folder.mkdir()
    attacked("jigsaw", wanted=100).write(folder)
    attacked("histogram-linkage", wanted=2, reason="needs 2 images under each key, and may have 1").write(folder)
    (folder / "broken.json").write_text("{")
    page = report_of(run)
    text = page.read_text()
    rows = {each[0]: each for each in re.findall(r'<tr><th scope="row">([\w-]+)<small>(.*?)</tr>', text, re.DOTALL)}
    assert '<span class="verdict succeeds"><span>recovered</span>' in rows["jigsaw"][1]
    assert "0.900<small>[0.800, 0.950]</small>" in rows["jigsaw"][1]
    assert "made for 100 images, had 20" in rows["jigsaw"][1]
    assert "needs more images" in rows["histogram-linkage"][1]
    assert "needs 2 images under each key, and may have 1" in rows["histogram-linkage"][1]
    assert "what is &lt;recovered&gt;" in text
    assert "broken.json" in visible(page)
    assert "On block-pixel+negate: 1 of 1 attacks that apply succeeded" in visible(page)
    assert "./attacks/jigsaw.json" in hrefs(page)
    assert "2 of" not in visible(page).partition("Attacks")[0]


def test_one_folder_of_results_is_one_table_with_a_column_a_scheme(tmp_path: Path) -> None:
    attacked("jigsaw").write(tmp_path)
    table = read_attacks(tmp_path)
    assert table.columns == ("block-pixel+negate",)
    assert [row.attack for row in table.rows] == ["jigsaw"]
    # Another target has a file and a column of its own, and the same one again takes its own place.
    other = dataclasses.replace(attacked("jigsaw"), target={**attacked("jigsaw").target, "block": 32})
    for _ in range(2):
        other.write(tmp_path)
        attacked("jigsaw").write(tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2
    table = read_attacks(tmp_path)
    block = attacked("jigsaw").target["block"]
    assert set(table.columns) == {f"block-pixel+negate: block {block}", "block-pixel+negate: block 32"}
    stems = {each.stem for each in table.rows[0].cells}
    assert "jigsaw" in stems and {f"{each}.json" for each in stems} == {each.name for each in tmp_path.glob("*.json")}


@pytest.mark.parametrize("wanted", ["many", None, True, [], 1.5])
def test_a_wanted_number_of_another_kind_is_none(wanted: object) -> None:
    odd = dataclasses.replace(attacked("jigsaw"), data={"images_wanted": wanted})
    assert Cell("none", "jigsaw", result=odd).images_wanted is None


def test_a_matrix_of_many_figures_stays_small_and_links_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name, attack in ATTACKS.items() if attack.kind == "attack"]
    for scheme in ("none", "block-pixel", "per-block"):
        (tmp_path / scheme).mkdir()
        for name in names:
            dataclasses.replace(attacked(name), figure=f"{name}.png").write(tmp_path / scheme)
            (tmp_path / scheme / f"{name}.png").write_bytes(b"png")
    monkeypatch.setattr(matrix_page, "draw", lambda table, path: path.write_bytes(b"a picture"))
    # As large as a figure of real images is.
    monkeypatch.setattr(matrix_page, "_figure", lambda cell, folder: "data:image/webp;base64," + "A" * 100_000)
    page = matrix_page.write_page(tmp_path, read_table(tmp_path))
    assert page.stat().st_size < 2_000_000
    text = page.read_text()
    assert 5 < text.count("data:image/webp") < 3 * len(names)
    for each in hrefs(page):
        assert (tmp_path / unquote(each)).is_file()
    assert len([each for each in hrefs(page) if each.endswith(".png")]) == 3 * len(names) + 1


# --- several arms ---


@pytest.mark.usefixtures("drawn")
def test_a_comparison_has_links_curves_and_the_configuration(make_run: MakeRun, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> Path:
        made = make_run(f"cmp/{name}/seed-{seed}", seed=seed, examples=False, keys="none" if name == "a" else "shared")
        write_report(made)
        return made

    rows = [ArmResult(name, name, None, [run(name, 0), run(name, 1)]) for name in "ab"]
    page = write_comparison(rows[0].runs[0].parents[1], rows)
    text = page.read_text()
    assert [each for each in hrefs(page) if each.endswith("report.html")] == [
        f"./{name}/seed-{seed}/report.html" for name in "ab" for seed in (0, 1)
    ]
    for each in hrefs(page):
        assert (page.parent / unquote(each)).is_file()
    assert re.findall(r"<h2 id=\"([^\"]+)\"", text) == re.findall(r'<a href="#([^"]+)"', text)
    assert "curve-auroc" in text
    assert "alpha: 0.5" in text
    assert "keys: policy none" in visible(page)
    assert "No arm has a twin" not in text
    elsewhere = write_comparison(tmp_path / "out", rows)
    assert [each for each in hrefs(elsewhere) if "report" in each] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hidden", "on images that another party had hidden"),
        ("phantoms", "on images that were not hidden"),
        (None, "on images that no key of this run hid"),
    ],
)
def test_what_another_party_hid_is_not_called_plain(make_run: MakeRun, source: str | None, words: str) -> None:
    run = make_run(keys="none")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["experiment"] = {} if source is None else {**manifest["experiment"], "data": {"source": source}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = visible(write_report(run))
    assert words in text
    assert ("not hidden: test" in text) == (source == "phantoms")


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("at", [0, 1, 7])
def test_one_round_alone_has_one_tick(at: int) -> None:
    made = str(curves([Line("one", [(at, 0.5)]), Line("two", [(at, 0.7)])], name="x", label="y"))
    ticks = [each for each in re.findall(r">([^<>]+)</text>", made) if re.fullmatch(r"[-\u2212]?[0-9.]+", each)]
    assert [each for each in ticks if "." not in each] == [str(at)]
    assert not [each for each in ticks if each.startswith(("-", "\u2212"))]


def test_the_page_says_which_model_is_left_and_where_it_is_worst(make_run: MakeRun) -> None:
    run = make_run()
    summary = json.loads((run / "summary.json").read_text())
    for place, site in enumerate(summary["sites"].values()):
        site["accuracy"] = 0.6 + 0.1 * place
    summary["kept"] = {"round": 8, "by": None, "value": None}
    (run / "summary.json").write_text(json.dumps(summary))
    text = visible(write_report(run))
    first, *_, last = summary["sites"]
    assert f"accuracy 0.600 at {first} to 0.900 at {last} (spread +30.00 points)" in text.replace("\u2212", "-")
    assert "that of the last round, 8 (server.keep=last)" in text
    assert "Precision and recall" in text
    assert "Training images at each site, by class" in text
