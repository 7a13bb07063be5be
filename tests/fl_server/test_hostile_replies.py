"""Whatever one site sends, it is left out by its name, the run ends well, and nothing of it counts anywhere."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import malformed

from fl_server import checkpoints
from fl_server.checked import Checked
from fl_server.config import STRATEGIES
from medveil.contract import ARRAYS, METRICS, SITE
from medveil.errors import FederationError

WORDS = {"loss", "accuracy", "balanced_accuracy", "auroc", "majority_rate"}


def after(world: Any) -> dict[str, np.ndarray]:
    return checkpoints.load_newest(world.out / "checkpoints", run=world.run.run).tensors


def _refuse(word: str) -> None:
    """NaN and Infinity are no JSON, whatever Python's own reader makes of them."""
    raise AssertionError(f"a file holds {word}")


def says_nothing_strange(world: Any) -> None:
    for name in ("metrics.jsonl", "manifest.json", "summary.json"):
        text = (world.out / name).read_text()
        assert "\x1b" not in text
        for each in text.splitlines() if name.endswith("l") else [text]:
            json.loads(each, parse_constant=_refuse)


def assert_left_out(world: Any, site: str, says: str, *, kinds: int = 1) -> None:
    found = world.manifest()["left_out"]
    assert [each["site"] for each in found] == [site] * kinds
    assert all(says in each["reason"] and len(each["reason"]) < 500 for each in found), found
    says_nothing_strange(world)


def measuring(**changes: Any) -> Any:
    """Answers of a site that says more or other than it measured in training."""

    def answers(kind: str, round_: int, content: RecordDict) -> RecordDict:
        if kind == "train":
            content[METRICS] = MetricRecord({**content.metric_records[METRICS], **changes})
        return content

    return answers


def test_malformed_bytes_leave_their_site_out_of_that_round(make_world) -> None:
    cases = list(malformed(1))
    world = make_world(3, rounds=len(cases) + 1, evaluate_first=False)

    def answers(kind: str, round_: int, content: RecordDict) -> RecordDict:
        if kind == "train" and round_ <= len(cases):
            record = content.array_records[ARRAYS]
            name = sorted(record)[0]
            shape = record[name].shape
            data = malformed(shape[-1])[cases[round_ - 1]]
            record[name] = Array(dtype="float32", shape=shape, stype="numpy.ndarray", data=data)
        return content

    world.site("site-2").answers = answers
    # What these sites do for training shrinks the model round by round, and their own steps with it do not.
    assert world.federate(max_norm=0, max_change=0)["status"] == "finished"
    found = world.manifest()["left_out"]
    assert [(each["round"], each["site"]) for each in found] == [(r + 1, "site-2") for r in range(len(cases))]
    assert all("tensor '" in each["reason"] for each in found)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"validation-loss": 1e308}, "'validation-loss' is 1e+308"),
        ({"validation-loss": -1e308}, "'validation-loss' is -1e+308"),
        ({"train-loss": 1e308}, "'train-loss' is 1e+308"),
        ({"train-n": -5.0}, "'train-n' is -5.0"),
        ({"validation-n": 1e15}, "'validation-n' is 1000000000000000.0"),
        ({"train-accuracy": 7}, "'train-accuracy' is 7"),
        ({"validation-auroc": 1.5}, "'validation-auroc' is 1.5"),
        ({"seconds": math.nan}, "'seconds' is nan"),
        ({"train-loss": [0.5, 0.6]}, "'train-loss' is [0.5, 0.6]"),
        ({"\x1b[31mloss\n": 1.0}, "1 measures are unknown"),
        ({f"more-{i}": 1 for i in range(3000)}, "3000 measures are unknown"),
        ({"x" * 100_000: 1.0}, "1 measures are unknown"),
    ],
)
def test_a_measure_that_is_not_possible_leaves_its_site_out_of_everything(make_world, changes, says) -> None:
    world, clean = make_world(3, rounds=1), make_world(3, rounds=1, out="clean")
    world.site("site-2").answers = measuring(**changes)
    clean.site("site-2").silent = lambda kind, round_: kind == "train"
    world.federate()
    assert_left_out(world, "site-2", says)
    clean.federate(round_deadline=0.5)
    for name, tensor in after(clean).items():
        np.testing.assert_array_equal(after(world)[name], tensor)
    both = [[each for each in w.lines() if each["site"] == "all" and each["phase"] != "test"] for w in (world, clean)]
    for one, other in zip(*both, strict=True):
        assert {k: one[k] for k in WORDS & set(one)} == {k: other[k] for k in WORDS & set(other)}


@pytest.mark.parametrize(
    "records",
    [
        {},
        {METRICS: MetricRecord()},
        {ARRAYS: ArrayRecord()},
        {ARRAYS: ArrayRecord(), METRICS: MetricRecord({"train-n": 1.0})},
        {ARRAYS: ArrayRecord(), METRICS: MetricRecord(), "more": MetricRecord()},
        {ARRAYS: ArrayRecord(), METRICS: MetricRecord(), "\x1b[0m" * 1000: ArrayRecord()},
        {METRICS: ConfigRecord({"train-n": 1})},
        {SITE: ConfigRecord({"site": "site-1"})},
    ],
)
def test_a_train_reply_of_other_records_leaves_its_site_out(make_world, records) -> None:
    world = make_world(3, rounds=1)
    honest = world.site("site-2")
    honest.answers = lambda kind, round_, content: RecordDict(dict(records)) if kind == "train" else content
    assert world.federate()["status"] == "finished"
    assert_left_out(world, "site-2", "")


@pytest.mark.parametrize(
    "change",
    [
        {"test-accuracy": 1e308},
        {"test-n": -1.0},
        {"test-majority-rate": -0.5},
        {"validation-loss": math.inf},
        {"wrong-key-accuracy": 3.0},
    ],
)
def test_a_final_measure_that_is_not_possible_counts_for_nothing(make_world, change) -> None:
    world = make_world(3, rounds=1)
    world.site("site-2").answers = lambda kind, round_, content: (
        RecordDict({METRICS: MetricRecord({**content.metric_records[METRICS], **change})})
        if kind == "evaluate"
        else content
    )
    summary = world.federate()
    assert set(summary["sites"]) == {"site-1", "site-3"}
    assert summary["accuracy"] == pytest.approx(0.8)
    assert_left_out(world, "site-2", f"'{next(iter(change))}' is")


def test_tensors_in_a_final_reply_leave_its_site_out(make_world) -> None:
    world = make_world(3, rounds=1)
    record = ArrayRecord({"a": Array(np.zeros(3, np.float32))})
    world.site("site-2").answers = lambda kind, round_, content: (
        RecordDict({ARRAYS: record, METRICS: content.metric_records[METRICS]}) if kind == "evaluate" else content
    )
    assert set(world.federate()["sites"]) == {"site-1", "site-3"}
    assert_left_out(world, "site-2", "array records ['arrays'], wanted none")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", ["weights", "delta"])
def test_huge_values_leave_their_site_out_under_every_rule_with_no_limit_set(make_world, strategy, kind) -> None:
    world = make_world(8, rounds=1, kind=kind)
    world.site("site-2").spoil = lambda _, made: {
        name: np.full_like(array, 3e38 if kind == "weights" else -3e38) for name, array in made.items()
    }
    # It weighs by what sites say of their losses, and is refused beside a cap on shares.
    uncapped = {"most_share": 1.0} if strategy == "qfedavg" else {}
    assert world.federate(strategy=strategy, max_norm=0, max_change=0, **uncapped)["status"] == "finished"
    assert_left_out(world, "site-2", "norm")
    assert all(np.isfinite(each).all() for each in after(world).values())


def test_a_defect_of_the_reading_is_the_sites_fault_too_and_logged(make_world, monkeypatch, caplog) -> None:
    world = make_world(3, rounds=1)
    real = Checked._update

    def defective(self, site, reply):
        if site == "site-2":
            raise RecursionError("a defect of ours")
        return real(self, site, reply)

    monkeypatch.setattr(Checked, "_update", defective)
    assert world.federate()["status"] == "finished"
    assert_left_out(world, "site-2", "cannot be read (RecursionError)")
    assert "a defect of ours" in caplog.text


HOSTILE_ROWS = [
    ("classes", ["healthy"] * 100_000),
    ("classes", ["\x1b[2J", "ill"]),
    ("classes", [["healthy", "ill"]]),
    ("counts", [10, 10**300]),
    ("counts", [10] * 50_000),
    ("counts", [10, -1]),
    ("counts", []),
    ("counts", [10, [20]]),
    ("n-train", 10**300),
    ("n-train", -1),
    ("n-train", 1e15),
    ("n-train", True),
    ("n-test", 2**63),
    ("missing", ["\x1b[31mill"]),
    ("missing", ["nobody"]),
    ("version", "9.9\n2026 ERROR forged"),
    ("version", "1" * 100_000),
    ("scheme", "none\x1b]0;x\x07"),
    ("fingerprint", "\x9b31m"),
    ("model-hash", "\x00" * 64),
    ("site", "x" * 65),
    ("site", "a\u202eb"),
    ("site", "st\x1banna"),
    ("site", {"a": 1}),
]


@pytest.mark.parametrize(("field", "value"), HOSTILE_ROWS, ids=[f"{f}-{i}" for i, (f, _) in enumerate(HOSTILE_ROWS)])
def test_a_row_of_the_preflight_that_is_none_takes_no_part_and_its_site_is_named(
    make_world, caplog, field, value
) -> None:
    world = make_world(4, rounds=1)
    world.grid.registered = {node: site.name for node, site in world.grid.sites.items()}

    def answers(kind: str, round_: int, content: RecordDict) -> RecordDict:
        if kind == "query":
            # Flower's own record would refuse some of these: a node may send what it likes.
            content.config_records[SITE].__dict__["_data"][field] = value
        return content

    world.site("site-2").answers = answers
    assert set(world.federate(min_sites=3)["sites"]) == {"site-1", "site-3", "site-4"}
    (said,) = [each.getMessage() for each in caplog.records if "takes no part" in each.getMessage()]
    assert said.startswith(f"site-2 takes no part: '{field}' is ")
    assert len(said) < 600
    assert said.isprintable()
    alone = make_world(2, rounds=1, out="alone")
    alone.site("site-2").answers = answers
    with pytest.raises(FederationError, match=r"1 of 2 sites cannot take part: .*'") as caught:
        alone.federate()
    assert str(caught.value).isprintable()
    assert str(caught.value).count("site-1") == 0


any_number = st.integers(-(10**20), 10**20) | st.floats() | st.lists(st.floats(), max_size=2)
any_metrics = st.dictionaries(
    st.sampled_from(
        ["num-examples", "seconds", "train-loss", "train-n", "validation-loss", "validation-n", "test-auroc"]
    )
    | st.text(max_size=8),
    any_number,
    max_size=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_metrics, any_metrics, st.binary(max_size=200))
def test_no_reply_of_one_site_ends_a_run(make_world, tmp_path_factory, train, evaluate, data) -> None:
    world = make_world(3, rounds=1, out=str(tmp_path_factory.mktemp("fuzzed") / "run"))

    def answers(kind: str, round_: int, content: RecordDict) -> RecordDict:
        if kind == "query":
            return content
        record = content.metric_records[METRICS]
        for name, value in (train if kind == "train" else evaluate).items():
            record.__dict__["_data"][name] = value
        if kind == "train" and data:
            arrays = content.array_records[ARRAYS]
            name = sorted(arrays)[0]
            arrays[name] = Array(dtype="float32", shape=arrays[name].shape, stype="numpy.ndarray", data=data)
        return content

    world.site("site-2").answers = answers
    summary = world.federate()
    assert summary["status"] == "finished"
    assert {"site-1", "site-3"} <= set(summary["sites"])
    assert {each["site"] for each in world.manifest()["left_out"]} <= {"site-2"}
    says_nothing_strange(world)
