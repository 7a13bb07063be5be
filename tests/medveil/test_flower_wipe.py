"""A single update is in no file of a server once the server's app has it, nor once its run is over."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushTaskOutputRequest
from raw_node import SERVER, RawNode, answer
from superlink_here import SuperLinkHere, server_app, superlink

from medveil.errors import StorageError
from medveil.flower_wipe import LOCKED_MS, LOOK_S, compact

FLOATS = 20_000


@pytest.fixture
def link(tmp_path: Path) -> Iterator[SuperLinkHere]:
    with superlink(tmp_path) as made:
        yield made


def update(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(FLOATS).astype(np.float32)


def record(seed: int) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array(update(seed))})})


def holding(folder: Path, seed: int) -> set[str]:
    """The files that hold a piece of an update: any 64 bytes of each page it could lie on."""
    data = update(seed).tobytes()
    pieces = [data[start : start + 64] for start in range(0, len(data), 2048)]
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and any(piece in content for content in [path.read_bytes()] for piece in pieces):
            found.add(path.name)
    return found


def answered(link: SuperLinkHere, node: RawNode, run: int, seed: int) -> str:
    """Send a site a message, have it answer with an update; returns the answer's id."""
    link.send(run, node.node.node_id, record(0))
    pulled = node.pull()
    assert pulled is not None
    node.pull_all(pulled)
    node.confirm(run, pulled.id)
    reply = answer(pulled.message, source=node.node.node_id, content=record(seed))
    node.push(reply)
    return str(reply.metadata.message_id)


def gone(folder: Path, seed: int, *, seconds: float = LOOK_S + 5) -> bool:
    end = time.monotonic() + seconds
    while holding(folder, seed):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_an_update_is_gone_once_the_servers_app_has_it(link: SuperLinkHere) -> None:
    mercy, run = link.admit("mercy"), link.run()
    mercy.activate()
    reply = answered(link, mercy, run, 1)
    assert holding(link.folder, 1), "the search finds nothing where there is something"
    confirm = ConfirmMessageReceivedRequest(node=Node(node_id=SERVER), run_id=run, message_object_id=reply)
    server_app(link).ConfirmMessageReceived(confirm)
    assert gone(link.folder, 1), holding(link.folder, 1)
    # What was sent to the site was deleted with its own confirmation.
    assert gone(link.folder, 0), holding(link.folder, 0)


def test_the_servers_app_is_handed_an_answer_when_all_of_it_has_come(link: SuperLinkHere) -> None:
    """A site that announces objects and never sends them would hold up a round for eight minutes."""
    mercy, run = link.admit("mercy"), link.run()
    mercy.activate()
    message = link.send(run, mercy.node.node_id, record(0))
    pulled = mercy.pull()
    assert pulled is not None
    mercy.confirm(run, message)
    app = server_app(link)
    reply = answer(pulled.message, source=mercy.node.node_id, content=record(1))
    assert mercy.push(reply, objects=False)
    asked = PullAppMessagesRequest(message_ids=[message])
    assert not app.PullMessages(asked).messages_list
    mercy.push(reply)
    (handed,) = app.PullMessages(asked).messages_list
    assert handed.metadata.message_id == reply.metadata.message_id


def test_an_update_that_nobody_took_is_gone_when_its_run_is_over(link: SuperLinkHere) -> None:
    mercy, run = link.admit("mercy"), link.run()
    mercy.activate()
    answered(link, mercy, run, 2)
    assert holding(link.folder, 2)
    server_app(link).PushTaskOutput(PushTaskOutputRequest(sub_status="completed"))
    assert gone(link.folder, 2), holding(link.folder, 2)


def test_an_update_is_gone_when_the_server_is_stopped_or_its_app_dies(link: SuperLinkHere) -> None:
    mercy, run = link.admit("mercy"), link.run()
    mercy.activate()
    answered(link, mercy, run, 3)
    link.state.finish_task(link.task, "failed", "its process was killed")
    link.stop()
    assert not holding(link.folder, 3)


def test_a_database_of_an_earlier_medveil_is_written_anew(tmp_path: Path) -> None:
    database = tmp_path / "superlink.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE kept (content BLOB)")
        connection.execute("INSERT INTO kept VALUES (?)", (update(4).tobytes(),))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("DELETE FROM kept")
        connection.commit()
    connection.close()
    assert holding(tmp_path, 4), "SQLite overwrites by itself what was deleted"
    compact(database)
    assert not holding(tmp_path, 4)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="cannot be written anew"):
            compact(database)
    compact(tmp_path / "none.db")


def test_flowers_connections_take_their_pragmas_from_one_place(link: SuperLinkHere) -> None:
    mixin = import_module("flwr.supercore.sql_mixin")
    assert ("secure_delete", "ON") in mixin.SQLITE_PRAGMAS
    with link.state.session() as session:
        from sqlalchemy import text  # noqa: PLC0415

        assert session.execute(text("PRAGMA secure_delete")).scalar() == 1, "Flower no longer reads SQLITE_PRAGMAS"
        assert session.execute(text("PRAGMA busy_timeout")).scalar() == LOCKED_MS


def test_a_request_waits_while_a_large_model_is_wiped(link: SuperLinkHere) -> None:
    """Flower's connections give up after 5 s: three hospitals with a model of 86 M parameters lost their run by it."""
    held = sqlite3.connect(link.database, isolation_level=None, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    later = threading.Timer(5.5, lambda: held.execute("COMMIT"))
    later.start()
    try:
        # Registering writes.
        assert link.admit("mercy").activate()
    finally:
        later.join()
        held.close()
