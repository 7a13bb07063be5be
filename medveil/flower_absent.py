"""Sites that are not heard for a while, and what became of their messages. Private interfaces of Flower.

Flower takes a node for gone when no heartbeat of it came for 60 s, and answers the server's app in its place: a line
that is cut for a minute would cost a site its round. Here whoever falls silent is waited for, and only then given up.
But a node that begins anew has nothing of what it was handed before, however soon it is back: that is said at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

GIVEN_UP_S = 300.0
"""Seconds without a heartbeat after which a node is taken for gone."""
_SILENT_S = 45.0
"""Seconds after which one is missing: they are up to 23 s apart, and Flower acts after 60 s."""
_MOST_LOST = 1024


class Absences:
    """When nodes were heard last, and which messages were lost with an earlier life of one.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._heard: dict[int, float] = {}
        self._lost: OrderedDict[str, Any] = OrderedDict()

    def heard(self, node: int) -> None:
        """A node was heard."""
        self._heard[node] = self._clock()

    def left(self, node: int) -> None:
        """A node has taken its leave: nobody waits for it."""
        self._heard.pop(node, None)

    def is_awaited(self, node: int) -> bool:
        """Whether a node is silent, and may be back."""
        silent = self._clock() - self._heard.get(node, float("-inf"))
        return _SILENT_S < silent < GIVEN_UP_S

    def lose(self, messages: Iterable[Any]) -> None:
        """Messages, as they were handed out, of which nothing will come."""
        with self._lock:
            self._lost.update({each.metadata.message_id: each for each in messages})
            while len(self._lost) > _MOST_LOST:
                self._lost.popitem(last=False)

    def lost(self, ids: Iterable[str]) -> list[Any]:
        """Those of some ids, each told once."""
        with self._lock:
            return [self._lost.pop(each) for each in ids if each in self._lost]


class Telling:
    """Flower's state, which answers in the place of nodes that lost a message as it does for nodes that are gone.

    Parameters
    ----------
    state
        Flower's `LinkState`.
    lost
        The messages.
    """

    def __init__(self, state: Any, lost: Iterable[Any]) -> None:
        self._state, self._lost = state, {each.metadata.message_id: each for each in lost}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_message_res(self, message_ids: set[str], run_id: int) -> list[Any]:
        """The answers to some messages."""
        gone = [self._error(self._lost[each]) for each in message_ids if each in self._lost]
        return [*gone, *self._state.get_message_res(message_ids=message_ids - self._lost.keys(), run_id=run_id)]

    def _error(self, message: Any) -> Any:
        from flwr.common.serde import message_from_proto  # noqa: PLC0415
        from flwr.server.superlink.linkstate.utils import (  # noqa: PLC0415
            create_message_error_unavailable_res_message as made,
        )

        error = made(message_from_proto(message).metadata, "node_unavail")
        self._state._store_generated_message(error)
        return error
