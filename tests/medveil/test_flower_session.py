"""A node says its session with every request, and hears of others with its key."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fl_client.deployment.node_log import of_others
from medveil.door_sessions import OTHERS_HEADER, SESSION_HEADER, Sessions
from medveil.flower_session import in_session, keep_others, others


class _Client:
    def __init__(self, base: str, *, interceptors: Any = ()) -> None:
        self.interceptors = interceptors


def said(client: Any, answer: str | None, context: Any) -> Any:
    """Let a client's last interceptor handle a request that is answered with a header."""
    headers = {} if answer is None else {OTHERS_HEADER: answer}
    return client.interceptors[-1].intercept(context, lambda given: SimpleNamespace(headers=headers))


def test_all_clients_of_a_process_are_one_session_and_another_process_is_another() -> None:
    told: list[str] = []
    made = [in_session(_Client, lambda count: None) for _ in range(2)]
    for client in (made[0]("a", interceptors=["x"]), made[0]("b"), made[1]("a")):
        context = SimpleNamespace(request=SimpleNamespace(headers={}))
        said(client, None, context)
        told.append(context.request.headers[SESSION_HEADER])
    assert told[0] == told[1] != told[2]
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in told)
    assert made[0]("a", interceptors=["x"]).interceptors[0] == "x"


def test_what_a_server_says_of_others_is_a_number_and_heard_when_it_grows() -> None:
    heard: list[int] = []
    client = in_session(_Client, heard.append)("a")
    context = SimpleNamespace(request=SimpleNamespace(headers={}))
    for answer in (None, "0", "1", "1", "3", "2", "-4", "x" * 100, "9" * 40, "\x1b[2J", "٣", "4"):
        said(client, answer, context)
    assert heard == [1, 3, 4]


def test_it_is_kept_for_the_sites_status(tmp_path: Path) -> None:
    path = tmp_path / "others"
    assert others(path) is None
    keep_others(path)(7)
    found = others(path)
    assert found is not None
    assert found["count"] == 7
    assert path.stat().st_mode & 0o777 == 0o600
    assert "7 times" in of_others(found)
    # A disk that refuses does not end the node.
    keep_others(tmp_path / "missing" / "others")(8)


def test_flowers_node_takes_its_client_from_where_it_is_replaced() -> None:
    connection = import_module("flwr.supernode.fleet_http_connection")
    made = in_session(connection.FleetHttpClient, lambda count: None)
    client = made.from_server_address("127.0.0.1:1", True, None, interceptors=[])
    assert len(client._interceptors) == 1, "ProtobufClient no longer takes its interceptors by keyword"


@pytest.mark.parametrize("first", ["a" * 64, ""])
def test_one_session_counts_until_it_ends(first: str) -> None:
    sessions, other = Sessions(), "b" * 64
    sessions.bind(5, first)
    assert sessions.heard(5, first) == (True, False)
    assert sessions.heard(5, other) == (False, True)
    assert sessions.others(5) == 1
    # After a restart of the server, the first that is heard.
    assert sessions.heard(6, other) == (True, False)
    assert sessions.heard(6, first) == (False, True)
    # A second activation is told of once the first is heard again; its own is no other.
    sessions.suspect(5, first)
    assert sessions.heard(5, first) == (True, False)
    sessions.suspect(5, other)
    assert sessions.heard(5, first) == (True, True)
    assert sessions.heard(5, first) == (True, False)
    sessions.end(5)
    assert sessions.heard(5, other) == (True, False)
