"""The doors of a server: which requests from outside may pass."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from medveil.errors import FederationError

FLEET = "/v1/fleet/"
"""Where a SuperLink serves SuperNodes. Control and runtime lie beside it, on the same port, and ask for no login."""
LARGEST_REQUEST = 64 * 2**20
"""Bytes of one request from outside: Flower sends tensors in pieces of 5 MiB."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


class FleetOnly:
    """An ASGI app that shows requests from outside the fleet's interface, and nothing else.

    Parameters
    ----------
    app
        Flower's app.
    inner
        The port whose requests may reach all of it; a request on any other port comes from outside.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, inner: int) -> None:
        self._app, self._inner = app, inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        refused = None if scope["type"] == "lifespan" or self._is_inner(scope) else _refusal(scope)
        if refused is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": refused, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})

    def _is_inner(self, scope: Scope) -> bool:
        server = scope.get("server")
        return server is not None and server[1] == self._inner


def _refusal(scope: Scope) -> int | None:
    """The HTTP status that a request from outside is refused with; None where it may pass."""
    if scope["type"] != "http" or not scope["path"].startswith(FLEET):
        return 404
    # Flower reads a whole request before it asks who sent it, and always says how long one is.
    length = dict(scope["headers"]).get(b"content-length", b"")
    if not length.isdigit():
        return 411
    return None if int(length) <= LARGEST_REQUEST else 413


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address of this machine (FederationError where it cannot)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        problem = f"cannot listen there: {(error.strerror or str(error)).lower()}"
        raise FederationError(problem, where=f"{host}:{port}", cure="choose another address or port") from error
