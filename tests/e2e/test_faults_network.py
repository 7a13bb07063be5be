"""What happens when a site is slow or cut off, when clocks differ, and when a certificate has expired."""

from __future__ import annotations

import datetime
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from consortium_world import World, wait
from faults import (
    LONG,
    OddSite,
    Proxy,
    asked,
    assert_made_of,
    await_round,
    begun,
    hold,
    left_out,
    manifest,
    meanwhile,
    send,
    trained,
)

from fl_client.deployment import greeting, running
from fl_client.deployment.supervisor import NODE, read_state
from medveil.certificates import issue, load_issued
from medveil.errors import EXIT_PARTIAL, FederationError
from medveil.times import moment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def odd_consortium(world: World, *, proxied: str = "", proxy: Proxy | None = None) -> dict[str, OddSite]:
    """Two sites that keep their updates; one of them may reach its server through a proxy."""
    sites = {}
    for name in ("mercy", "st-anna"):
        sites[name] = OddSite(world.enroll(name, "limits.least_sites=1"))
        if proxy is not None and name == proxied:
            sites[name].site.change(server=f"127.0.0.1:{proxy.port}")
    assert world("start") == 0
    for site in sites.values():
        site.start()
    return sites


@pytest.mark.faults
@pytest.mark.fault(
    "a site's worker is stopped past the deadline, then goes on",
    "left out; sent nothing while it owed a reply; the late reply not counted; takes part again",
)
def test_a_straggler_is_left_out_and_its_late_reply_is_never_counted(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up("policy.least_sites=1")
    sites = odd_consortium(world)
    slow = sites["mercy"].site
    sent = -1

    def stop_it() -> None:
        nonlocal sent
        wait("mercy trains", lambda: begun(slow) >= 2)
        worker = slow.pid("worker")
        send(worker, signal.SIGSTOP)
        await_round(world, 4)
        sent = asked(slow)
        send(worker, signal.SIGCONT)

    server = {"wait_for_sites": 60, "round_deadline": 30}
    with meanwhile(stop_it):
        assert world("run", world.run_file(rounds=8, train=LONG, server=server)) == EXIT_PARTIAL
    assert "left out of round 2: mercy: no reply within 30 s" in capsys.readouterr().err
    assert left_out(world) == [(2, "mercy")]
    assert sent == 2, "it was sent new work while it owed a reply"
    counted = [round_ for round_, site in trained(world) if site == "mercy"]
    assert 1 in counted
    assert not {2, 3} & set(counted), counted
    assert 8 in counted, "it never took part again"
    # What it made of round 2 exists, and is in no model.
    assert sites["mercy"].update(manifest(world)["run"], 2)[1]
    for round_ in range(1, 9):
        assert_made_of(world, sites, round_)


@pytest.fixture
def cut(world: World) -> Iterator[Proxy]:
    world.set_up("policy.least_sites=1")
    proxy = Proxy(world.consortium.config.fleet.port)
    yield proxy
    proxy.close()


@pytest.mark.faults
@pytest.mark.fault(
    "a site's connection is cut for 60 s, then back", "it reconnects by itself; trains in the same run; nothing twice"
)
def test_a_cut_connection_comes_back_and_nothing_is_counted_twice(world: World, cut: Proxy) -> None:
    sites = odd_consortium(world, proxied="mercy", proxy=cut)
    site = sites["mercy"].site
    seconds, rounds = 60, 8

    def cut_it() -> None:
        wait("mercy trains", lambda: asked(site) >= 2)
        cut.cut(seconds)
        hold(sites["st-anna"].site, until=lambda: begun(site) >= 3, seconds=12, rounds=range(3, rounds))

    server = {"wait_for_sites": 120, "round_deadline": 150}
    with meanwhile(cut_it):
        code = world("run", world.run_file(rounds=rounds, train=LONG, server=server))
    assert code in {0, EXIT_PARTIAL}
    assert cut.refused, "the node never tried while it was cut off"
    assert manifest(world)["status"] == "finished"
    for round_ in range(1, rounds + 1):
        assert_made_of(world, sites, round_)
    # Flower's node tries again, or gives up and is started again by its supervisor.
    assert (rounds, "mercy") in trained(world), "it never took part again"
    assert all(name == "mercy" for _, name in left_out(world))


@pytest.mark.faults
@pytest.mark.fault(
    "the server is stopped for 35 s", "the site says since when it has had no answer; connected when it is back"
)
def test_a_site_says_that_its_server_is_away(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    site = world.enroll("st-anna")
    assert world("start") == 0
    site.start()
    node = site.pid("supernode")

    def shown() -> tuple[str, dict[str, Any]]:
        capsys.readouterr()
        assert site("status") == 0
        text = capsys.readouterr().out
        assert site("status", "--json") == 0
        return text, json.loads(capsys.readouterr().out)

    text, found = shown()
    assert f"connected to {found['server']}; the server answered " in text
    assert found["connected"]
    assert found["answered"]["seconds_ago"] < 30
    assert world("stop") == 0
    wait("the site sees it", lambda: not running.is_connected(site.files), seconds=45)
    text, found = shown()
    assert f"no answer from {found['server']} since {moment(found['answered']['at'])}" in text
    assert (found["let_in"], found["connected"]) == (True, False)
    assert found["answered"]["seconds_ago"] > 30
    assert world("start") == 0
    wait("the site is back", lambda: running.is_connected(site.files), seconds=60)
    text, found = shown()
    assert "; the server answered " in text
    assert site.pid("supernode") == node, "the node was restarted"


class _Later(datetime.datetime):
    """The time ten minutes from now, or before."""

    off = datetime.timedelta(0)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime.now(tz) + cls.off


@pytest.mark.faults
@pytest.mark.fault(
    "a site's clock is off by {minutes} minutes", "'check' says how far, that it would be refused, and the cure"
)
@pytest.mark.fault(
    "its node connects all the same ({minutes} minutes)", "refused by the server; the site is not let in"
)
@pytest.mark.parametrize("minutes", [10, -10])
def test_a_clock_ten_minutes_off_is_refused_with_the_cure(
    world: World, minutes: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up()
    site = world.enroll("st-anna")
    assert world("start") == 0
    monkeypatch.setattr(_Later, "off", datetime.timedelta(minutes=minutes))
    monkeypatch.setattr(greeting, "datetime", _Later)
    capsys.readouterr()
    assert site("check", "--json") == FederationError.exit_code
    clock = next(point for point in json.loads(capsys.readouterr().out) if point["what"] == "clock")
    assert clock["state"] == "FAILED"
    assert ("ahead of" if minutes > 0 else "behind") in clock["found"]
    assert "NTP" in clock["cure"]
    # And so it is: a node that signs with such a clock is not let in.
    OddSite(site, clock=60 * minutes).start(ready=False)
    wait("the node is refused", lambda: read_state(site.files).get("children", {}).get(NODE, {}).get("ended", 0) > 0)
    assert world("status") == 0
    assert "online" not in capsys.readouterr().out


@pytest.mark.faults
@pytest.mark.fault("the server's certificate has expired", "the site does not connect; 'check' says so, with the cure")
def test_an_expired_certificate_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    site = world.enroll("st-anna")
    consortium = world.consortium
    # Good for as long as the server takes to start; the one before it was good for a year.
    made = issue(load_issued(*consortium.authority), ["127.0.0.1", "localhost"], days=60 / 86400)
    for path in consortium.certificate:
        path.unlink()
    made.save(*consortium.certificate)
    assert world("start") == 0
    expires = made.certificate.not_valid_after_utc
    wait("the certificate expires", lambda: datetime.datetime.now(datetime.UTC) > expires)
    site("start")
    wait("the node is refused", lambda: read_state(site.files).get("children", {}).get(NODE, {}).get("ended", 0) > 0)
    assert "certificate does not count here" in read_state(site.files)["children"][NODE]["why"]
    assert not running.is_connected(site.files)
    capsys.readouterr()
    assert site("check", "--json") == FederationError.exit_code
    tls = next(point for point in json.loads(capsys.readouterr().out) if point["what"] == "TLS")
    assert "expired" in tls["found"]
    assert tls["cure"]
