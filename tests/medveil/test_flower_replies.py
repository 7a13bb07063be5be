"""A reply that Flower cannot put together is its site's error; says when Flower moved what this rests on."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import (
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_body,
)

from medveil.flower import be_task
from medveil.flower_replies import take_replies_one_by_one

GRID = importlib.import_module("flwr.superlink.grid.http_grid")


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    be_task(run_id=1, node_id=7)
    # They are put back with these.
    monkeypatch.setattr(GRID, "inflate_object_from_contents", GRID.inflate_object_from_contents)
    monkeypatch.setattr(GRID.RuntimeHttpClient, "PullMessages", GRID.RuntimeHttpClient.PullMessages)
    yield


def reply(site: int) -> Message:
    """What a site sends back to the message "ask-SITE"."""
    message = Message(RecordDict({"arrays": ArrayRecord({"a": Array(np.arange(4.0))})}), 1, "train")
    message.metadata.__dict__.update(_src_node_id=site, _reply_to_message_id=f"ask-{site}")
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def pulled(monkeypatch: pytest.MonkeyPatch, replies: dict[str, tuple[Any, dict[str, bytes]]]) -> list[Message]:
    """What a grid makes of replies, given what the SuperLink says of each and the objects its site stored."""
    answer = SimpleNamespace(
        messages_list=[about for about, _ in replies.values()],
        message_object_trees=[SimpleNamespace(name=name) for name in replies],
    )
    monkeypatch.setattr(GRID.RuntimeHttpClient, "PullMessages", lambda client, request: answer)
    monkeypatch.setattr(GRID.RuntimeHttpClient, "ConfirmMessageReceived", lambda client, request: None)
    monkeypatch.setattr(GRID, "iterate_object_tree", lambda tree: [SimpleNamespace(object_id=tree.name)])
    monkeypatch.setattr(GRID, "pull_objects", lambda object_ids, pull_object_fn: dict(replies[object_ids[0]][1]))
    take_replies_one_by_one()
    take_replies_one_by_one()
    grid = GRID.HttpGrid("127.0.0.1:1", insecure=True, token="t")
    grid._run = SimpleNamespace(run_id=1)
    return list(grid.pull_messages(["ask-7", "ask-8"]))


def stored(message: Message) -> tuple[Any, dict[str, bytes]]:
    return message_to_proto(message), {each: made.deflate() for each, made in get_all_nested_objects(message).items()}


def array_of(objects: dict[str, bytes]) -> str:
    return next(each for each, content in objects.items() if content.startswith(b"Array "))


def with_body(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, bytes]], None]:
    """Change what an array says of itself."""

    def spoil(objects: dict[str, bytes]) -> None:
        name = array_of(objects)
        made = Array(np.arange(4.0))
        body = json.loads(get_object_body(objects[name], Array))
        changed = change(body)
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        objects[name] = add_header_to_object_body(object_body=text, obj=made)

    return spoil


def another_type(objects: dict[str, bytes]) -> None:
    name = array_of(objects)
    objects[name] = objects[name].replace(b"Array ", b"Arrow ", 1)


def gone(objects: dict[str, bytes]) -> None:
    del objects[array_of(objects)]


def no_header(objects: dict[str, bytes]) -> None:
    objects[array_of(objects)] = b"\x00\xff"


SPOILT: dict[str, Callable[[dict[str, bytes]], None]] = {
    "no JSON": with_body(lambda body: b"\xff{"),
    "a number for a type": with_body(lambda body: {**body, "dtype": 5}),
    "no type": with_body(lambda body: {"shape": [4]}),
    "text for a size": with_body(lambda body: {**body, "shape": ["4"]}),
    "nothing for a shape": with_body(lambda body: {**body, "shape": None}),
    "chunks that are not there": with_body(lambda body: {**body, "arraychunk_ids": [10**9]}),
    "JSON without end": with_body(lambda body: b"[" * 200_000),
    "a number of 5,000 digits": with_body(lambda body: b'{"shape": [' + b"9" * 5000 + b"]}"),
    "another type of object": another_type,
    "a missing object": gone,
    "no header": no_header,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_reply_that_cannot_be_put_together_is_an_error_of_its_site(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, bytes]], None]
) -> None:
    good, bad = reply(7), reply(8)
    about, objects = stored(bad)
    spoil(objects)
    first, second = pulled(monkeypatch, {bad.object_id: (about, objects), good.object_id: stored(good)})
    assert first.has_error()
    assert first.error.reason.startswith("FederationError: the reply cannot be put together (")
    assert (first.metadata.src_node_id, first.metadata.reply_to_message_id) == (8, "ask-8")
    assert not second.has_error()
    np.testing.assert_array_equal(second.content.array_records["arrays"]["a"].numpy(), np.arange(4.0))


@pytest.mark.parametrize("claims", [{"_src_node_id": 7}, {"_reply_to_message_id": "ask-7"}])
def test_a_reply_is_whose_the_superlink_says_and_answers_what_it_says(
    monkeypatch: pytest.MonkeyPatch, claims: dict[str, Any]
) -> None:
    bad = reply(8)
    about = message_to_proto(bad)
    bad.metadata.__dict__.update(claims)
    (made,) = pulled(monkeypatch, {about.metadata.message_id: (about, stored_under(about.metadata.message_id, bad))})
    assert made.has_error()
    assert "names another sender" in made.error.reason
    assert (made.metadata.src_node_id, made.metadata.reply_to_message_id) == (8, "ask-8")


def stored_under(name: str, message: Message) -> dict[str, bytes]:
    objects = {each: made.deflate() for each, made in get_all_nested_objects(message).items()}
    return {**objects, name: message.deflate()}


@pytest.mark.parametrize("name", ["\ud800", "\x1b[2J", "x" * 10_000, "a\nb"])
def test_a_reply_with_names_nobody_can_write_down_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for content in (
        RecordDict({"arrays": ArrayRecord({name: Array(np.arange(4.0))})}),
        RecordDict({"metrics": MetricRecord({name: 1.0})}),
        RecordDict({name: ConfigRecord({"a": 1})}),
    ):
        bad = Message(content, 1, "train")
        bad.metadata.__dict__.update(_src_node_id=8, _reply_to_message_id="ask-8", _message_id="reply-8")
        about = message_to_proto(reply(8))
        about.metadata.message_id = "reply-8"
        # Some of these Flower itself cannot write; a node that is not Flower's can, in JSON.
        monkeypatch.setattr(GRID, "inflate_object_from_contents", lambda *given, bad=bad: bad)
        (made,) = pulled(monkeypatch, {"reply-8": (about, {})})
        assert "name" in made.error.reason
        assert made.error.reason.isprintable()
        assert made.metadata.reply_to_message_id == "ask-8"


def test_a_reply_with_more_names_than_any_model_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Message(RecordDict({"metrics": MetricRecord({f"m{i}": 1 for i in range(20_001)})}), 1, "train")
    bad.metadata.__dict__.update(_src_node_id=8, _reply_to_message_id="ask-8")
    bad.metadata.__dict__["_message_id"] = bad.object_id
    (made,) = pulled(monkeypatch, {bad.object_id: stored(bad)})
    assert "carries 20002 names" in made.error.reason


def test_an_object_that_is_no_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    about, objects = stored(reply(8))
    record = next(each for each, content in objects.items() if content.startswith(b"RecordDict "))
    about.metadata.message_id = record
    (made,) = pulled(monkeypatch, {record: (about, objects)})
    assert "is no message" in made.error.reason


def test_flower_still_puts_replies_together_where_we_stand_in_between() -> None:
    source = inspect.getsource(GRID.HttpGrid.pull_messages)
    assert "inflate_object_from_contents(msg_id, all_object_contents)" in source, "Flower reads replies in another way"
    assert "self._runtime_client.PullMessages(" in source
