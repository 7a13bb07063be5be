"""What a SuperLink is spared, and that nobody waits longer than said. When one fails, read `medveil.flower_spared`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.common.constant import Status
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from raw_node import answer
from superlink_here import SuperLinkHere, server_app, superlink

from medveil import flower_spared
from medveil.flower_spared import EACH_S, Seldom


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLinkHere]:
    with superlink(tmp_path_factory.mktemp("superlink")) as made:
        yield made


def test_who_asks_without_news_is_looked_for_once_a_second_each() -> None:
    now = [100.0]
    seldom = Seldom(clock=lambda: now[0])
    assert seldom.is_due(1, news=False)
    assert not seldom.is_due(1, news=False)
    assert seldom.is_due(2, news=False), "another run waits for itself"
    assert seldom.is_due(1, news=True)
    now[0] += EACH_S
    assert seldom.is_due(1, news=False)
    assert not seldom.is_due(1, news=False)


def test_a_process_that_died_is_found_within_a_second(link: SuperLinkHere, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supercore.state.schema.corestate_models import Task  # noqa: PLC0415
    from sqlalchemy import update  # noqa: PLC0415

    run = link.run()
    status = link.state.get_run_status
    assert "_cleanup_expired_task_tokens()" in inspect.getsource(type(link.state).get_run_status), (
        "Flower asks otherwise"
    )
    assert status({run})[run].status == Status.RUNNING
    with link.state.session() as session:
        session.execute(
            update(Task).where(Task.token.is_not(None)).values(active_until=datetime(2000, 1, 1, tzinfo=UTC))
        )
    assert status({run})[run].status == Status.RUNNING, "nothing was spared"
    later = time.monotonic() + EACH_S
    monkeypatch.setattr(flower_spared.time, "monotonic", lambda: later)
    assert status({run})[run].status == Status.FINISHED


def test_a_servers_app_that_waits_costs_little_and_hears_at_once(
    link: SuperLinkHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers, looks = import_module("flwr.superlink.servicer.runtime.runtime_handlers"), []
    pull = handlers.pull_messages

    def counted(*arguments: object) -> object:
        looks.append(arguments)
        return pull(*arguments)

    monkeypatch.setattr(handlers, "pull_messages", counted)
    mercy, run = link.admit("mercy"), link.run()
    mercy.activate()
    content = RecordDict({"config": ConfigRecord({"server-round": 1})})
    message = link.send(run, mercy.node.node_id, content)
    pulled = mercy.pull()
    assert pulled is not None
    mercy.pull_all(pulled)
    mercy.confirm(run, pulled.id)
    app, asked = server_app(link), PullAppMessagesRequest(message_ids=[message])
    began = time.monotonic()
    for _ in range(6):
        assert not app.PullMessages(asked).messages_list
    assert len(looks) <= 1 + (time.monotonic() - began) / EACH_S
    mercy.push(answer(pulled.message, source=mercy.node.node_id, content=content))
    before = len(looks)
    assert len(app.PullMessages(asked).messages_list) == 1
    assert len(looks) == before + 1
    app.PullMessages(PullAppMessagesRequest(message_ids=["0" * 64]))
    assert len(looks) == before + 2, "who waits for two things waits for each"
    mercy.close()
