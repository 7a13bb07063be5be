"""What a SuperNode's inner door lets in. When one of these fails, read `medveil.flower_node_door`."""

from __future__ import annotations

import http.client
import inspect
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import uvicorn
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.auth import create_superexec_auth_metadata, derive_auth_secret
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)

from medveil.doors import AT_ONCE_EACH, RUNTIME, SMALL
from medveil.errors import FederationError
from medveil.fab import hash_of, installed_fab
from medveil.flower import Tasks, be_task, make_run
from medveil.flower_node_door import Seldom, behind_door
from medveil.folded import fold

SECRET = b"s" * 32
MIB = 2**20


@dataclass
class Inner:
    """The inner door of a SuperNode of Flower's that has no work yet."""

    port: int
    states: Any
    stores: Any

    def give(self, message: Message) -> None:
        """What the SuperNode does when its server has a message for it."""
        message.metadata.__dict__["_message_id"] = message.object_id
        with no_object_id_recompute():
            contents = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
            tree = get_object_tree(message)
        run = make_run(1)
        run.fab_hash = hash_of(app := installed_fab())
        state = self.states.state()
        state.set_node_id(2)
        import_module("flwr.supernode.start_client_internal")._pull_and_store_message(
            state=state,
            object_store=self.stores.store(),
            node_config={},
            receive=lambda: (remove_content_from_message(message), tree),
            get_run=lambda _: run,
            get_fab=lambda *_: import_module("flwr.supercore.fab").Fab(run.fab_hash, app, {}),
            pull_object=lambda _, name: contents[name],
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )


@pytest.fixture
def inner() -> Iterator[Inner]:
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
    yield Inner(number, states, stores)
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture
def port(inner: Inner) -> int:
    return inner.port


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


def signed(body: AcquireTaskRequest, *, secret: bytes = SECRET) -> dict[str, str]:
    """The head of who asks for work, as Flower's own client makes it."""
    return create_superexec_auth_metadata(
        auth_secret=derive_auth_secret(secret), method="/flwr.proto.Runtime/AcquireTask", request=body
    )


def test_who_asks_for_a_task_says_it_in_few_bytes(port: int) -> None:
    head = signed(AcquireTaskRequest())
    assert status(port, f"{RUNTIME}acquire-task", SMALL + 1, **head) == 413
    assert status(port, "/v1/control/start-run", 60 * MIB) == 401
    assert status(port, "/docs", 60 * MIB) == 404


@pytest.mark.parametrize("case", ["no signature", "another secret", "another body", "old", "no time", "not ASCII"])
def test_nothing_of_a_body_is_read_of_who_cannot_sign_for_work(port: int, case: str) -> None:
    head = signed(AcquireTaskRequest(), secret=b"t" * 32 if case == "another secret" else SECRET)
    changed = {
        "no signature": {"flwr-superexec-signature": ""},
        "another body": {"flwr-superexec-body-sha256": "0" * 64},
        "old": {"flwr-superexec-ts": str(int(head["flwr-superexec-ts"]) - 3600)},
        "no time": {"flwr-superexec-ts": "9" * 400},
        "not ASCII": {"flwr-superexec-signature": "\xe9" * 64},
    }
    assert status(port, f"{RUNTIME}acquire-task", SMALL, **{**head, **changed.get(case, {})}) == 401


def test_strangers_who_hold_the_door_do_not_stall_the_worker(port: int) -> None:
    held = []
    try:
        for _ in range(2 * AT_ONCE_EACH):
            stranger = socket.create_connection(("127.0.0.1", port), timeout=10)
            head = "Host: x\r\nContent-Type: application/protobuf\r\nContent-Length: 1000"
            stranger.sendall(f"POST {RUNTIME}acquire-task HTTP/1.1\r\n{head}\r\n\r\n".encode())
            held.append(stranger)
        for stranger in held:
            assert stranger.recv(12) == b"HTTP/1.1 401"
        assert Tasks(f"127.0.0.1:{port}", SECRET, patience=0.01).take() is None
    finally:
        for stranger in held:
            stranger.close()


def test_a_worker_is_let_in_by_its_secret_alone(port: int) -> None:
    assert Tasks(f"127.0.0.1:{port}", SECRET).take() is None
    with pytest.raises(FederationError, match="does not answer as it should"):
        Tasks(f"127.0.0.1:{port}", b"t" * 32, patience=0.01).take()


def test_a_worker_takes_a_message_and_answers_with_tensors_of_many_pieces(inner: Inner) -> None:
    be_task(run_id=1, node_id=2)
    small = {"config": ConfigRecord({"server-round": 1}), "audit": ConfigRecord({"head": "1:a"})}
    sent = RecordDict({"arrays": ArrayRecord({"w": Array(np.arange(3 * MIB, dtype=np.float32))}), **small})
    message = Message(sent, message_type="train", dst_node_id=2)
    message.metadata.__dict__["_src_node_id"] = 1
    fold(message)
    inner.give(message)
    task = Tasks(f"127.0.0.1:{inner.port}", SECRET).take()
    assert task is not None
    assert hash_of(task.fab) == hash_of(installed_fab())
    assert set(task.message.content) == {"arrays", "config", "audit"}
    array = task.message.content.array_records["arrays"]["w"].numpy()
    assert array.nbytes == 12 * MIB
    # Larger than all that one caller may have on its way at once.
    large = RecordDict({"arrays": ArrayRecord({"w": Array(np.arange(20 * MIB, dtype=np.float32))}), **small})
    answered = Message(large, reply_to=task.message)
    task.answer(answered)
    assert set(answered.content) == {"arrays", "folded"}
    (reply,) = inner.states.state().get_messages_legacy(run_ids=[1], is_reply=True)
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    assert Tasks(f"127.0.0.1:{inner.port}", SECRET).take() is None


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
