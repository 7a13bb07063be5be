"""The doors of a server: which requests may pass, and how much of one is read.

`Door` stands before Flower's app. A `Gate` looks at the head of a request and says who sent it and how long its body
may be, or refuses it; only then is a byte of the body read, within a time and within what all requests together may
take. What the gates know of Flower is in `medveil.flower_door`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from medveil.errors import FederationError

FLEET, CONTROL, RUNTIME = "/v1/fleet/", "/v1/control/", "/v1/runtime/"
"""Where a SuperLink serves SuperNodes, its own commands, and the processes of its runs: all on one port."""
SMALL = 64 * 2**10
"""Bytes of a request that carries no tensors and no app."""
IN_FLIGHT = 256 * 2**20
"""Bytes of all bodies that are held at once, beside what is everyone's own."""
IN_FLIGHT_EACH = 64 * 2**20
"""Bytes of the bodies that one caller has held at once."""
IN_FLIGHT_OWN = 16 * 2**20
"""Bytes that a caller has held whatever others have: a node sends two pieces of tensors at once."""
AT_ONCE_EACH = 16
"""Requests one caller may have open at once: a node has four."""
BODY_S = 30.0
"""Seconds for the body of a request or of an answer, beside those for its length."""
LEAST_RATE = 32 * 2**10
"""Bytes a second below which a sender, or who is sent to, counts as one that only holds the door."""
AT_A_TIME = 64 * 2**10
"""Bytes of an answer that are sent before its caller has to have taken some."""

KNOWN = "medveil.known"
"""Where a request may hold what is called with the name of its sender once that is known."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Parameters
    ----------
    name
        What it is called: a site's name, or what it is to this machine.
    node
        Flower's id of a site's node; 0 for anyone else.
    session
        What tells one life of a node from another.
    largest
        Bytes this request may have.
    headers
        What its answer says beside the answer.
    """

    name: str
    node: int = 0
    session: str = ""
    largest: int = SMALL
    headers: Headers = ()


CALLER: ContextVar[Caller] = ContextVar("CALLER")
"""Who sent the request that is being handled."""


class RequestError(Exception):
    """A request that may not pass.

    Parameters
    ----------
    status
        What it is answered.
    why
        In our words, never in the sender's; empty for what is no harm and not worth a word.
    name
        Who sent it, where that is known.
    body
        JSON that a client of Flower's understands.
    """

    def __init__(self, status: int, why: str, name: str = "", body: bytes = b"") -> None:
        super().__init__(why)
        self.status, self.why, self.name, self.body = status, why, name, body


Gate = Callable[[Scope], Awaitable[Caller]]
Noted = Callable[[str, str], None]


class Door:
    """An ASGI app that shows another only requests that a gate lets pass, each with its whole body.

    Parameters
    ----------
    app
        Flower's app.
    gates
        By the port a request came in on; a request on any other is not answered.
    note
        Hears who was refused and why.
    """

    def __init__(self, app: App, gates: Mapping[int, Gate], note: Noted) -> None:
        self._app, self._gates, self._note = app, gates, note
        self._held = _Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            length = _length(scope)
            caller = await self._caller(scope, length)
            scope.pop(KNOWN, _nobody_asks)(caller.name)
            with self._held.taken(caller.name, length):
                CALLER.set(caller)
                body = await _body(receive, length, caller.name)
                answer = _Answer(send, caller.headers)
                await self._app(scope, _replaying(body, receive), answer)
                if answer.given_up:
                    self._note(caller.name, "was too slow over an answer")
        except RequestError as refused:
            if refused.why:
                self._note(refused.name, refused.why)
            await _refuse(send, refused)

    async def _caller(self, scope: Scope, length: int) -> Caller:
        server = scope.get("server")
        gate = self._gates.get(server[1]) if server is not None else None
        if gate is None:
            raise RequestError(404, "came in by no door")
        caller = await gate(scope)
        if length > caller.largest:
            raise RequestError(413, "sent more than it may", caller.name)
        return caller


def header(scope: Scope, name: str) -> str | None:
    """The one value of a header; None where it is missing, given twice, or not plain ASCII."""
    found = [value for each, value in scope["headers"] if each == name.lower().encode()]
    return found[0].decode("ascii") if len(found) == 1 and found[0].isascii() else None


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address of this machine (FederationError where it cannot)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        problem = f"cannot listen there: {(error.strerror or str(error)).lower()}"
        raise FederationError(problem, where=f"{host}:{port}", cure="choose another address or port") from error


class _Held:
    """What the bodies of all open requests take, all together and of each caller."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, name: str, length: int) -> Iterator[None]:
        """Take room for a body; 503 where there is none now, which Flower's clients try again."""
        if self._open[name] >= AT_ONCE_EACH or self._bytes[name] + length > IN_FLIGHT_EACH:
            raise RequestError(503, "has more requests open than it may", name)
        if self._bytes[name] + length > IN_FLIGHT_OWN and self._bytes.total() + length > IN_FLIGHT:
            raise RequestError(503, "came while the server held as much as it may", name)
        self._open[name] += 1
        self._bytes[name] += length
        try:
            yield
        finally:
            for counter, by in ((self._open, 1), (self._bytes, length)):
                counter[name] -= by
                if not counter[name]:
                    del counter[name]


def _nobody_asks(name: str) -> None:
    """A server that does not count its connections."""


def _length(scope: Scope) -> int:
    """How long the body is said to be. Flower's clients always say, and compress nothing."""
    if header(scope, "content-encoding") is not None or _has(scope, b"transfer-encoding"):
        raise RequestError(415, "sent a body that is encoded, or does not say how long it is")
    if scope["method"] == "GET" and not _has(scope, b"content-length"):
        return 0
    length = header(scope, "content-length") or ""
    if not (length.isdigit() and len(length) <= 12):
        raise RequestError(411, "does not say how long its request is")
    return int(length)


def _has(scope: Scope, name: bytes) -> bool:
    return any(each == name for each, _ in scope["headers"])


async def _body(receive: Receive, length: int, name: str) -> bytes:
    """The whole body; a sender that takes too long over it is refused."""
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_S + length / LEAST_RATE):
            while True:
                event = await receive()
                if event["type"] != "http.request":
                    raise RequestError(400, "left in the middle of a request", name)
                pieces.append(event.get("body", b""))
                size += len(pieces[-1])
                if size > length:
                    raise RequestError(413, "sent more than it said", name)
                if not event.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise RequestError(408, "was too slow over a request", name) from None


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Receive a body that was read, and then whatever comes after it."""
    events = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def received() -> Scope:
        event: Scope | None = next(events, None)
        return await receive() if event is None else event

    return received


class _Answer:
    """Sends an answer as fast as its caller takes it, within a time, and with headers of ours.

    A server that is handed an answer in one piece takes it for sent, and ends the connection after some idle seconds
    while a slow line is still busy with it.

    Parameters
    ----------
    send
        Waits while what was sent before is not taken.
    headers
        What the answer says beside what it is.
    """

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send, self._headers = send, headers
        self.given_up = False

    async def __call__(self, event: Scope) -> None:
        if event["type"] == "http.response.start":
            await self._send({**event, "headers": [*event.get("headers", ()), *self._headers]})
        elif not self.given_up:
            await self._body(event)

    async def _body(self, event: Scope) -> None:
        body, more = memoryview(event.get("body", b"")), event.get("more_body", False)
        try:
            async with asyncio.timeout(BODY_S + len(body) / LEAST_RATE):
                for start in range(0, max(len(body), 1), AT_A_TIME):
                    piece, last = bytes(body[start : start + AT_A_TIME]), start + AT_A_TIME >= len(body)
                    await self._send({**event, "body": piece, "more_body": more or not last})
        except TimeoutError:
            # What is never sent whole ends its connection.
            self.given_up = True


async def _refuse(send: Send, refused: RequestError) -> None:
    """An answer without a word of what was sent; the connection ends, for a body may still be on its way."""
    length = str(len(refused.body)).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refused.status, "headers": head})
    await send({"type": "http.response.body", "body": refused.body})
