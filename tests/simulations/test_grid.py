"""The in-process grid: sites as function calls, as Flower's own grid would have them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from medveil.errors import DataError
from medveil.flower import ErrorCode
from simulations.engines.grid import SERVER_NODE, InProcessGrid


def echo(message: Message, context: Context) -> Message:
    record = ConfigRecord({"node": context.node_id, "partition": context.node_config["partition-id"]})
    return Message(RecordDict({"said": record}), reply_to=message)


def refuse(message: Message, context: Context) -> Message:
    raise DataError("no images", where="site", cure="give it some")


def make_grid(answer: Callable[[Message, Context], Message] = echo, *, sites: int = 3) -> InProcessGrid:
    app = ClientApp()
    app.query()(answer)
    nodes = [{"partition-id": index} for index in range(sites)]
    return InProcessGrid(app, nodes, {"key": "value"}, names=[f"site-{i + 1}" for i in range(sites)], run_id=7)


def question(node: int) -> Message:
    return Message(RecordDict(), message_type=MessageType.QUERY, dst_node_id=node, group_id="1")


def test_it_is_a_grid_of_flowers() -> None:
    grid = make_grid()
    assert isinstance(grid, Grid), "flwr.serverapp.Grid is no longer what ServerApps are handed"
    assert not getattr(InProcessGrid, "__abstractmethods__", ()), "Flower's Grid has new abstract methods"
    assert grid.run.run_id == 7
    assert list(grid.get_node_ids()) == [2, 3, 4]
    assert [(node.node_id, node.name) for node in grid.get_nodes()] == [(2, "site-1"), (3, "site-2"), (4, "site-3")]


def test_pushing_gives_ids_and_a_sender() -> None:
    grid = make_grid()
    messages = [question(2), question(3)]
    ids = list(grid.push_messages(messages))
    assert len(set(ids)) == 2
    for message, id_ in zip(messages, ids, strict=True):
        assert message.metadata.message_id == id_
        assert message.metadata.src_node_id == SERVER_NODE


def test_a_pull_runs_one_site_and_returns_its_reply() -> None:
    ran: list[int] = []

    def noted(message: Message, context: Context) -> Message:
        ran.append(context.node_id)
        return echo(message, context)

    grid = make_grid(noted)
    ids = list(grid.push_messages([question(4), question(2), question(3)]))
    assert ran == []
    for turn, node in enumerate([4, 2, 3], start=1):
        replies = list(grid.pull_messages(ids))
        assert len(replies) == 1
        assert len(ran) == turn
        assert replies[0].metadata.reply_to_message_id == ids[turn - 1], "a reply no longer names what it answers"
        assert replies[0].metadata.src_node_id == node, "a reply no longer takes its sender from what it answers"
        assert replies[0].content["said"]["node"] == node
    assert list(grid.pull_messages(ids)) == []


def test_only_what_was_asked_for_is_pulled() -> None:
    grid = make_grid()
    first, second = grid.push_messages([question(2), question(3)])
    assert list(grid.pull_messages(["unknown"])) == []
    (reply,) = grid.pull_messages([second])
    assert reply.metadata.reply_to_message_id == second
    (reply,) = grid.pull_messages([first])
    assert reply.metadata.src_node_id == 2


def test_an_exception_at_a_site_is_an_error_reply_like_flowers() -> None:
    grid = make_grid(refuse)
    ids = list(grid.push_messages([question(2)]))
    (reply,) = grid.pull_messages(ids)
    assert reply.has_error(), "Message(Error(...), reply_to=...) no longer makes an error reply"
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION == 2
    assert reply.error.reason == "<class 'medveil.errors.DataError'>:<'site: no images; give it some'>"
    assert reply.metadata.reply_to_message_id == ids[0]
    assert reply.metadata.src_node_id == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_an_answer(kind: type[BaseException]) -> None:
    def interrupted(message: Message, context: Context) -> Message:
        raise kind

    grid = make_grid(interrupted)
    ids = list(grid.push_messages([question(2)]))
    with pytest.raises(kind):
        grid.pull_messages(ids)


def test_sending_and_receiving_asks_every_site() -> None:
    replies = list(make_grid().send_and_receive([question(node) for node in (2, 3, 4)], timeout=1))
    assert [reply.content["said"]["partition"] for reply in replies] == [0, 1, 2]
