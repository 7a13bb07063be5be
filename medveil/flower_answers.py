"""What Flower's fleet router answers, and what its store holds, in its own types. Private interfaces of Flower."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from medveil.door_replies import Delivery


def http_error(status: int, why: str) -> Exception:
    """What Flower's app turns into an answer of this status."""
    from fastapi import HTTPException  # noqa: PLC0415

    return HTTPException(status, why)


def is_flowers_refusal(error: Exception) -> bool:
    """Whether Flower says no, as for a run that is over, and did not break."""
    from flwr.supercore.error import FlowerError  # noqa: PLC0415

    return isinstance(error, FlowerError)


def stored_bytes(store: Any, ids: Collection[str]) -> int:
    """Bytes of the objects of these ids in Flower's store."""
    from flwr.supercore.state.schema.objectstore_models import StoredObject  # noqa: PLC0415
    from sqlalchemy import func, select  # noqa: PLC0415

    asked = select(func.sum(func.length(StoredObject.content))).where(StoredObject.object_id.in_(ids))
    with store.session() as session:
        return int(session.scalar(asked) or 0)


def handing(delivery: Delivery) -> Any:
    """The answer that hands a node a message."""
    from flwr.proto.fleet_pb2 import PullMessagesResponse  # noqa: PLC0415

    return PullMessagesResponse(messages_list=[delivery.message], message_object_trees=[delivery.tree])


def stored() -> Any:
    """The answer that an object is stored."""
    from flwr.proto.message_pb2 import PushObjectResponse  # noqa: PLC0415

    return PushObjectResponse(stored=True)


def superlink_id() -> int:
    """The node id of the SuperLink itself."""
    from flwr.common.constant import SUPERLINK_NODE_ID  # noqa: PLC0415

    return int(SUPERLINK_NODE_ID)
