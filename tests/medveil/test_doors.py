"""What a door does with a request once its gate has looked: bodies are bounded in bytes, in time, and all together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medveil import door_connections, doors
from medveil.certificates import issue, make_authority
from medveil.doors import Caller, Door, RequestError, listening

Said = list[tuple[str, str]]


def request(
    app: Any,
    gate: Any,
    *bodies: Any,
    length: int = 10,
    said: Said | None = None,
    door: Door | None = None,
    **changes: Any,
) -> Any:
    """What a door answers to a request whose body comes in these pieces."""
    sent: list[Any] = []
    pieces = iter(bodies)

    async def receive() -> Any:
        piece = next(pieces, None)
        if piece is None:
            await asyncio.sleep(60)
        if isinstance(piece, bytes):
            return {"type": "http.request", "body": piece, "more_body": True}
        return piece or {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    headers = [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "server": ("x", 1), **changes}
    made = door or Door(app, {1: gate}, lambda name, why: None if said is None else said.append((name, why)))
    asyncio.run(made(scope, receive, send))
    return sent[0]


END = {"type": "http.request", "body": b"", "more_body": False}


async def mercy(scope: Any) -> Caller:
    return Caller("mercy", largest=100)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    event = await receive()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"got", event["body"]), (b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


async def unread(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("Flower was asked")


def test_a_body_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = request(echo, mercy, b"01234", b"56789", END)
    assert (answer["status"], answer["headers"]) == (200, [(b"got", b"0123456789"), (b"content-length", b"0")])
    assert request(unread, mercy, b"0123456789", b"x", END)["status"] == 413, "more than it said"
    assert request(unread, mercy, length=101)["status"] == 413, "more than it may"
    assert request(unread, mercy, {"type": "http.disconnect"})["status"] == 400


def test_who_is_slow_over_a_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "BODY_S", 0.2)
    said: Said = []
    began = time.monotonic()
    assert request(unread, mercy, b"0", said=said)["status"] == 408
    assert time.monotonic() - began < 5
    assert said == [("mercy", "was too slow over a request")]


def test_bodies_are_bounded_all_together_and_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "IN_FLIGHT", 250)
    monkeypatch.setattr(doors, "IN_FLIGHT_EACH", 120)
    monkeypatch.setattr(doors, "IN_FLIGHT_OWN", 0)
    held: dict[str, int] = {"most": 0}
    statuses: list[int] = []

    async def run() -> None:
        release = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            held["most"] += 1
            await release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def gate(scope: Any) -> Caller:
            return Caller(scope["path"], largest=100)

        door = Door(slow, {1: gate}, lambda name, why: None)

        async def one(name: str) -> None:
            async def receive() -> Any:
                return {"type": "http.request", "body": b"x" * 100, "more_body": False}

            async def send(event: Any) -> None:
                if event["type"] == "http.response.start":
                    statuses.append(event["status"])

            headers = [(b"content-length", b"100")]
            await door(
                {"type": "http", "method": "POST", "path": name, "headers": headers, "server": ("x", 1)}, receive, send
            )

        tasks = [asyncio.create_task(one(name)) for name in ("a", "a", "b", "b", "c")]
        await asyncio.sleep(0.2)
        release.set()
        await asyncio.gather(*tasks)
        # All room is given back.
        await one("c")

    asyncio.run(run())
    assert sorted(statuses) == [200, 200, 200, 503, 503, 503]
    assert held["most"] == 3


def test_who_sends_little_is_never_kept_out_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "IN_FLIGHT", 2 * doors.IN_FLIGHT_EACH)
    held = doors._Held()
    with contextlib.ExitStack() as stack:
        for name, size in (("a", doors.IN_FLIGHT_EACH), ("b", doors.IN_FLIGHT_EACH), ("c", doors.IN_FLIGHT_OWN)):
            stack.enter_context(held.taken(name, size))
        with pytest.raises(RequestError), held.taken("c", 1):
            pass


def test_one_caller_has_so_many_requests_open(monkeypatch: pytest.MonkeyPatch) -> None:
    held = doors._Held()
    with contextlib.ExitStack() as stack:
        for _ in range(doors.AT_ONCE_EACH):
            stack.enter_context(held.taken("mercy", 0))
        with pytest.raises(RequestError), held.taken("mercy", 0):
            pass
        stack.enter_context(held.taken("st-anna", 0))
    with held.taken("mercy", 0):
        pass
    assert not held._open
    assert not held._bytes


LARGE = bytes(range(256)) * 2**15


async def large(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    length = [(b"content-length", str(len(LARGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": LARGE})


def answered(app: Any, send: Any) -> Said:
    """What a door says of an answer that goes out by `send`."""
    said: Said = []

    async def receive() -> Any:
        return END

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"0")], "server": ("x", 1)}
    asyncio.run(Door(app, {1: mercy}, lambda name, why: said.append((name, why)))(scope, receive, send))
    return said


def test_an_answer_goes_out_in_pieces_that_wait_for_each_other() -> None:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    assert answered(large, send) == []
    bodies = [event["body"] for event in sent[1:]]
    assert b"".join(bodies) == LARGE
    assert {len(each) for each in bodies} == {doors.AT_A_TIME}
    assert [event["more_body"] for event in sent[1:]] == [True] * (len(bodies) - 1) + [False]


def test_who_does_not_take_an_answer_is_given_up_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "BODY_S", 0.1)
    monkeypatch.setattr(doors, "LEAST_RATE", 2**30)
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)
        if len(sent) > 3:
            await asyncio.sleep(60)

    assert answered(large, send) == [("mercy", "was too slow over an answer")]
    assert len(sent) == 4


def test_what_came_in_by_no_door_is_not_answered() -> None:
    for server in (None, ("x", 2)):
        assert request(unread, mercy, server=server)["status"] == 404
    assert request(unread, mercy, type="websocket")["type"] == "websocket.close"


# -- connections -------------------------------------------------------------------------------------------------------


class Serving:
    """A door in a thread; a request for /in shows a login."""

    def __init__(self, **options: Any) -> None:
        self._socket = listening("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        self.ended: list[bool] = []
        door = Door(self._app, {self.port: self._gate}, lambda name, why: None)
        told = {"log_level": "critical", "lifespan": "off", **options}
        self._server = door_connections.door_server(door, [self._socket], lambda: self.ended.append(True), **told)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        time.sleep(0.5)

    @staticmethod
    async def _app(scope: Any, receive: Any, send: Any) -> None:
        await (large if scope["path"].endswith("/large") else echo)(scope, receive, send)

    @staticmethod
    async def _gate(scope: Any) -> Caller:
        if not scope["path"].startswith("/in"):
            raise RequestError(401, "has no login")
        return Caller(scope["path"])

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=door_connections.DoorLoop) as runner:
            runner.run(self._server.begin())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def connect(self, *, window: int = 0) -> socket.socket:
        made = socket.socket()
        if window:
            # It counts from the first byte.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        made.settimeout(10)
        made.connect(("127.0.0.1", self.port))
        return made


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(door_connections, "HEAD_S", 0.6)
    monkeypatch.setattr(door_connections, "MOST_OF_ADDRESS", 5)
    monkeypatch.setattr(door_connections, "MOST_OF_CALLER", 3)
    made = Serving()
    yield made
    made.stop()


def post(connection: socket.socket, path: str) -> bytes:
    connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
    return connection.recv(4096)


def tls(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """What makes a server speak TLS, and what speaks it to whomever it meets."""
    issue(make_authority("test"), ["127.0.0.1"]).save(folder / "key", folder / "crt")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return {"ssl_keyfile": str(folder / "key"), "ssl_certfile": str(folder / "crt")}, context


def ended(connection: socket.socket, *, seconds: float = 5) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_a_head_that_never_ends_is_cut_off(serving: Serving) -> None:
    silent, dripping = serving.connect(), serving.connect()
    began = time.monotonic()
    dripping.sendall(b"POST /in HTTP/1.1\r\n")
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 3:
            dripping.sendall(b"x: y\r\n")
            time.sleep(0.1)
    assert time.monotonic() - began < 2.5, "a header every 100 ms kept the connection"
    assert ended(silent)
    # Between two requests too.
    again = serving.connect()
    assert b"200" in post(again, "/in")
    again.sendall(b"POST ")
    assert ended(again)


def test_what_is_left_to_do_is_done_when_it_ends_whoever_holds_a_connection(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_connections, "HEAD_S", 60)
    connection = serving.connect()
    connection.sendall(b"POST /in HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
    began = time.monotonic()
    serving.stop()
    assert serving.ended == [True]
    assert time.monotonic() - began < 3 * door_connections.LEAVE_S


def test_what_cannot_be_accepted_holds_up_nobody_behind_it(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, tried = door_connections.DoorSocket.accept, 0

    def failing(door: door_connections.DoorSocket) -> Any:
        nonlocal tried
        tried += 1
        if tried <= 200:
            raise ConnectionAbortedError
        if tried <= 203:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(door)

    monkeypatch.setattr(door_connections, "_AGAIN_S", 0.01)
    monkeypatch.setattr(door_connections.DoorSocket, "accept", failing)
    with caplog.at_level(logging.ERROR, "uvicorn.error.door"):
        # One accept was asked for before.
        assert b"200" in post(serving.connect(), "/in")
        assert b"200" in post(serving.connect(), "/in")
    assert tried > 203
    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept a connection: [Errno 24] Too many open files"
    ]


def test_a_head_has_a_largest_size(serving: Serving) -> None:
    connection = serving.connect()
    with contextlib.suppress(OSError):
        connection.sendall(b"POST /in HTTP/1.1\r\nx: " + b"y" * (2 * door_connections.LARGEST_HEAD))
    assert b" 400 " in connection.recv(4096)
    assert ended(connection)


def test_what_is_no_request_leaves_no_line(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    connection = serving.connect()
    connection.sendall(b"\x1b[2J no request\r\n\r\n")
    assert b" 400 " in connection.recv(4096)
    assert caplog.text == ""


def test_strangers_give_way_and_who_has_a_login_stays(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_connections, "HEAD_S", 30)
    site = serving.connect()
    assert b"200" in post(site, "/in")
    flood = [serving.connect() for _ in range(20)]
    time.sleep(0.5)
    open_ = [each for each in flood if not ended(each, seconds=0.1)]
    assert len(open_) == 5
    assert b"200" in post(site, "/in"), "the site was cut off"
    fresh = serving.connect()
    assert b"200" in post(fresh, "/in"), "a site can no longer connect"


def test_one_caller_has_so_many_connections(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_connections, "HEAD_S", 30)
    connections = [serving.connect() for _ in range(5)]
    for each in connections:
        assert b"200" in post(each, "/in/mercy")
    other = serving.connect()
    assert b"200" in post(other, "/in/anna")
    assert [ended(each, seconds=0.2) for each in connections] == [True, True, False, False, False]


def test_a_slow_line_is_given_the_time_an_answer_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_connections, "HEAD_S", 0.5)
    monkeypatch.setattr(door_connections, "IDLE_S", 0.5)
    options, context = tls(tmp_path)
    made = Serving(**options)
    try:
        with context.wrap_socket(made.connect(window=2**14)) as slow:
            slow.sendall(b"POST /in/large HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            got, began = 0, time.monotonic()
            while got < len(LARGE):
                # So long that an idle connection is cut off meanwhile.
                time.sleep(max(0.0, 2.0 * got / len(LARGE) - (time.monotonic() - began)))
                piece = slow.recv(2**18)
                assert piece, f"cut off after {got} bytes"
                got += len(piece)
    finally:
        made.stop()


def test_a_handshake_that_never_ends_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_connections, "HANDSHAKE_S", 0.5)
    options, context = tls(tmp_path)
    made = Serving(**options)
    try:
        assert ended(made.connect())
        with made.connect() as plain, context.wrap_socket(plain) as whole:
            assert b"200" in post(whole, "/in")  # type: ignore[arg-type]
    finally:
        made.stop()
