"""Which life of a site's node is in session at a server."""

from __future__ import annotations

from threading import Lock

SESSION_HEADER = "medveil-session"
"""What a node draws anew whenever it is started, and says with every request."""
OTHERS_HEADER = "medveil-other-sessions"
"""How often another session with the key of a node was refused: said to the one that is in session."""
SECOND_SESSION = "has two nodes with its key: a second session was tried beside the one that is open"


class Sessions:
    """Which life of a node is in session, so that a copy of its key works beside it no more.

    A node says a secret of its own that it draws when it starts. The one that activated it counts until it
    deactivates; after a restart of the server, the first that is heard. A stock node says none, and then its key is all
    that tells it from another.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._bound: dict[int, str] = {}
        self._others: dict[int, int] = {}
        self._suspected: set[int] = set()

    def bind(self, node: int, session: str) -> None:
        """A node was activated."""
        with self._lock:
            self._bound[node] = session
            self._others.pop(node, None)
            self._suspected.discard(node)

    def end(self, node: int) -> None:
        """A node has taken its leave."""
        with self._lock:
            self._bound.pop(node, None)

    def suspect(self, node: int, session: str) -> None:
        """Another one was not activated because this node is; its own last life may have died just now."""
        with self._lock:
            if self._bound.get(node, session) != session:
                self._suspected.add(node)

    def heard(self, node: int, session: str) -> tuple[bool, bool]:
        """Whether a session is the one that counts, and whether it is now certain that there is another."""
        with self._lock:
            if self._bound.setdefault(node, session) != session:
                self._others[node] = self._others.get(node, 0) + 1
                return False, True
            certain = node in self._suspected
            if certain:
                self._suspected.discard(node)
                self._others[node] = self._others.get(node, 0) + 1
            return True, certain

    def others(self, node: int) -> int:
        """How often another session of a node was refused since it was activated."""
        return self._others.get(node, 0)
