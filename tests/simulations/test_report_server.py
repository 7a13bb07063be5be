"""The page of a real server's run: what sites withhold is called that, and nothing is said of files it has not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fl_server.initial
from simulations.report.page import write_report
from simulations.statistics import _too_few

WITHHELD = "withholds what few images would show (its limits.smallest_count)"
ROUNDED = "rounds numbers of images down to a multiple of its limits.smallest_count"
OF_IMAGES = "Predictions and examples are of your images"
METRICS = ("loss", "accuracy", "balanced_accuracy", "auroc")


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def partly(document: dict[str, Any]) -> None:
    document["rests_on"] = {name: {"n": 0, "sites": 0, "of_sites": 2} for name in METRICS}


@pytest.fixture
def run(make_run: Callable[..., Path]) -> Path:
    folder = make_run()
    edit(folder / "summary.json", partly)
    return folder


def as_a_servers(folder: Path) -> Path:
    """The same run as a server of real sites leaves it."""
    edit(folder / "manifest.json", lambda manifest: manifest.pop("experiment", None))
    for file in (*folder.glob("sites/*/predictions.npz"), folder / "examples.npz"):
        file.unlink()
    return folder


def test_a_servers_page_says_that_sites_withhold(run: Path) -> None:
    page = write_report(as_a_servers(run)).read_text()
    assert WITHHELD in page
    assert ROUNDED in page
    assert OF_IMAGES not in page


def test_a_simulations_page_says_nothing_of_it(run: Path) -> None:
    edit(run / "manifest.json", lambda manifest: manifest.update(experiment={"rounds": 3}))
    page = write_report(run).read_text()
    assert "Not every site counts in every mean" in page
    assert "smallest_count" not in page
    assert OF_IMAGES in page


@pytest.mark.parametrize(("threads", "words"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_threads_are_counted_in_words(monkeypatch: pytest.MonkeyPatch, threads: int, words: str) -> None:
    monkeypatch.setattr(fl_server.initial.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(fl_server.initial.torch, "get_num_threads", lambda: threads)
    assert fl_server.initial.device_name() == words


def test_no_note_on_brackets_without_brackets(run: Path) -> None:
    edit(run / "summary.json", lambda summary: summary.update(intervals={"accuracy": [0.1, 0.9]}, intervals_note="so"))
    assert "In brackets: so." in write_report(run).read_text()
    edit(run / "summary.json", lambda summary: summary.update(intervals={"accuracy": [None, None]}))
    assert "In brackets: " not in write_report(run).read_text()


@pytest.mark.parametrize(
    ("metric", "words"), [("accuracy", "rests on 2 groups"), ("auroc", "a class has only 2 groups")]
)
def test_what_an_interval_lacks_is_said_of_a_class_where_it_is_one(metric: str, words: str) -> None:
    assert _too_few(2, metric) == f"{words} of images; an interval needs 5"
    assert _too_few(5, metric) == ""
