"""A node by hand: it asks a SuperLink's door for anything, with any key, in any name."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Error, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from medveil.flower_session import in_session

SERVER = 1
"""Flower's id of a SuperLink."""


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A site's node key, as a thief of the file has it."""
    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@dataclass
class Pulled:
    """A message and the tree of its objects."""

    message: Message
    tree: ObjectTree

    @property
    def id(self) -> str:
        return str(self.message.metadata.message_id)


@dataclass
class RawNode:
    """Speaks to the sites' door.

    Parameters
    ----------
    address
        Host and port.
    key
        A node key.
    ca
        The authority's certificate; None for a door without TLS.
    sessions
        Whether it says a session, as a node of ours does.
    """

    address: str
    key: ec.EllipticCurvePrivateKey
    ca: Path | None = None
    sessions: bool = True
    node: Node = field(default_factory=Node)
    others: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        made = in_session(FleetHttpClient, self.others.append) if self.sessions else FleetHttpClient
        self.client: Any = made.from_server_address(
            self.address,
            self.ca is None,
            None if self.ca is None else str(self.ca),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(self.key, self.key.public_key()),
            ],
        )

    @property
    def public(self) -> bytes:
        return public_key_to_bytes(self.key.public_key())

    def activate(self, *, seconds: float = 0.0) -> int:
        """Begin; a node that was killed is let in again within a minute."""
        end = time.monotonic() + seconds
        while True:
            try:
                response = self.client.ActivateNode(ActivateNodeRequest(public_key=self.public, heartbeat_interval=30))
            except httpx.HTTPStatusError:
                if time.monotonic() >= end:
                    raise
                time.sleep(1)
            else:
                self.node = Node(node_id=response.node_id)
                return int(response.node_id)

    def deactivate(self) -> None:
        self.client.DeactivateNode(DeactivateNodeRequest(node_id=self.node.node_id))

    def beat(self) -> bool:
        return bool(
            self.client.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=30)).success
        )

    def pull(self, *, seconds: float = 0.0) -> Pulled | None:
        """The next message for this node."""
        end = time.monotonic() + seconds
        while True:
            response = self.client.PullMessages(PullMessagesRequest(node=self.node))
            if response.messages_list:
                return Pulled(message_from_proto(response.messages_list[0]), response.message_object_trees[0])
            if time.monotonic() >= end:
                return None
            time.sleep(0.05)

    def pull_object(self, run: int, object_id: str) -> bytes:
        response = self.client.PullObject(PullObjectRequest(node=self.node, run_id=run, object_id=object_id))
        return bytes(response.object_content)

    def pull_all(self, pulled: Pulled) -> dict[str, bytes]:
        """Every object of a message."""
        found, level = {}, [pulled.tree]
        while level:
            for each in level:
                content = b""
                while not content:
                    content = self.pull_object(pulled.message.metadata.run_id, each.object_id)
                found[each.object_id] = content
            level = [child for each in level for child in each.children]
        return found

    def confirm(self, run: int, message_id: str) -> None:
        request = ConfirmMessageReceivedRequest(node=self.node, run_id=run, message_object_id=message_id)
        self.client.ConfirmMessageReceived(request)

    def get_run(self, run: int) -> Any:
        return self.client.GetRun(GetRunRequest(node=self.node, run_id=run))

    def push(self, message: Message, *, objects: bool = True, **changes: Any) -> list[str]:
        """Push a message, whoever it claims to be from; returns the objects that were asked for.

        Parameters
        ----------
        message
            Any message.
        objects
            Whether to push its objects too.
        **changes
            Fields of the message's head to set afterwards.
        """
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            tree = get_object_tree(message)
            contents = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
            bare = message_to_proto(remove_content_from_message(message) if message.has_content() else message)
        for name, value in changes.items():
            setattr(bare.metadata, name, value)
        response = self.client.PushMessages(
            PushMessagesRequest(
                node=self.node, messages_list=[bare], message_object_trees=[tree], clientapp_runtime_list=[0.1]
            )
        )
        for name in response.objects_to_push if objects else ():
            assert self.push_object(message.metadata.run_id, response.session_id, name, contents[name])
        return list(response.objects_to_push)

    def push_object(self, run: int, session: str, object_id: str, content: bytes) -> bool:
        request = PushObjectRequest(
            node=self.node, run_id=run, session_id=session, object_id=object_id, object_content=content
        )
        return bool(self.client.PushObject(request).stored)

    def close(self) -> None:
        self.client.close()


def head(to: Message, *, source: int, **changes: Any) -> Metadata:
    """The head of an answer to a message, in a name."""
    about = to.metadata
    values = {
        "run_id": about.run_id,
        "message_id": "",
        "src_node_id": source,
        "dst_node_id": SERVER,
        "reply_to_message_id": about.message_id,
        "group_id": about.group_id,
        "created_at": time.time(),
        "ttl": 100.0,
        "message_type": about.message_type,
    }
    return Metadata(**{**values, **changes})


def answer(to: Message, *, source: int, content: RecordDict | None = None, **changes: Any) -> Message:
    """An answer to a message, in a name; without content an error."""
    made = head(to, source=source, **changes)
    if content is not None:
        return make_message(made, content=content)
    return make_message(made, error=Error(2, "DataError: written by another"))
