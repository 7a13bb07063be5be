"""Numbers of images as sites send them: each bounded, and what a server reads from their sums."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fl_server.counts import checked_sums, counts_in, percentile, read_statistics, statistics_of, total_of
from fl_server.counts_page import as_page, as_sheet
from medveil.contract import RunConfig
from medveil.counting import COUNTS, FLOOR, StatisticsConfig, from_a_row, in_a_row
from medveil.errors import FederationError
from medveil.flower import be_task

ASKED = StatisticsConfig(histograms=["classes", "ages", "intensities"], bins=8)
CLASSES = ["none", "<b>mass</b>"]
CELLS = ASKED.cells(CLASSES)
AGES = [0, 0, 0, 0, 10, 40, 40, 10, 0, 0, 15]


def counts() -> dict[str, list[float]]:
    return {
        "classes": [60.0, 40.0],
        "ages": [float(each) for each in AGES],
        "intensities": [50.0, 30.0, 20.0, *[0.0] * 5],
    }


def reply(said: dict[str, Any], **more: Any) -> Message:
    be_task(run_id=1, node_id=1)
    return Message(RecordDict({COUNTS: ConfigRecord(said), **more}), message_type="evaluate", dst_node_id=1)


def test_what_a_site_counted_is_taken() -> None:
    floor, found = counts_in(reply({FLOOR: 5, **counts()}), CELLS, site="a", summed=False)
    assert (floor, found) == (5, counts())
    assert from_a_row(in_a_row(found), CELLS) == found
    assert counts_in(reply({FLOOR: 5}), CELLS, site="a", summed=True) == (5, {})


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({**counts(), "classes": [1.0]}, "'classes' has not the 2 numbers"),
        ({**counts(), "classes": [-5.0, 1.0]}, "wanted"),
        ({**counts(), "classes": [float("nan"), 1.0]}, "is nan, wanted a number"),
        ({**counts(), "classes": [1e13, 1.0]}, "wanted"),
        ({**counts(), "classes": ["a", "b"]}, "wanted a number"),
        ({**counts(), "names": [1.0]}, "the reply counts other than ages, classes, intensities"),
        ({"classes": [1.0, 2.0]}, "the reply counts other than"),
        ({**counts(), FLOOR: 0}, "'smallest' is 0"),
        ({**counts(), FLOOR: 2.5}, "wanted a whole number"),
    ],
)
def test_what_cannot_be_leaves_its_site_out(said: dict[str, Any], says: str) -> None:
    with pytest.raises(FederationError, match=says):
        counts_in(reply({FLOOR: 5, **said}), CELLS, site="a", summed=False)


def test_own_numbers_and_tensors_are_refused_where_they_have_no_place() -> None:
    with pytest.raises(FederationError, match="the reply counts other than nothing"):
        counts_in(reply({FLOOR: 5, **counts()}), CELLS, site="a", summed=True)
    tensors = ArrayRecord({"x": Array(np.zeros(2, np.float32))})
    with pytest.raises(FederationError, match="carries tensors"):
        counts_in(reply({FLOOR: 5, **counts()}, arrays=tensors), CELLS, site="a", summed=False)
    with pytest.raises(FederationError, match="wanted"):
        checked_sums([-1.0, *[0.0] * (sum(map(len, CELLS.values())) - 1)], CELLS)


def test_percentiles_are_those_of_values_spread_over_their_cells() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(4.0, 20.0, 4000).clip(0, 255.9)
    made = np.histogram(values, bins=np.arange(0, 257, 4))[0]
    edges = [(float(low), float(low + 4)) for low in range(0, 256, 4)]
    for share in (0.05, 0.5, 0.95):
        assert percentile(edges, made.tolist(), share) == pytest.approx(np.quantile(values, share), abs=2)


def document(**changes: Any) -> dict[str, Any]:
    by_site = changes.pop("by_site", {"anna": counts(), "mercy": counts()})
    given = {"by_site": by_site, "sites": ["mercy", "anna"], "floors": {"anna": 5, "mercy": 5}, "missing": {}}
    total = total_of({"anna": counts(), "mercy": counts()}, CELLS)
    return statistics_of(RunConfig(name="look", classes=CLASSES), ASKED, total, **{**given, **changes})


def test_a_document_says_what_was_not_told(tmp_path: Path) -> None:
    made = document()
    found = made["histograms"]["ages"]
    assert found["counts"][4:8] == [20, 80, 80, 20]
    assert found["untold"] == ["0-9", "10-19", "20-29", "30-39", "80-89", "90+"]
    assert found["percentiles"] == {"p5": 45.0, "p50": 60.0, "p95": 75.0}, "those of no stated age are none"
    assert made["histograms"]["classes"]["percentiles"] is None
    assert "fewer than 5 patients" in made["notes"][0]
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(made))
    assert read_statistics(path) == made
    assert "every image is counted" in document(floors={"anna": 1, "mercy": 1})["notes"][0]
    assert "5 to 10, site by site" in document(floors={"anna": 5, "mercy": 10})["notes"][0]
    assert "its own floor" in document(floors={})["notes"][0]


def test_page_and_table_show_names_and_obey_none() -> None:
    page = as_page(document(missing={"grace": "<script>"}))
    assert "<b>mass" not in page
    assert "<script" not in page
    assert "http" not in page
    assert "p5 45, p50 60, p95 75" in page
    rows = list(csv.DictReader(io.StringIO(as_sheet(document()))))
    assert {(row["site"], row["images"]) for row in rows if row["cell"] == "none"} == {
        ("all", "120.0"),
        ("anna", "60.0"),
        ("mercy", "60.0"),
    }
    assert {row["site"] for row in csv.DictReader(io.StringIO(as_sheet(document(by_site={}))))} == {"all"}
