"""Runs that count: no model, one question, and sums that are those of the sites."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from fl_client import counting_site
from fl_client.app import app as client_app
from medveil.contract import ARRAYS, CONFIG
from medveil.counting import COUNTS
from medveil.errors import MedVeilError
from medveil.flower import be_task
from simulations.config import ExperimentConfig
from simulations.engines.inprocess import run_inprocess
from simulations.plan import make_plan
from simulations.run import run_experiment

Tiny = Callable[..., ExperimentConfig]
SUMMED = ("sites=4", "kind=delta", "secagg.on=true", "secagg.colluding=0", "server.min_updates=3")
pytestmark = pytest.mark.usefixtures("fresh_sites")


@pytest.fixture
def counting(tiny: Tiny) -> Tiny:
    return lambda *settings: tiny("task=statistics", "rounds=1", "statistics.bins=8", *settings)


def by_hand(npz: Path) -> dict[str, list[float]]:
    with np.load(npz) as found:
        images, labels = found["images"], found["labels"].reshape(-1)
    bins = np.stack([np.histogram(each, bins=np.arange(0, 257, 32))[0] / each.size for each in images])
    return {"classes": np.bincount(labels).tolist(), "intensities": bins.sum(0).tolist()}


@pytest.mark.parametrize("settings", [(), SUMMED], ids=["own", "summed"])
def test_every_image_counts_once_and_no_model_is_built(
    counting: Tiny, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    monkeypatch.setattr(counting_site, "Site", None)
    done = run_experiment(counting(*settings), tmp_path / "run", progress=False)
    found = json.loads((done.folder / "statistics.json").read_text())
    wanted = by_hand(tiny_npz)
    for name, numbers in wanted.items():
        assert found["histograms"][name]["counts"] == pytest.approx(numbers, abs=0.01)
    assert found["histograms"]["ages"]["counts"][-1] == found["histograms"]["scanners"]["counts"][-1] == 96
    assert found["summed"] is bool(settings)
    assert (found["by_site"] == {}) is bool(settings)
    assert done.summary["statistics"] == done.report.name == "statistics.html"
    assert "Nothing was trained" in done.report.read_text()
    assert not list(done.folder.rglob("*.safetensors"))
    assert not (done.folder / "metrics.jsonl").exists()


def test_a_site_is_asked_once_about_nothing_else(counting: Tiny, tmp_path: Path) -> None:
    plan = make_plan(counting(), tmp_path / "run")
    be_task(run_id=1, node_id=1)

    def answer(kind: str, round_: int, **more: Any) -> Message:
        content = RecordDict({CONFIG: ConfigRecord({"server-round": round_}), **more})
        message = Message(content, message_type=kind, dst_node_id=2, group_id="1")
        message.metadata.__dict__.update(_message_id="id", _src_node_id=1)
        context = Context(1, 2, {"partition-id": 0, "num-partitions": 2}, RecordDict(), plan.run_config())
        return client_app(message, context)

    reply = answer(MessageType.EVALUATE, 0)
    assert sum(reply.content.config_records[COUNTS]["classes"]) == 48
    assert not reply.content.array_records
    tensors = ArrayRecord({"x": Array(np.zeros(2, np.float32))})
    for refused in (answer(MessageType.EVALUATE, 1), answer(MessageType.EVALUATE, 0, **{ARRAYS: tensors})):
        assert "this run counts images, once" in str(refused.error.reason)
    assert "it has no model, and trains nothing" in str(answer(MessageType.TRAIN, 1).error.reason)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("rounds=2",), "'rounds' is not 1"),
        (("privacy.unit=example",), "'privacy' is on"),
        (("statistics.histograms=[names]",), "'histograms' is out of its range"),
        (("statistics.bins=7",), "'bins' is out of its range"),
        (("federation=local-only",), "which trains, and task statistics trains nothing"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    counting: Tiny, tmp_path: Path, settings: tuple[str, ...], says: str
) -> None:
    with pytest.raises(MedVeilError) as error:
        make_plan(counting(*settings), tmp_path / "run")
    assert says in str(error.value)


def test_scanners_of_files_are_counted_by_the_run_s_own_names(tiny: Tiny, tmp_path: Path) -> None:
    images = ["data.source=phantoms", "data.path=null", "data.phantoms.images=8", "data.phantoms.sites=2"]
    settings = ["task=statistics", "rounds=1", "statistics.histograms=[scanners]", "statistics.scanners=[Norrland, GE]"]
    plan = make_plan(tiny(*images, *settings), tmp_path / "run")
    run_inprocess(plan)
    found = json.loads((tmp_path / "run" / "statistics.json").read_text())["histograms"]["scanners"]
    assert dict(zip(found["cells"], found["counts"], strict=True)) == {
        "Norrland": 8,
        "GE": 0,
        "other": 8,
        "not stated": 0,
    }
