"""State as Prometheus text: to this machine alone, and no look more often than it holds."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra medveil[prometheus] is not installed")

from medveil.errors import ConfigError, FederationError, StorageError
from medveil.exposition import Family, Held, disk_free, moment_of, port_of, samples_of, serve, text_of


def families() -> Iterator[Family]:
    yield Family("up", "Whether it is.").add(True)
    yield Family("refused_total", "Refusals.").add(3, site='st"\n\x1b[1m').add(None, site="nobody")
    yield Family("nothing", "Nobody knows.")


def test_a_look_is_prometheus_text_and_names_are_shown_not_obeyed() -> None:
    said = text_of(families)
    assert "# TYPE medveil_up gauge\nmedveil_up 1.0\n" in said
    assert "# TYPE medveil_refused_total counter" in said
    assert "\x1b" not in said
    assert "nobody" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("medveil_refused_total{")]
    up, refused = samples_of(families)
    assert up == {"name": "medveil_up", "labels": {}, "value": 1.0}
    assert (refused["name"], line.split()[-1]) == ("medveil_refused_total", str(refused["value"]))


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "localhost:9464", ":9464", "10.0.0.3:80", "9464"])
def test_no_address_but_loopback_is_taken(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"--listen: '.*' is reached by others.*127\.0\.0\.1:PORT"):
        port_of(listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_a_port_is_a_port(listen: str) -> None:
    with pytest.raises(ConfigError, match="names no port"):
        port_of(listen)


def test_scrapes_are_answered_on_127_0_0_1_until_the_end() -> None:
    ended, bound = threading.Event(), list[int]()
    there = threading.Event()

    def ready(port: int) -> None:
        bound.append(port)
        there.set()

    thread = threading.Thread(target=serve, args=(families, 0), kwargs={"ready": ready, "ended": ended}, daemon=True)
    thread.start()
    assert there.wait(10)
    open_ = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    try:
        with open_(f"http://127.0.0.1:{bound[0]}/metrics", timeout=10) as answer:
            said = answer.read().decode()
        assert "medveil_up 1.0" in said
        assert "medveil_look_failed 0.0" in said
        # 127.0.0.2 is this machine too, and not what was bound.
        with pytest.raises(urllib.error.URLError):
            open_(f"http://127.0.0.2:{bound[0]}/metrics", timeout=10)
        with pytest.raises(StorageError, match="cannot listen: Address already in use"):
            serve(families, bound[0], ready=ready)
    finally:
        ended.set()
        thread.join(10)
    assert not thread.is_alive()


def test_a_look_holds_for_a_while_and_one_that_fails_says_only_that() -> None:
    now, looks = [0.0], list[float]()

    def look() -> Iterator[Family]:
        looks.append(now[0])
        if now[0] >= 20:
            raise FederationError("the secret reason")
        yield Family("up", "Whether it is.").add(1)

    held = Held(look, seconds=15, clock=lambda: now[0])
    for now[0] in (0.0, 14.0, 15.0, 16.0):
        assert [(each.name, each.samples[0][1]) for each in held()] == [("up", 1), ("look_failed", 0)]
    assert looks == [0, 15]
    now[0] = 31.0
    assert [(each.name, each.samples[0][1]) for each in held()] == [("look_failed", 1)]


def test_moments_and_disks(tmp_path: Path) -> None:
    assert moment_of("1970-01-01T00:01:00+00:00") == 60
    assert moment_of("now") is not None
    assert [moment_of(each) for each in ("never", "", None)] == [None] * 3
    assert disk_free(state=tmp_path).samples[0][1] > 0
    assert not disk_free(state=tmp_path / "gone").samples
