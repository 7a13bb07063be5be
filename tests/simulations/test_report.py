"""The page about a run: whole, self-contained, honest about what is missing, and deaf to what names say."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from medveil.errors import DataError, FormatError, IntegrityError, StorageError
from medveil.pages.pictures import data_uri
from models.policy import POLICIES
from simulations.equivalence import equivalence_test, prediction_agreement
from simulations.predictions import load_predictions
from simulations.report import words
from simulations.report.comparison import ArmResult, write_comparison
from simulations.report.figures import Line, curves, spread
from simulations.report.page import write_report
from simulations.statistics import METRICS, add_intervals, interval_of, mean_metric

MakeRun = Callable[..., Path]
SECTIONS = (
    "Training",
    "Hospitals",
    "Classes",
    "ROC curves",
    "Calibration",
    "What a stolen model is worth without the key",
    "What hiding does to an image",
    "Policies",
    "Skipped files",
    "Configuration",
    "Environment",
    "Files",
)
UNFINISHED = tuple(each for each in SECTIONS if each not in SECTIONS[2:7])
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What the tests ask of a page: its tags, attributes, visible text, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"} and "tr" in self._open:
            self.rows[-1].append("")
        if tag == "h2":
            self.headings.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts.append(data)
        if self._open and self._open[-1] == "h2":
            self.headings[-1] += data
        if "tr" in self._open and ("td" in self._open or "th" in self._open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def assert_self_contained(page: Page) -> None:
    for link in page.values("src") + page.values("xlink:href"):
        assert link.startswith(("data:image/png;base64,", "#")), link[:60]
    # A link is followed by a click alone, and only to a file beside the page.
    for link in page.values("href"):
        assert re.fullmatch(r"#.*|\./[\w./%-]+", link, flags=re.DOTALL), link[:60]
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]


def charts(page: Page) -> list[dict[str, str]]:
    return [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "chart"]


def assert_ids(page: Page) -> None:
    ids = page.values("id")
    assert [each for each, times in Counter(ids).items() if times > 1] == []
    for link in page.values("href"):
        if link.startswith("#"):
            assert link[1:] in ids
    used = [
        name
        for value in (*page.values("clip-path"), *page.values("style"))
        for name in re.findall(r"url\(#([^)]+)\)", value)
    ]
    assert set(used) <= set(ids)
    for name in page.values("aria-labelledby"):
        assert name in ids


# --- a finished run ---


@pytest.mark.usefixtures("drawn")
def test_a_finished_run_says_what_it_found(make_run: MakeRun) -> None:
    run = make_run(keys="per-site", images=160)
    summary = add_intervals(run)
    page = read(write_report(run))
    assert tuple(page.headings) == SECTIONS
    low, high = summary["intervals"]["auroc"]
    assert "4 hospitals trained vit_tiny_patch16_224 for 8 rounds on images hidden with block-pixel" in page.text
    assert f"test accuracy {summary['accuracy']:.3f} [" in page.text
    assert f"AUROC {summary['auroc']:.3f} [{low:.3f}, {high:.3f}]" in page.text
    assert f"most common class would score {summary['majority_rate']:.3f}" in page.text
    for site, row in summary["sites"].items():
        wanted = [site, str(row["n"]), *(f"{row[key]:.3f}" for key in (*METRICS, "majority_rate"))]
        assert wanted in page.rows
    assert_self_contained(page)
    assert_ids(page)
    assert "secure" not in page.text.lower()


def test_the_confusion_matrix_counts_the_predictions(make_run: MakeRun) -> None:
    run = make_run()
    page = read(write_report(run))
    sites = load_predictions(run).values()
    labels = np.concatenate([each.labels for each in sites])
    counts = confusion_matrix(labels, np.concatenate([each.predicted for each in sites]))
    row = next(row for row in page.rows if row[0] == "mass" and len(row) == 6)
    share = 100 * counts[1] / counts[1].sum()
    assert row[1:5] == [f"{n}{part:.0f} %" for n, part in zip(counts[1], share, strict=True)]
    assert row[5] == str(counts[1].sum())


def test_the_runs_own_policy_is_marked_and_every_policy_is_listed(make_run: MakeRun) -> None:
    page = read(write_report(make_run(keys="per-site")))
    listed = [row for row in page.rows if len(row) == 4 and row[3] in {each.note for each in POLICIES}]
    assert len(listed) == len(POLICIES)
    marked = [row for row in listed if "this run" in row[0]]
    assert [row[1:3] for row in marked] == [["adapted", "local"]]
    assert page.values("aria-current") == ["true"]


def test_the_thief_is_told_by_the_numbers(make_run: MakeRun) -> None:
    hidden = read(write_report(make_run("hidden", keys="per-site")))
    assert ["a thief", "whole model, a wrong key", "0.310", "0.520"] in hidden.rows
    assert "% of what the owner's" in hidden.text
    plain = read(write_report(make_run("plain", keys="none")))
    assert any(row[0] == "a thief" and "not applicable: no key is used" in row[1] for row in plain.rows)
    assert "% of what the owner's" not in plain.text


def test_a_thief_says_nothing_where_the_owner_is_at_chance(make_run: MakeRun) -> None:
    run = make_run(signal=0.0)
    add_intervals(run)
    page = read(write_report(run))
    assert "cannot be told from chance" in page.text
    assert "% of what the owner's" not in page.text


def looked_at(run: Path, **changes: object) -> None:
    """Four images of the classes none and mass: a hit, and a miss that is taken for a ring, of each."""
    rng = np.random.default_rng(3)
    probabilities = np.array([[0.9, 0.1, 0, 0], [0.2, 0.1, 0.7, 0], [0.1, 0.6, 0.3, 0], [0.1, 0.25, 0.65, 0]])
    arrays = {
        "images": rng.integers(0, 256, (4, 1, 12, 12), dtype=np.uint8),
        "shares": np.array([[0.2, 0.2, 0.2, 0.2], [0.4, 0.2, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.2]]),
        "labels": np.array([0, 0, 1, 1]),
        "probabilities": probabilities,
        "sites": np.array(["clinic-a", "clinic-b", "clinic-a", "clinic-b"]),
        "padded": np.int64(16),
        "refused": np.array(""),
    }
    np.savez(run / "looked.npz", **{**arrays, **changes})


def test_hits_and_misses_are_drawn_with_the_attention_above_an_equal_share(make_run: MakeRun) -> None:
    run = make_run(examples=False)
    looked_at(run)
    page = read(write_report(run))
    assert_self_contained(page)
    assert "Hits and misses" in page.headings
    for sentence in (
        "hit none 0.90",
        "miss ring 0.70right: none 0.20",
        "miss ring 0.65right: mass 0.25",
        "clinic-b, up to 2.00×",
        "The fullest tint on this page is 2.00 times an equal share",
        "Test images of clinic-a and clinic-b",
    ):
        assert sentence in page.text
    tints = [attrs["src"] for tag, attrs in page.tags if tag == "img" and attrs.get("class") == "tint"]
    # Hits come first in each class.
    alpha = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each.partition(",")[2]))))[..., 3] for each in tints]
    assert [each.shape for each in alpha] == [(2, 2)] * 4
    assert not alpha[0].any()
    full = alpha[1][0, 0]
    assert alpha[1].tolist() == [[full, 0], [0, 0]]
    assert alpha[3][1, 1] == pytest.approx(0.6 * full, abs=1)
    assert "--scale: 133.333%" in page.values("style")


def test_hits_and_misses_without_attention_say_why(make_run: MakeRun) -> None:
    run = make_run()
    looked_at(run, shares=np.zeros((0, 1)), refused=np.array("differential attention <i>"))
    page = read(write_report(run))
    assert "Attention rollout is not drawn: differential attention <i>." in page.text
    assert not [tag for tag, attrs in page.tags if attrs.get("class") == "tint"]


@pytest.mark.parametrize("changes", [{"labels": np.zeros(3, int)}, {"images": np.zeros((4, 9))}, {"padded": "x"}])
def test_pictures_that_no_run_wrote_are_named_and_left_out(make_run: MakeRun, changes: dict[str, object]) -> None:
    run = make_run()
    looked_at(run, **changes)
    page = read(write_report(run))
    assert "looked.npz: is not what a run writes" in page.text
    assert "Hits and misses" not in page.headings


def test_pictures_are_the_arrays_of_the_run(make_run: MakeRun) -> None:
    run = make_run()
    page = read(write_report(run))
    shown = [attrs for tag, attrs in page.tags if tag == "img"]
    with np.load(run / "examples.npz") as stored:
        assert len(shown) == 4 * len(stored["original"])
        packed = base64.b64decode(shown[1]["src"].partition(",")[2])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(packed))), stored["ciphertext"][0, 0])
    assert shown[1]["alt"] == "image 1, ciphertext"
    assert "throwaway key that hid nothing else" in page.text


def test_pictures_in_colour_and_of_16_bits() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, size=(3, 5, 7), dtype=np.uint8)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri(colour).partition(",")[2]))))
    np.testing.assert_array_equal(found, np.moveaxis(colour, 0, -1))
    deep = rng.integers(32000, 33021, size=(1, 5, 7)).astype(np.uint16)
    deep[0, 0, :3] = 32000, 33020, 32508
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri(deep).partition(",")[2]))))
    np.testing.assert_allclose(found, (deep[0] - 32000) / 4, atol=0.5)
    assert found[0, :3].tolist() == [0, 255, 127]
    flat = np.full((1, 5, 7), 40000, np.uint16)
    assert not np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri(flat).partition(",")[2])))).any()


def test_skipped_files_are_named(make_run: MakeRun) -> None:
    page = read(write_report(make_run("some", skipped=2)))
    assert ["clinic-a", "patient-001/slice-1.dcm", "cannot read the pixels: truncated"] in page.rows
    assert "2 files were left out" in page.text
    assert "every file was read" in read(write_report(make_run("none", skipped=0))).text


@pytest.mark.usefixtures("drawn")
def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    run = make_run()
    assert write_report(run).read_bytes() == write_report(run).read_bytes()
    assert [each.name for each in run.iterdir() if each.name.startswith(".")] == []


# --- runs that did not end well ---


@pytest.mark.usefixtures("drawn")
def test_a_failed_run_shows_what_there_is(make_run: MakeRun) -> None:
    run = make_run(status="failed", error="FederationError: clinic-c: no reply within 600 s", examples=False)
    page = read(write_report(run))
    assert tuple(page.headings) == UNFINISHED
    assert "Failed. Below is what it had written until then." in page.text
    assert "FederationError: clinic-c: no reply within 600 s" in page.text
    assert "hospitals were to train" in page.text
    assert "Not on this page: Classes, Calibration" in page.text
    assert len(charts(page)) == 4
    assert_self_contained(page)


@pytest.mark.usefixtures("drawn")
def test_a_run_that_only_began_has_a_page(make_run: MakeRun) -> None:
    run = make_run(status="running", examples=False)
    for gone in (run / "metrics.jsonl", *run.glob("sites/*/site.json")):
        gone.unlink()
    page = read(write_report(run))
    assert "Not finished" in page.text
    assert "Not on this page: Training" in page.text
    assert "Skipped files" not in page.headings


def test_an_interrupted_run_with_predictions_still_shows_them(make_run: MakeRun) -> None:
    run = make_run()
    (run / "summary.json").unlink()
    page = read(write_report(run))
    site, each = next(iter(load_predictions(run).items()))
    assert any(row[:3] == [site, str(len(each)), f"{each.correct.mean():.3f}"] for row in page.rows)


def test_broken_files_are_named_and_left_out(make_run: MakeRun) -> None:
    run = make_run()
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"round": 9, "site": "clin')
    (run / "summary.json").write_text("{")
    (run / "examples.npz").write_bytes(b"PK\x03\x04 cut")
    next(run.glob("sites/*/predictions.npz")).write_bytes(b"")
    page = read(write_report(run))
    for name in ("metrics.jsonl: line", "summary.json", "examples.npz", "predictions.npz"):
        assert name in page.text
    assert len(charts(page)) == 4


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "medveil-manifest", "version": 2}')
    with pytest.raises(FormatError, match="version 2"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(IntegrityError):
        write_report(tmp_path)


# --- untrusted text ---

EVIL = "<script>alert(1)</script>\"'&$x^2$ url(https://example.org) \x07\x1b[2J"


@pytest.mark.usefixtures("drawn")
def test_nothing_that_a_site_says_becomes_markup(make_run: MakeRun) -> None:
    run = make_run(name=EVIL, classes=["a", "<img src=x onerror=alert(1)>"], status="finished", error=EVIL)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["sites"][0]["site"] = EVIL
    manifest["environment"][EVIL] = EVIL
    manifest["left_out"] = [{"round": 1, "site": EVIL, "reason": EVIL}]
    (run / "manifest.json").write_text(json.dumps(manifest))
    summary = json.loads((run / "summary.json").read_text())
    summary["sites"][EVIL] = summary["sites"].pop("clinic-a")
    (run / "summary.json").write_text(json.dumps(summary))
    lines = (run / "metrics.jsonl").read_text().replace('"clinic-a"', json.dumps(EVIL))
    (run / "metrics.jsonl").write_text(lines)
    site = {"skipped": [{"path": EVIL, "reason": EVIL}]}
    (run / "sites" / "clinic-a" / "site.json").write_text(json.dumps(site))
    path = write_report(run)
    page = read(path)
    assert_self_contained(page)
    assert_ids(page)
    assert page.text.count("<script>alert(1)</script>") >= 8
    controls = {letter for letter in path.read_text() if unicodedata.category(letter) in {"Cc", "Cf"}}
    assert controls == {"\n"}, "a terminal would obey it"
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("value", ["many", None, [1], {"a": 1}, True])
def test_values_of_another_kind_are_shown_as_missing(make_run: MakeRun, value: object) -> None:
    run = make_run(examples=False)
    summary = json.loads((run / "summary.json").read_text())
    summary |= dict.fromkeys(("accuracy", "auroc", "rounds", "seconds", "intervals", "thief", "bytes_up"), value)
    summary["sites"]["clinic-a"]["accuracy"] = value
    (run / "summary.json").write_text(json.dumps(summary))
    page = read(write_report(run))
    assert any(row[0] == "clinic-a" and row[2] == "–" for row in page.rows)


def test_a_summary_that_is_no_json_is_named(make_run: MakeRun) -> None:
    run = make_run(examples=False)
    (run / "summary.json").write_text((run / "summary.json").read_text().replace("{", '{"seconds": Infinity, ', 1))
    assert "summary.json: is not a whole JSON document" in read(write_report(run)).text


# --- charts ---


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(("sites", "rounds"), [(1, 1), (2, 40), (6, 3), (9, 5)])
def test_charts_of_any_number_of_sites_and_rounds(make_run: MakeRun, sites: int, rounds: int) -> None:
    path = write_report(make_run(sites=[f"site-{i}" for i in range(sites)], rounds=rounds, examples=False))
    page = read(path)
    drawn = charts(page)
    assert len(drawn) == 7
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)
    assert_ids(page)
    assert path.read_text().count(">each site</text>") == (3 if sites > 6 else 0)


@pytest.mark.usefixtures("drawn")
def test_charts_use_the_pages_colours_and_fonts() -> None:
    made = str(
        curves([Line("a", [(0, 0.1), (1, 0.2)]), Line("all", [(0, 0.1), (1, 0.3)], main=True)], name="x", label="y")
    )
    assert "var(--series-1)" in made
    assert "var(--ink)" in made
    assert "#0102" not in made
    assert "#0101" not in made
    assert "font-family" not in made
    assert "<text" in made


@pytest.mark.usefixtures("drawn")
def test_a_chart_is_described_in_words() -> None:
    made = str(curves([Line("a<b>", [(0, 0.5)])], name="x", label='5 < 6 & "so"'))
    page = Page(made)
    assert page.values("aria-label") == ['5 < 6 & "so"']
    assert "a<b>" in page.text


@pytest.mark.parametrize("wanted", [[5.0, 5.0, 5.0], [0.0, 1.0, 50.0], [99.0, 98.0, 97.0], [50.0]])
def test_labels_keep_apart_and_stay_near(wanted: list[float]) -> None:
    made = spread(wanted, gap=10, low=0, high=100)
    ordered = sorted(made)
    assert all(b - a >= 10 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert min(made) >= 0
    assert max(made) <= 100
    assert np.argsort(made, kind="stable").tolist() == np.argsort(wanted, kind="stable").tolist()


def test_labels_with_room_do_not_move() -> None:
    assert spread([70.0, 10.0, 40.0], gap=10, low=0, high=100) == [70.0, 10.0, 40.0]
    assert spread([50.0, 50.0], gap=10, low=0, high=100) == [45.0, 55.0]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (words.seconds(8.24), "8.2 s"),
        (words.seconds(59.99), "1 min 0 s"),
        (words.seconds(8040), "2 h 14 min"),
        (words.size(21_400_000), "21.4 MB"),
        (words.size(999_600), "1.0 MB"),
        (words.size(12), "12 B"),
        (words.count(1234567), "1\u202f234\u202f567"),
        (words.score(float("nan")), "–"),
        (words.percent(0.9999), "99.9 %"),
        (words.percent(1.0), "100 %"),
        (words.points(-0.0032), "−0.32"),
        (words.p_value(1e-9), "< 0.001"),
    ],
)
def test_numbers_as_words(made: str, wanted: str) -> None:
    assert made == wanted


# --- several arms ---


@pytest.fixture
def arms(make_run: MakeRun) -> list[ArmResult]:
    common = {"classes": ["normal", "pneumonia"], "examples": False, "images": 90}

    def row(name: str, twin: str | None, **options: object) -> ArmResult:
        runs = [
            make_run(f"{name}/seed-{seed}", name=f"trial {name}", seed=seed, **common, **options) for seed in range(3)
        ]
        return ArmResult(name=name, policy=f"what {name} is", twin=twin, runs=runs)

    return [
        row("fedper", None, keys="none"),
        row("per-site-adapted", "fedper", keys="per-site"),
        row("per-site-secret", "fedper", keys="per-site", signal=0.9, noise=3),
        row("aes-ctr", "gone", keys="shared", signal=0.0, noise=4),
    ]


@pytest.mark.usefixtures("drawn")
def test_a_comparison_equals_what_the_run_folders_say(arms: list[ArmResult], tmp_path: Path) -> None:
    page = read(write_comparison(tmp_path / "out", arms))
    stored = json.loads((tmp_path / "out" / "compare.json").read_text())
    predictions = {row.name: [load_predictions(run) for run in row.runs] for row in arms}
    assert [each["name"] for each in stored["arms"]] == list(predictions)
    for each in stored["arms"]:
        runs = predictions[each["name"]]
        for metric in METRICS:
            score = each["scores"][metric]
            assert score["mean"] == mean_metric(runs, metric)
            assert score["interval"] == list(interval_of(runs, metric))
            assert score["seeds"] == [mean_metric([run], metric) for run in runs]
    secret = stored["arms"][2]["twin"]
    pair = predictions["per-site-secret"], predictions["fedper"]
    assert secret["agreement"] == prediction_agreement(*pair) < 1
    assert secret["equivalence"]["p_value"] == equivalence_test(*pair).p_value
    assert not secret["equivalence"]["equivalent"]
    adapted = stored["arms"][1]["twin"]
    assert adapted["agreement"] == 1.0
    assert adapted["equivalence"]["equivalent"]
    assert adapted["equivalence"]["n"] == sum(len(site) for run in predictions["fedper"] for site in run.values())
    assert [each["auroc_at_chance"] for each in stored["arms"]] == [False, False, False, True]
    assert stored["arms"][3]["twin"]["reason"] == "the twin was not run"
    summaries = [json.loads((run / "summary.json").read_text()) for run in arms[2].runs]
    assert stored["arms"][2]["thief"]["public_stem"]["auroc"] == pytest.approx(
        np.mean([each["thief"]["public_stem"]["auroc"] for each in summaries])
    )
    assert stored["arms"][0]["thief"]["wrong_key"] == {"accuracy": None, "auroc": None}
    assert stored["name"] == "trial"
    assert page.headings == [
        "Scores",
        "Training",
        "Beside the plaintext twin",
        "What a stolen model is worth without the key",
        "Costs",
        "Runs and files",
        "Configuration",
    ]
    assert "equivalent within ±1 point (p < 0.001" in page.text
    assert "the twin was not run" in page.text
    assert_self_contained(page)
    assert_ids(page)
    assert "secure" not in page.text.lower()


def test_a_comparison_is_also_a_csv_and_a_markdown_table(arms: list[ArmResult], tmp_path: Path) -> None:
    write_comparison(tmp_path, arms)
    stored = json.loads((tmp_path / "compare.json").read_text())["arms"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "compare.csv").read_text())))
    assert [float(row["auroc_low"]) for row in rows] == [each["scores"]["auroc"]["interval"][0] for each in stored]
    assert rows[0]["agreement"] == ""
    table = [line for line in (tmp_path / "compare.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(arms)
    assert len({line.count("|") for line in table}) == 1
    assert f"{stored[3]['scores']['auroc']['mean']:.3f} [" in table[5]


def test_arms_are_paired_by_seed_and_not_by_place(arms: list[ArmResult], tmp_path: Path) -> None:
    plain, adapted = arms[:2]
    some = ArmResult(adapted.name, adapted.policy, adapted.twin, list(reversed(adapted.runs))[:2])
    write_comparison(tmp_path, [plain, some])
    twin = json.loads((tmp_path / "compare.json").read_text())["arms"][1]["twin"]
    assert twin["seeds"] == [1, 2]
    assert twin["agreement"] == 1.0


def test_arms_on_other_images_are_not_compared(arms: list[ArmResult], make_run: MakeRun, tmp_path: Path) -> None:
    other = make_run("other", seed=0, classes=["normal", "pneumonia"], images=50, examples=False)
    row = ArmResult("per-site-adapted", "", "fedper", [other])
    page = read(write_comparison(tmp_path, [arms[0], row]))
    twin = json.loads((tmp_path / "compare.json").read_text())["arms"][1]["twin"]
    assert twin["agreement"] is None
    assert "did not predict the same images" in twin["reason"]
    assert "did not predict the same images" in page.text


def test_arms_without_results_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    unfinished = make_run("unfinished", status="running")
    with pytest.raises(DataError, match="no run with predictions"):
        write_comparison(tmp_path, [ArmResult("plain", "", None, [unfinished])])
    done = make_run("done")
    with pytest.raises(DataError, match="two runs of seed 0"):
        write_comparison(tmp_path, [ArmResult("plain", "", None, [done, done])])
    with pytest.raises(DataError, match="no arm"):
        write_comparison(tmp_path, [])
    assert not (tmp_path / "compare.html").exists()


@pytest.mark.usefixtures("drawn")
def test_names_of_arms_are_text(make_run: MakeRun, tmp_path: Path) -> None:
    page = read(write_comparison(tmp_path, [ArmResult(EVIL + "|", EVIL, EVIL, [make_run("run")])]))
    assert_self_contained(page)
    assert_ids(page)
    table = [line for line in (tmp_path / "compare.md").read_text().splitlines() if line.startswith("|")]
    assert len({re.sub(r"\\\|", "", line).count("|") for line in table}) == 1
