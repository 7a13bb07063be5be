"""What keeps a site from its server is one answer: `check`, `start`, `status` and the log say the same true thing."""

from __future__ import annotations

import base64
import os
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fl_client.deployment import check, check_server, door, greeting, points, running, supernode
from fl_client.deployment.config import SiteConfig
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.supervisor import NODE, SUPERVISOR, Child, Supervisor
from medveil import certificates, node_keys, processes
from medveil.certificates import issue, make_authority
from medveil.errors import FederationError, MedVeilError, StorageError

AUTHORITY, OTHER = make_authority("veil"), make_authority("other")
SILENT = "INFO:     Started server process [7]\nINFO:     Finished server process [7]\n"
HOST, SECRET = "veil.test", "s3cret-pass"


class _Answer(BaseHTTPRequestHandler):
    off = 0.0

    def do_GET(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", formatdate(datetime.now().timestamp() + self.off, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], folder: Path | None = None) -> Iterator[int]:
    """A server of this process; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt", folder / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Plain(BaseHTTPRequestHandler):
    """What speaks at once, and no TLS."""

    def handle(self) -> None:
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class World:
    """A site, and what it finds where its server should be."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        (folder / "ca.crt").write_bytes(AUTHORITY.certificate.public_bytes(Encoding.PEM))

    def server(self, *names: str, off: float = 0.0, days: float = 90, authority: Any = AUTHORITY) -> int:
        issue(authority, names or ["127.0.0.1"], days=days).save(self._folder / "key", self._folder / "crt")
        return self._stack.enter_context(serving(type("At", (_Answer,), {"off": off}), self._folder))

    def plain(self) -> int:
        return self._stack.enter_context(serving(_Plain))

    def proxy(self, *, to: int, asks: str | None, told: list[str] | None = None) -> int:
        known = {"to": to, "asks": asks, "told": [] if told is None else told}
        return self._stack.enter_context(serving(type("To", (_Proxy,), known)))

    def site(self, server: str, **settings: Any) -> OwnFiles:
        config = SiteConfig(name="mercy", server=server, ca="ca.crt", node_key="node", key="key", port=1, **settings)
        files = OwnFiles(config, self._folder / "site.yaml")
        files.node_log.parent.mkdir(parents=True)
        files.node_log.write_text("INFO :      Starting Flower SuperNode\n" + SILENT)
        return files


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that lets one name through, to whom knows its password."""

    to, asks = 0, ""
    told: ClassVar[list[str]] = []

    def do_CONNECT(self) -> None:
        self.told.append(self.headers.get("Proxy-Authorization", ""))
        given = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        if self.asks and base64.b64decode(given).decode() != self.asks:
            self.send_error(407)
            return
        with socket.create_connection(("127.0.0.1", self.to)) as there:
            self.send_response_only(200)
            self.end_headers()
            while True:
                ready, _, _ = select.select([self.connection, there], [], [], 2)
                for end, other in ((self.connection, there), (there, self.connection)):
                    if end in ready:
                        piece = end.recv(65536)
                        if not piece:
                            return
                        other.sendall(piece)
                if not ready:
                    return

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let certificates begin in two days."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(certificates, "datetime", Later)


def closed() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_IN_WORDS = greeting.clock_in_words
CASES: dict[str, tuple[Callable[[World], str], str, str, str]] = {
    "ahead": (lambda w: f"127.0.0.1:{w.server(off=-600)}", "clock", "clock is 600 s ahead of the server's", "NTP"),
    "behind": (lambda w: f"127.0.0.1:{w.server(off=600)}", "clock", "clock is 600 s behind the server's", "NTP"),
    "expired": (lambda w: f"127.0.0.1:{w.server(days=-0.01)}", "TLS", "certificate has expired", "renew"),
    "host": (lambda w: f"127.0.0.1:{w.server('veil.example.org')}", "TLS", "mismatch", "a name its certificate"),
    "authority": (lambda w: f"127.0.0.1:{w.server(authority=OTHER)}", "TLS", "does not count here", "invitation"),
    "away": (lambda w: f"127.0.0.1:{closed()}", "TLS", "does not answer: ", "must run"),
    "plain": (lambda w: f"127.0.0.1:{w.plain()}", "TLS", "", "must run"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_door_says_the_same(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, point, problem, cure = CASES[name]
    files = world.site(make(world))
    # Answers carry whole seconds: from one to the next the difference may be another.
    monkeypatch.setattr(greeting, "clock_in_words", lambda ahead: _IN_WORDS(round(ahead / 10) * 10))
    (found,) = [each for each in check_server.of_door(files) if each.what == point]
    assert found.state == points.FAILED
    assert found.exit_code == FederationError.exit_code
    assert problem in found.found
    assert cure in found.cure
    # `start` waits for it, `status` asks, and the supervisor writes it into the log as the node ends.
    why = found.found.removeprefix(f"{files.config.server}: ")
    assert running.wait_connected(files, seconds=0) == (False, f"{why}; {found.cure}")
    processes.write_record(files.record(SUPERVISOR), os.getpid())
    assert running._connection(running.status(files)) == f"not connected to {files.config.server}: {why}; {found.cure}"
    child = Child(NODE, lambda: None, retry=60, state="running")
    Supervisor(files, {})._look_after(child)
    assert child.why == f"{why}; {found.cure}"
    assert running.told_why(files) == child.why
    assert f"{why}; {found.cure}" in check_server.of_door(files)[2].found


def test_a_certificate_that_is_not_yet_good_speaks_of_the_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        later(patched)
        port = world.server()
    files = world.site(f"127.0.0.1:{port}")
    assert "certificate is not yet valid; this machine's clock is behind" in door.why_not_in(files)


def test_a_server_that_answers_leaves_the_nodes_own_words(world: World) -> None:
    files = world.site(f"127.0.0.1:{world.server()}")
    tls, clock, session = check_server.of_door(files)
    assert (tls.state, clock.state, session.found) == (points.OK, points.OK, "not started")
    assert re.search(r"its certificate until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", tls.found)
    assert door.why_not_in(files) == "it ended without a word of why"
    assert door.why_not_in(files, let_in=True) == "the server cut it off"
    files.node_log.write_text(f"ERROR :     Exit Code: 305\n[code: 2004] Failed\n{SILENT}")
    assert door.why_not_in(files).startswith("the server refuses this site's key")


def test_a_proxys_password_is_sent_as_the_node_sends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port = world.server(HOST)
    proxy = world.proxy(to=port, asks=f"st anna:{SECRET}")
    files = world.site(f"{HOST}:{port}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://st%20anna:{SECRET}@127.0.0.1:{proxy}")
    assert [point.state for point in check_server.of_door(files)] == [points.OK] * 3
    for wrong in (f"http://127.0.0.1:{proxy}", f"http://st%20anna:{SECRET}x@127.0.0.1:{proxy}"):
        monkeypatch.setenv("HTTPS_PROXY", wrong)
        tls = check_server.of_door(files)[0]
        assert tls.found == f"{HOST}:{port}: the proxy refuses: 407 Proxy Authentication Required"
        assert "http://NAME:PASSWORD@HOST:PORT" in tls.cure
        assert door.why_not_in(files) == f"{tls.found.partition(': ')[2]}; {tls.cure}"
        assert SECRET not in tls.found + tls.cure
    assert os.environ["HTTPS_PROXY"] == wrong


def test_the_node_itself_goes_the_same_way_with_the_same_password(world: World) -> None:
    """A real process of the site's, as `start` starts it."""
    port = world.server(HOST)
    files = world.site(f"{HOST}:{port}")
    greeted: list[str] = []
    through = world.proxy(to=port, asks=None, told=greeted)
    environment = files.environment(HTTPS_PROXY=f"http://st%20anna:{SECRET}@127.0.0.1:{through}")
    greeting.greet(files.config.server, files.path(files.config.ca), environment)
    key = files.path(files.config.node_key)
    key.write_bytes(node_keys.private_bytes(node_keys.generate()))
    files.secret.write_bytes(bytes(32))
    for path in (key, files.secret):
        path.chmod(0o600)
    (said,) = greeted
    assert base64.b64decode(said.removeprefix("Basic ")).decode() == f"st anna:{SECRET}"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(supernode.command(files, port=closed()), env=environment, **silent) as node:
        try:
            until = time.monotonic() + 50
            while len(greeted) < 2 and time.monotonic() < until:
                assert node.poll() is None, "it ended before it asked"
                time.sleep(0.05)
        finally:
            node.kill()
    assert set(greeted[1:]) == {said}


@pytest.mark.parametrize(
    "proxy", [f"socks5://a:{SECRET}@127.0.0.1:1", f"ftp://a:{SECRET}@x", f"http://a:{SECRET}@127.0.0.1:x"]
)
def test_a_proxy_that_cannot_be_one_is_said_without_its_password(
    world: World, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    tls = check_server.of_door(world.site("veil.test:1"))[0]
    assert tls.state == points.FAILED
    assert SECRET not in tls.found + tls.cure


def test_a_proxy_is_not_asked_for_what_the_node_reaches_without(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = world.site(f"127.0.0.1:{world.server()}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed()}")
    assert check_server.of_door(files)[0].state == points.OK


def test_an_odd_date_is_no_clock(world: World) -> None:
    for date in ("yesterday", "", "Mon, 99 Jan 2026 00:00:00 GMT", "\x1b[2J"):
        assert greeting._ahead(date, datetime.now().astimezone()) is None
    assert greeting._ahead(None, datetime.now().astimezone()) is None


@pytest.mark.parametrize(("text", "kind"), [(None, StorageError), ("no certificate", MedVeilError)])
def test_an_authority_that_cannot_be_read_is_told_before_anything_starts(
    world: World, text: str | None, kind: type[MedVeilError]
) -> None:
    files = world.site("127.0.0.1:1")
    ca = files.path(files.config.ca)
    ca.unlink()
    if text is not None:
        ca.write_text(text)
    with pytest.raises(kind):
        door.greeting_of(files)
    assert check_server.of_door(files)[0].state == points.FAILED
    with pytest.raises(MedVeilError):
        door.refuse_unready(files)


def test_images_that_are_gone_and_a_full_disk_are_said_by_start_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = world.site("127.0.0.1:1")
    files.config.data.source, files.config.data.path = "images", "gone"
    monkeypatch.setattr(door.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3 * 10**6})())
    looked = [
        points.point_of("data", lambda: check._data(files, lambda _: "")),
        points.point_of("disk", lambda: check._disk(files, lambda _: "")),
    ]
    images, disk = door.warnings_of(files)
    for point, warning in zip(looked, (images, disk), strict=True):
        assert point.state == points.FAILED
        assert warning == f"{point.found}; {point.cure}"
    assert "the images are not there" in images
    assert "0.0 GB free" in disk
