"""The parts of Flower that its documentation does not promise: the one file that touches them.

Flower 1.41's public doors are ``flwr.app``, ``flwr.clientapp``, ``flwr.serverapp`` and its strategies. What lies behind
them and MedVeil needs all the same stands here under names of our own; `tests/medveil/test_flower.py` says which of
it Flower moved.
"""

from __future__ import annotations

import uuid

from flwr.app import Message
from flwr.app.exception import AppExitException
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["AppExitException", "ErrorCode", "NodeInfo", "Run", "be_task", "make_run", "stamp"]


def be_task(*, run_id: int, node_id: int, task_id: int = 1) -> None:
    """Take the identity that Flower's runtime gives a process; without one no `Message` can be made."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, task_id


def make_run(run_id: int) -> Run:
    """Describe a run that no SuperLink knows."""
    return Run.create_empty(run_id)


def stamp(message: Message, *, sender: int) -> str:
    """Give a message what the transport gives it: an id of its own, which is returned, and its sender."""
    message_id = str(uuid.uuid4())
    message.metadata.__dict__["_message_id"] = message_id
    message.metadata.__dict__["_src_node_id"] = sender
    return message_id
