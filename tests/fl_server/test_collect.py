from __future__ import annotations

import time

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fl_server import collect
from fl_server.collect import Collector
from medveil.errors import FederationError
from medveil.flower import ErrorCode, NodeInfo


@pytest.fixture
def world(make_world):
    return make_world(3)


def queries(world):
    content = RecordDict({"config": ConfigRecord()})
    return [Message(content, message_type="query", dst_node_id=node) for node in world.grid.sites]


def test_replies_come_sorted_by_site_whatever_their_order(make_world):
    world = make_world(3, backwards=True)
    collector = Collector(world.grid)
    collector.know({100: "c", 101: "a", 102: "b"})
    heard = []
    replies = collector.collect(queries(world), seconds=2, on_reply=heard.append)
    assert [reply.site for reply in replies] == ["a", "b", "c"]
    assert [reply.node for reply in heard] == [102, 101, 100]


def test_a_node_that_went_away_is_named_though_flower_replies_for_it(world, monkeypatch):
    def gone(site, message):
        reply = Message(Error(ErrorCode.NODE_UNAVAILABLE, "Node unavailable"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    monkeypatch.setattr(world.grid, "_answer", gone)
    collector = Collector(world.grid)
    collector.know({100: "a", 101: "b", 102: "c"})
    replies = collector.collect(queries(world), seconds=2)
    assert [(reply.site, reply.problem) for reply in replies] == [(site, "Node unavailable") for site in "abc"]


LOST = "<class 'ray.exceptions.ActorDiedError'>:<'The actor died.\n  Its node died.'>"


@pytest.mark.parametrize(
    ("simulated", "code", "ends"),
    [
        (True, ErrorCode.UNKNOWN, True),
        (True, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, False),
        (False, ErrorCode.UNKNOWN, False),
    ],
)
def test_a_simulation_that_lost_a_process_ends_at_once(world, monkeypatch, simulated, code, ends):
    monkeypatch.setattr(collect, "is_simulated", lambda grid: simulated and grid is world.grid)
    monkeypatch.setattr(world.grid, "_answer", lambda _, message: Message(Error(code, LOST), reply_to=message))
    collector = Collector(world.grid)
    collector.know({100: "a", 101: "b", 102: "c"})
    if not ends:
        assert [reply.problem for reply in collector.collect(queries(world), seconds=2)] == [LOST] * 3
        return
    with pytest.raises(FederationError, match=r"^a: Ray lost the actor that served it \(ActorDiedError\); see Ray's"):
        collector.collect(queries(world), seconds=2)


def test_a_reply_in_the_name_of_another_node_is_refused(world, monkeypatch):
    real = world.grid._answer

    def disguised(site, message):
        reply = real(site, message)
        if message.metadata.dst_node_id == 101:
            reply.metadata.__dict__["_src_node_id"] = 100
        return reply

    monkeypatch.setattr(world.grid, "_answer", disguised)
    replies = Collector(world.grid).collect(queries(world), seconds=2)
    assert [reply.problem for reply in replies] == [None, "node 100 replied in its place", None]


def test_a_message_that_could_not_be_sent_is_known_at_once(world, monkeypatch):
    monkeypatch.setattr(type(world.grid), "push_messages", _push_nothing)
    began = time.monotonic()
    replies = Collector(world.grid).collect(queries(world), seconds=30)
    assert time.monotonic() - began < 2
    assert {reply.problem for reply in replies} == {"the message could not be sent"}


def _push_nothing(grid, messages):
    for index, message in enumerate(messages):
        message.metadata.__dict__["_message_id"] = f"id-{index}"
    return []


def test_a_deadline_is_kept_and_names_who_is_missing(world):
    world.sites[1].silent = lambda *_: True
    began = time.monotonic()
    replies = Collector(world.grid).collect(queries(world), seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert [reply.problem for reply in replies] == [None, "no reply within 0.3 s", None]


def test_a_node_that_owes_a_reply_is_not_online_until_it_has_paid(world):
    quiet = [True]
    world.sites[1].silent = lambda *_: quiet[0]
    collector = Collector(world.grid)
    collector.collect(queries(world), seconds=0.2)
    assert collector.online() == [100, 102]
    quiet[0] = False
    assert collector.online() == [100, 101, 102]


def test_a_node_that_was_away_only_while_another_was_waited_for_may_be_asked_again(world):
    # As at Flower: that a reply is lost shows while its node is away, and no more once it is back.
    shows, pulls = [False], [0]
    world.sites[1].silent = lambda *_: not shows[0]
    collector = Collector(world.grid)
    collector.collect(queries(world), seconds=0.2)

    def slow(*_):
        pulls[0] += 1
        shows[0] = pulls[0] == 2
        return pulls[0] < 4

    world.sites[0].silent = slow
    collector.collect(queries(world)[:1], seconds=5)
    assert not shows[0]
    assert collector.online() == [100, 101, 102]


def test_only_known_nodes_take_part_once_names_are_known(world):
    collector = Collector(world.grid)
    collector.know({102: "a", 100: "b"})
    assert collector.online() == [102, 100]


def test_waiting_ends_when_enough_are_there_or_time_is_up(world):
    collector = Collector(world.grid)
    assert collector.wait_until(lambda n: n >= 3, seconds=30) == [100, 101, 102]
    began = time.monotonic()
    assert len(collector.wait_until(lambda n: n >= 4, seconds=0.3)) == 3
    assert 0.3 <= time.monotonic() - began < 2


def test_before_names_are_known_a_node_goes_by_what_flower_calls_it(world, monkeypatch):
    named = [NodeInfo(node_id=100, name="st-anna"), NodeInfo(node_id=101)]
    monkeypatch.setattr(world.grid, "get_nodes", lambda: named)
    collector = Collector(world.grid)
    assert collector.name(100) == "st-anna" and collector.name(101) == "node 101"
