"""Flower's SuperLink in a thread of a test, behind our doors, without TLS; the test itself is the server's app."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.supercore.constant import NOOP_FEDERATION_ID
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from raw_node import SERVER, RawNode

from medveil.audit import AuditLog
from medveil.door_connections import DoorLoop, door_server
from medveil.door_notes import DoorNotes
from medveil.doors import Door, listening
from medveil.flower_control import InnerGate, draw_secrets
from medveil.flower_superlink import Behind
from medveil.flower_wipe import zero_what_is_deleted

HERE = "127.0.0.1"


class SuperLinkHere:
    """A SuperLink and what it says.

    Parameters
    ----------
    folder
        For its database and its notes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, folder / "superlink.db"
        self.said: list[str] = []
        zero_what_is_deleted()
        self._sockets = [listening(HERE, 0), listening(HERE, 0)]
        self.inner, self.fleet = (each.getsockname()[1] for each in self._sockets)
        self.app = _flowers_app(self.database, self.inner)
        self.audit = AuditLog(folder / "audit.jsonl", "server veil")
        self.secret, self.superexec = draw_secrets(folder, f"{HERE}:{self.inner}", folder / "superexec.secret")
        self.app.state.superexec_auth_secret = self.superexec
        self.notes = DoorNotes(folder / "door.json", self.audit, self.said.append)
        self.behind = Behind(self.app, self.database, self.notes)
        self.gates = {
            self.inner: InnerGate(self.secret, self.behind.state, self.superexec),
            self.fleet: self.behind.fleet_gate,
        }
        self.state = self.behind.state()
        self._server = door_server(
            Door(self.app, self.gates, self.notes), self._sockets, self.behind.close, log_level="warning"
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=DoorLoop) as runner:
            runner.run(self._server.begin())

    def start(self) -> None:
        self._thread.start()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((HERE, self.fleet), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError("it does not listen")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    # -- what a coordinator does ---------------------------------------------------------------------------------------

    def admit(self, name: str) -> RawNode:
        """A node whose key is known, not yet begun."""
        key = ec.generate_private_key(ec.SECP384R1())
        self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(key.public_key()), 30, name=name)
        return RawNode(f"{HERE}:{self.fleet}", key)

    # -- what the server's app does ------------------------------------------------------------------------------------

    def run(self) -> int:
        """A run that is running."""
        federation = NOOP_FEDERATION_ID
        run = self.state.create_run(
            "medveil/medveil", "1", "0" * 64, {}, federation, None, NOOP_FLWR_AID, "flwr-serverapp"
        )
        self.task = self.state.get_run_info(run_ids=[run])[0].primary_task_id
        self.token = self.state.claim_task(self.task)
        assert self.token
        assert self.state.activate_task(self.task)
        return int(run)

    def send(self, run: int, node: int, content: RecordDict, *, kind: str = "train", group: str = "1") -> str:
        """Send a message with all its objects; returns its id."""
        about = Metadata(
            run_id=run,
            message_id="",
            src_node_id=SERVER,
            dst_node_id=node,
            reply_to_message_id="",
            group_id=group,
            created_at=time.time(),
            ttl=600.0,
            message_type=kind,
        )
        message = make_message(about, content=content)
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            tree = get_object_tree(message)
            contents = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
            session = self.state.start_session(run)
            stored, missing = self.state.store_message_and_object_tree(
                remove_content_from_message(message), tree, session
            )
        assert stored
        for name in missing:
            assert self.state.store_object(run, session, name, contents[name])
        return str(message.metadata.message_id)

    def answers(self, run: int, message_id: str) -> list[Message]:
        return list(self.state.get_message_res({message_id}, run))


def server_app(link: SuperLinkHere) -> RuntimeHttpClient:
    """The process of the run, as the SuperLink knows it."""
    return RuntimeHttpClient.from_server_address(
        server_address=f"{HERE}:{link.inner}",
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
            RuntimeTokenHttpInterceptor(link.token),
        ],
    )


def _flowers_app(database: Path, port: int) -> Any:
    command = import_module("flwr.superlink.cli.flower_superlink")
    before = sys.argv
    words = ["--insecure", "--database", str(database), "--isolation", "process"]
    sys.argv = ["flower-superlink", *words, "--host", HERE, "--port", str(port)]
    try:
        config = command._parse_superlink_lifespan_config()
    finally:
        sys.argv = before
    app = import_module("flwr.superlink.main").create_app(config, command.SuperLinkLifespan)
    # Flower would want TLS for it.
    app.state.enable_supernode_auth = True
    return app


@contextlib.contextmanager
def superlink(folder: Path) -> Iterator[SuperLinkHere]:
    """A SuperLink that serves."""
    made = SuperLinkHere(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
