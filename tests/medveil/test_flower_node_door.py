"""What a SuperNode's inner door lets in. When one of these fails, read `medveil.flower_node_door`."""

from __future__ import annotations

import http.client
import inspect
import socket
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import uvicorn

from medveil.doors import RUNTIME, SMALL
from medveil.errors import FederationError
from medveil.flower import Tasks
from medveil.flower_node_door import Seldom, behind_door

SECRET = b"s" * 32
MIB = 2**20


@pytest.fixture
def port() -> Iterator[int]:
    """The inner port of a SuperNode of Flower's that has no work."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    stores = import_module("flwr.supercore.object_store").ObjectStoreFactory()
    states: Any = import_module("flwr.supernode.nodestate").NodeStateFactory(stores)
    create = behind_door(import_module("flwr.supernode.main").create_app, number, lambda _: None)
    app = create(state_factory=states, superexec_auth_secret=SECRET)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=number, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield number
    server.should_exit = True
    thread.join(timeout=20)


def status(port: int, path: str, length: int, **headers: str) -> int:
    """What a request is answered of which nothing but the head is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", path)
    for name, value in {"content-type": "application/protobuf", "content-length": str(length), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status


@pytest.mark.parametrize("asked", ["push-object", "push-messages", "pull-task-input", "push-task-output"])
def test_nothing_of_a_body_is_read_without_a_task(port: int, asked: str) -> None:
    assert status(port, RUNTIME + asked, 60 * MIB) == 401
    assert status(port, RUNTIME + asked, 60 * MIB, **{"flwr-task-token": "5a" * 32}) == 401


def test_who_asks_for_a_task_says_it_in_few_bytes(port: int) -> None:
    assert status(port, f"{RUNTIME}acquire-task", SMALL + 1) == 413
    assert status(port, "/v1/control/start-run", 60 * MIB) == 401
    assert status(port, "/docs", 60 * MIB) == 404


def test_a_worker_is_let_in_by_its_secret_alone(port: int) -> None:
    assert Tasks(f"127.0.0.1:{port}", SECRET).take() is None
    with pytest.raises(FederationError, match="does not answer as it should"):
        Tasks(f"127.0.0.1:{port}", b"t" * 32, patience=0.01).take()


def test_flowers_supernode_makes_its_app_where_the_door_is_put() -> None:
    command: Any = import_module("flwr.supernode.cli.flower_supernode")
    source = inspect.getsource(command._start_supernode_http_api)
    assert "from flwr.supernode.main import" in source
    assert "app=create_app(" in source
    assert "state_factory=state_factory" in source


def test_a_flood_fills_no_log() -> None:
    said: list[str] = []
    note = Seldom(said.append)
    for _ in range(10_000):
        note("", "sent more than it may")
    assert len(said) == 14
    assert said[0] == "refused: somebody on this machine sent more than it may (1 in all)"
