"""Connections at a server's doors: how many there may be, and how long one may be silent.

A connection costs memory before anybody knows whose it is. So those of one address and those that have not shown a
login are few, the oldest of these giving way; and who takes too long over a handshake or over the head of a request is
cut off. What is behind a login has room of its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.h11_impl import H11Protocol

from medveil.doors import AT_A_TIME, KNOWN, App, Receive, Scope, Send

HEAD_S = 15.0
"""Seconds from the first byte of a request, or from a connection's beginning, to the end of its head."""
HANDSHAKE_S = 10.0
"""Seconds for a TLS handshake."""
IDLE_S = 10
"""Seconds a connection may be kept without a request."""
LARGEST_HEAD = 16 * 2**10
"""Bytes of the head of a request."""
LEAVE_S = 5
"""Seconds for requests that are open when the server ends."""
MOST_STRANGERS = 192
"""Connections without a login."""
MOST_OF_ADDRESS = 32
"""Connections without a login from one address."""
MOST_OF_CALLER = 48
"""Connections with the login of one caller: a node has five."""
_AGAIN_S = 0.5
Peer = tuple[str, int]


class DoorSocket(socket.socket):
    """A listening socket that counts what it lets in.

    Parameters
    ----------
    listener
        The socket that listens; it becomes this one.
    """

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.family, listener.type, listener.proto, fileno=listener.detach())
        self._strangers: OrderedDict[Peer, _Connection] = OrderedDict()
        self._known: dict[str, OrderedDict[Peer, _Connection]] = {}

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; the oldest stranger gives way where there are too many."""
        made, address = super().accept()
        connection = _Connection(self, made, (str(address[0]), int(address[1])))
        same = [each for peer, each in self._strangers.items() if peer[0] == connection.peer[0]]
        if len(same) >= MOST_OF_ADDRESS:
            same[0].cut()
        elif len(self._strangers) >= MOST_STRANGERS:
            next(iter(self._strangers.values())).cut()
        self._strangers[connection.peer] = connection
        return connection, address

    def knows(self, peer: Peer, name: str) -> None:
        """A connection has shown whose it is."""
        connection = self._strangers.pop(peer, None)
        if connection is None:
            return
        own = self._known.setdefault(name, OrderedDict())
        if len(own) >= MOST_OF_CALLER:
            next(iter(own.values())).cut()
        own[peer] = connection
        connection.name = name

    def forget(self, connection: _Connection) -> None:
        """A connection has ended, or is about to."""
        own = self._strangers if connection.name is None else self._known.get(connection.name, OrderedDict())
        if own.get(connection.peer) is connection:
            del own[connection.peer]
        if connection.name is not None and not own:
            self._known.pop(connection.name, None)


class _Connection(socket.socket):
    """One connection of a `DoorSocket`."""

    def __init__(self, door: DoorSocket, made: socket.socket, peer: Peer) -> None:
        super().__init__(made.family, made.type, made.proto, fileno=made.detach())
        # Event loops do so for sockets that they made themselves; without, an answer of two pieces takes 40 ms.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.door, self.peer = door, peer
        self.name: str | None = None

    def cut(self) -> None:
        """End it from this side: whoever reads from it sees its end."""
        self.door.forget(self)
        with suppress(OSError):
            # It may have ended already.
            self.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self.door.forget(self)
        super().close()

    def detach(self) -> int:
        """Leave it to its transport, which ends it."""
        self.door.forget(self)
        return super().detach()


_errors = logging.getLogger("uvicorn.error.door")
_errors.setLevel(logging.ERROR)


class DoorProtocol(H11Protocol):
    """Uvicorn's protocol that waits for the head of a request only so long."""

    _waiting: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # A line for all that strangers send which is no request would fill the disk.
        self.logger = _errors

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection began."""
        # What waits here is not seen to be under way, and should be sent before the connection counts as idle.
        transport.set_write_buffer_limits(high=AT_A_TIME)
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A piece of a request came."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """An answer was sent."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection ended."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        between = self.cycle is None or self.cycle.response_complete
        if between and self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_S, self.transport.abort)
        elif not between and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class DoorLoop(uvloop.Loop):
    """An event loop whose servers accept in our sight, and wait for a handshake only so long.

    It is the one that Flower's own server runs in.
    """

    async def create_server(self, protocol_factory: Any, *_: Any, **settings: Any) -> Any:
        """Begin to listen at a `DoorSocket`."""
        sock = settings["sock"]
        sock.setblocking(False)
        sock.listen(settings["backlog"])
        return _Listener(self, protocol_factory, sock, settings.get("ssl"))


class _Listener:
    """What lets connections in, until it is closed."""

    def __init__(self, loop: DoorLoop, protocol: Any, door: DoorSocket, context: ssl.SSLContext | None) -> None:
        self._loop, self._protocol, self._door, self._context = loop, protocol, door, context
        self._beginning: set[asyncio.Task[None]] = set()
        self.sockets = [door]
        self._accepting = loop.create_task(self._accept())

    def close(self) -> None:
        """Let nobody in any more."""
        self._accepting.cancel()

    async def wait_closed(self) -> None:
        """Wait until that is so."""
        for task in (self._accepting, *self._beginning):
            task.cancel()
        await asyncio.gather(self._accepting, *self._beginning, return_exceptions=True)

    async def _accept(self) -> None:
        said = False
        while True:
            try:
                made, _ = await self._loop.sock_accept(self._door)
            except ConnectionError:
                # It went away before it was let in: whoever does so may not hold up the next.
                continue
            except OSError as error:
                # For example of too many open files: those that are there may end. One line, however long it lasts.
                if not said:
                    _errors.error("cannot accept a connection: %s", error)
                said = True
                await asyncio.sleep(_AGAIN_S)
                continue
            said = False
            task = self._loop.create_task(self._begin(made))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, made: socket.socket) -> None:
        handshake = None if self._context is None else HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, made, ssl=self._context, ssl_handshake_timeout=handshake
            )
        except (OSError, ssl.SSLError, TimeoutError):
            # No handshake came of it, which is nothing to say a line of.
            made.close()


class DoorServer(uvicorn.Server):
    """A server that does what is left to do before its process takes the signal that ended it.

    Parameters
    ----------
    config
        Uvicorn's.
    doors
        Where it listens.
    ended
        Called when its connections have ended.
    """

    def __init__(self, config: uvicorn.Config, doors: Sequence[DoorSocket], ended: Callable[[], None]) -> None:
        super().__init__(config)
        self._doors, self._ended = list(doors), ended

    async def begin(self) -> None:
        """Serve until told to end."""
        await self.serve(sockets=cast("list[socket.socket]", self._doors))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        await super().shutdown(sockets)
        await asyncio.to_thread(self._ended)


def serve(app: App, sockets: Sequence[socket.socket], ended: Callable[[], None], **options: Any) -> None:
    """Serve an app until the process is told to end; see `door_server`."""
    with asyncio.Runner(loop_factory=DoorLoop) as runner:
        runner.run(door_server(app, sockets, ended, **options).begin())


def door_server(app: App, sockets: Sequence[socket.socket], ended: Callable[[], None], **options: Any) -> DoorServer:
    """A server of an app on sockets that listen, to be run in a `DoorLoop`.

    Parameters
    ----------
    app
        An ASGI app; it finds under `KNOWN` of a request what to call once it knows whose that is.
    sockets
        Where to listen.
    ended
        Called when all connections have ended.
    **options
        Of `uvicorn.Config`, beside those that are settled here.
    """
    doors = {each.getsockname()[1]: DoorSocket(each) for each in sockets}

    async def telling(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[KNOWN] = partial(doors[scope["server"][1]].knows, scope["client"])
        await app(scope, receive, send)

    settled: dict[str, Any] = {
        # Uvicorn's other parser takes heads of any length.
        "http": DoorProtocol,
        "ws": "none",
        "h11_max_incomplete_event_size": LARGEST_HEAD,
        "timeout_keep_alive": IDLE_S,
        "timeout_graceful_shutdown": LEAVE_S,
        # A line for every poll of every site would bury what matters, and fill the disk.
        "access_log": False,
    }
    return DoorServer(uvicorn.Config(telling, **{**options, **settled}), list(doors.values()), ended)
