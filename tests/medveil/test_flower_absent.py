"""What a server's app hears of a site that falls silent, is back, or begins anew: from a real SuperLink of Flower's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import Message
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from raw_node import Pulled, RawNode, answer
from superlink_here import SuperLinkHere, server_app, superlink

from medveil.flower_absent import GIVEN_UP_S


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLinkHere]:
    with superlink(tmp_path_factory.mktemp("superlink")) as made:
        yield made


Heard = Callable[[], list[Message]]


@pytest.fixture
def asked(link: SuperLinkHere, request: pytest.FixtureRequest) -> Iterator[tuple[RawNode, Pulled, Heard]]:
    """A site that was handed a message, and what the server's app hears of it."""
    node, run = link.admit(request.node.name), link.run()
    node.activate()
    message = link.send(run, node.node.node_id, record())
    pulled = node.pull()
    assert pulled is not None
    yield (
        node,
        pulled,
        lambda: list(server_app(link).PullMessages(PullAppMessagesRequest(message_ids=[message])).messages_list),
    )
    node.close()


def record() -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(4, np.float32))})})


def silent(link: SuperLinkHere, node: RawNode, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No heartbeat has come for so long, and Flower has given the node up."""
    # What it is told is good for twice as long.
    link.state.acknowledge_node_heartbeat(node.node.node_id, -0.5 * seconds)
    absences = link.behind.fleet.absences
    monkeypatch.setattr(absences, "_clock", lambda: time.monotonic() + seconds)


def test_a_site_that_was_cut_off_for_a_minute_still_answers(
    link: SuperLinkHere, asked: tuple[RawNode, Pulled, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, pulled, heard = asked
    silent(link, node, 90, monkeypatch)
    assert heard() == []
    monkeypatch.undo()
    # Its answer may come before its heartbeat does.
    node.pull_all(pulled)
    node.confirm(pulled.message.metadata.run_id, pulled.id)
    monkeypatch.setattr(link.behind.fleet.absences, "_clock", lambda: time.monotonic() + 90)
    reply = answer(pulled.message, source=node.node.node_id, content=record())
    node.push(reply)
    assert heard() == []
    node.beat()
    (got,) = heard()
    assert got.metadata.message_id == reply.metadata.message_id


def test_who_stays_away_is_given_up(
    link: SuperLinkHere, asked: tuple[RawNode, Pulled, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _, heard = asked
    silent(link, node, GIVEN_UP_S + 1, monkeypatch)
    (got,) = heard()
    assert got.error.code == ErrorCode.NODE_UNAVAILABLE


def test_nobody_waits_for_a_site_that_took_its_leave(asked: tuple[RawNode, Pulled, Heard]) -> None:
    node, _, heard = asked
    node.deactivate()
    (got,) = heard()
    assert got.error.code == ErrorCode.NODE_UNAVAILABLE


def test_what_an_earlier_life_of_a_site_had_in_hand_is_lost_at_once(
    link: SuperLinkHere, asked: tuple[RawNode, Pulled, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, pulled, heard = asked
    silent(link, node, 70, monkeypatch)
    assert heard() == []
    monkeypatch.undo()
    again = RawNode(node.address, node.key)
    again.activate()
    (got,) = heard()
    assert got.error.code == ErrorCode.NODE_UNAVAILABLE
    assert got.metadata.reply_to_message_id == pulled.id
    # And it is asked again.
    link.send(link.run(), again.node.node_id, record())
    assert again.pull() is not None
    again.close()
