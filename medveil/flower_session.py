"""A SuperNode in session: it says so with every request, and hears of others. Private interfaces of Flower.

Flower tells nodes apart by their keys alone. A node of ours draws a secret when it starts and sends it along, so that
a server of ours takes no other with a copy of its key beside it (`medveil.door_sessions`), and tells it of that one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medveil.door_sessions import OTHERS_HEADER, SESSION_HEADER
from medveil.errors import StorageError
from medveil.files import check_format, read_json, write_json

FORMAT = "medveil-other-sessions"
VERSION = 1
_LONGEST = 12


def in_session(client: Any, heard: Callable[[int], None]) -> Any:
    """Make a SuperNode's client that says its session with every request.

    Parameters
    ----------
    client
        Flower's `FleetHttpClient`.
    heard
        Called with how often another session with this key was refused, whenever that has grown.
    """
    session = _Session(heard)

    class InSession(client):
        def __init__(self, *arguments: Any, interceptors: Any = (), **settings: Any) -> None:
            super().__init__(*arguments, interceptors=[*interceptors, session], **settings)

    return InSession


class _Session:
    """An interceptor of Flower's protobuf client."""

    def __init__(self, heard: Callable[[int], None]) -> None:
        self._own, self._heard, self._others = secrets.token_hex(32), heard, 0

    def intercept(self, context: Any, call_next: Callable[[Any], Any]) -> Any:
        context.request.headers[SESSION_HEADER] = self._own
        response = call_next(context)
        said = response.headers.get(OTHERS_HEADER, "")
        if said.isascii() and said.isdigit() and len(said) <= _LONGEST and int(said) > self._others:
            self._others = int(said)
            self._heard(self._others)
        return response


def keep_others(path: Path) -> Callable[[int], None]:
    """Write down how often another session was refused, for `others`."""

    def kept(count: int) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        # A full disk must not end a node: it is told again with the next one.
        with suppress(StorageError):
            write_json(path, {"format": FORMAT, "version": VERSION, "count": count, "at": at}, mode=0o600)

    return kept


def others(path: Path) -> dict[str, Any] | None:
    """How often, and when last, another session with this node's key was refused since it started; None for never."""
    if not path.exists():
        return None
    document = read_json(path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    return {"count": document["count"], "at": document["at"]}
