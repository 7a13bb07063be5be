"""Records that travel as one: what was folded comes back as it was, and what was not is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from medveil.audit_messages import carried
from medveil.flower import be_task
from medveil.folded import FOLDED, fold, unfold
from medveil.signed_messages import content_digest

VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.booleans(),
    st.lists(st.binary(max_size=4), max_size=3),
)
METRICS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
NAMES = st.text(max_size=6).filter(lambda name: name not in {"arrays", FOLDED})


@pytest.fixture(autouse=True, scope="module")
def task() -> None:
    be_task(run_id=1, node_id=1)


def message(content: RecordDict) -> Message:
    return Message(content, message_type="train", dst_node_id=1)


def tensors() -> ArrayRecord:
    return ArrayRecord({"w": Array(np.arange(6, dtype=np.float32))})


@given(
    st.dictionaries(NAMES, st.dictionaries(st.text(max_size=6), VALUES, max_size=3), max_size=4),
    st.dictionaries(NAMES, st.dictionaries(st.text(max_size=6), METRICS, max_size=3), max_size=3),
)
def test_what_was_folded_comes_back_as_it_was(
    configs: dict[str, dict[str, Any]], metrics: dict[str, dict[str, Any]]
) -> None:
    content = RecordDict({"arrays": tensors()})
    content.config_records.update({name: ConfigRecord(values) for name, values in configs.items()})
    content.metric_records.update(
        {name: MetricRecord(values) for name, values in metrics.items() if name not in configs}
    )
    sent = message(content)
    fold(sent)
    small = len(content.config_records) + len(content.metric_records)
    assert len(sent.content) == min(small, 1) + 1
    assert unfold(sent) == (small > 1)
    came = sent.content
    assert dict(came.config_records) == dict(content.config_records)
    assert dict(came.metric_records) == dict(content.metric_records)
    assert content_digest(came, carried(came)) == content_digest(content, carried(content))


def test_a_record_that_is_empty_comes_back_too() -> None:
    sent = message(RecordDict({"a": ConfigRecord(), "b": ConfigRecord({"x": 1})}))
    fold(sent)
    assert list(sent.content) == [FOLDED]
    assert unfold(sent)
    assert {name: dict(record) for name, record in sent.content.config_records.items()} == {"a": {}, "b": {"x": 1}}


@pytest.mark.parametrize(
    "one",
    [
        {},
        {"names": "ca"},
        {"names": []},
        {"names": ["ca", "ca"]},
        {"names": ["ca", "ma"]},
        {"names": ["carrays", "cb"]},
        {"names": ["xa", "cb"]},
        {"names": ["", "cb"]},
        {"names": [f"c{n}" for n in range(65)]},
        {"names": ["ca", "cb"], "2/x": 1},
        {"names": ["ca", "cb"], "01/x": 1},
        {"names": [f"c{n}" for n in range(20)], "13/x": 1, "1\u0663/x": 2},
        {"names": ["ca", "cb"], "x": 1},
        {"names": ["ca", "mb"], "1/x": "no number"},
    ],
)
def test_what_cannot_have_been_folded_stays_as_it_came(one: dict[str, Any]) -> None:
    sent = message(RecordDict({"arrays": tensors(), FOLDED: ConfigRecord(one)}))
    assert not unfold(sent)
    assert list(sent.content) == ["arrays", FOLDED]


def test_a_record_beside_the_folded_one_is_not_taken() -> None:
    sent = message(RecordDict({"a": ConfigRecord({"x": 1}), "b": ConfigRecord()}))
    fold(sent)
    sent.content["c"] = ConfigRecord({"x": 2})
    assert not unfold(sent)
    assert "a" not in sent.content


def test_messages_without_much_to_fold_and_folded_ones_are_left_alone() -> None:
    one = message(RecordDict({"a": ConfigRecord({"x": 1})}))
    fold(one)
    assert list(one.content) == ["a"]
    assert not unfold(one)
    two = message(RecordDict({"a": ConfigRecord(), "b": ConfigRecord()}))
    fold(two)
    fold(two)
    assert list(two.content) == [FOLDED]
    many = message(RecordDict({f"r{n}": ConfigRecord() for n in range(65)}))
    fold(many)
    assert len(many.content) == 65
