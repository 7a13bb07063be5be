"""What happens when a process of a consortium is killed, or never comes."""

from __future__ import annotations

import pytest
from consortium_world import World, wait
from faults import (
    LONG,
    assert_same,
    assert_took_part_but_for_a_while,
    await_round,
    begun,
    hold,
    left_out,
    manifest,
    meanwhile,
    received,
    send,
    server_app,
    tensors,
)
from unbroken import unbroken

from medveil import processes
from medveil.errors import EXIT_PARTIAL, FederationError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.mark.faults
@pytest.mark.fault("a site never comes", "waited for with a message; the run ends in time, exit code 5")
def test_a_site_that_never_comes_is_waited_for_and_no_longer(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    site, absent = world.enroll("st-anna"), world.enroll("mercy")
    assert world("start") == 0
    site.start()
    assert world("run", world.run_file(server={"wait_for_sites": 6})) == FederationError.exit_code == 5
    said = capsys.readouterr().err
    assert "waiting up to 6 s for 2 sites; here: st-anna" in said
    assert "1 of 2 sites came within 6 s" in said
    assert not absent.files.log.exists()


@pytest.mark.faults
@pytest.mark.fault("the ServerApp is killed (-9) while {when}", "'resume' goes on; tensors equal an unbroken run's")
@pytest.mark.parametrize("when", ["sites train", pytest.param("it sends", marks=pytest.mark.faults)])
def test_a_killed_server_app_goes_on_where_it_was(
    consortium: World, when: str, capsys: pytest.CaptureFixture[str]
) -> None:

    def kill_it() -> None:
        await_round(consortium, 2)
        if when == "sites train":
            wait("all have the message", lambda: all(received(site) >= 2 for site in consortium.sites.values()))
        send(server_app(consortium))

    capsys.readouterr()
    with meanwhile(kill_it):
        assert consortium("run", consortium.run_file(rounds=2, train=LONG)) == FederationError.exit_code
    assert "the run's process ended without a word" in capsys.readouterr().err
    assert consortium("resume") == 0
    assert "resuming after round 1 of 2" in capsys.readouterr().err
    assert_same(unbroken(consortium, 2), tensors(consortium, 2))
    # What has ended is not resumed.
    assert consortium("resume") == 2
    assert "has already finished" in capsys.readouterr().err


@pytest.mark.faults
@pytest.mark.fault(
    "the SuperLink is killed (-9) mid-round, restarted", "'resume' goes on; final tensors equal an unbroken run's"
)
def test_a_killed_superlink_comes_back_and_its_run_goes_on(
    consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {name: site.pid("supernode") for name, site in consortium.sites.items()}

    def kill_it() -> None:
        await_round(consortium, 2)
        send(processes.running(consortium.consortium.record))

    with meanwhile(kill_it):
        assert consortium("run", consortium.run_file(rounds=3, train=LONG)) == FederationError.exit_code
    capsys.readouterr()
    assert consortium("resume") == 2
    assert "the server is not running; medveil-server start" in capsys.readouterr().err
    assert consortium("start") == 0
    # The run's own process outlives its SuperLink, and can reach nobody any more.
    assert "ended what was left of run trial" in capsys.readouterr().out
    assert consortium("resume") == 0
    assert "resuming after round 1 of 3" in capsys.readouterr().err
    assert_same(unbroken(consortium, 3), tensors(consortium, 3))
    assert {name: site.pid("supernode") for name, site in consortium.sites.items()} == nodes, "a node was restarted"


@pytest.mark.faults
@pytest.mark.fault(
    "a {process} is killed (-9) while it trains",
    "the round closes at its deadline without it, named; it rejoins and trains in the same run",
)
@pytest.mark.parametrize("process", ["worker", "supernode"])
def test_a_site_whose_process_is_killed_is_left_out_and_takes_part_again(
    consortium: World, process: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site, other = consortium.sites["mercy"], consortium.sites["st-anna"]
    deadline, rounds = 25, 9

    def kill_it() -> None:
        wait("mercy trains", lambda: begun(site) >= 2)
        killed = site.pid(process)
        send(killed)
        # The other one takes its time, and less than the deadline, until the site has been asked again.
        hold(other, until=lambda: begun(site) >= 3, seconds=0.5 * deadline, rounds=range(3, rounds))
        assert begun(site) >= 3, "it was not asked again"
        assert site.pid(process) not in {killed, None}

    server = {"wait_for_sites": 90, "round_deadline": deadline}
    with meanwhile(kill_it):
        code = consortium("run", consortium.run_file(rounds=rounds, train=LONG, server=server))
    assert code == EXIT_PARTIAL
    assert "left out of round 2: mercy" in capsys.readouterr().err
    assert left_out(consortium) == [(2, "mercy")]
    assert manifest(consortium)["status"] == "finished"
    assert_took_part_but_for_a_while(consortium, "mercy", since=2, rounds=rounds)
    assert "ended" in site.files.log.with_name("supervisor.log").read_text()


@pytest.mark.faults
@pytest.mark.fault("a site's supervisor is killed (-9)", "its node and worker end with it; it starts again at once")
def test_a_site_whose_supervisor_is_killed_leaves_nothing_running(consortium: World) -> None:
    site = consortium.sites["mercy"]
    children = [site.pid(name) for name in ("supernode", "worker")]
    send(site.pid("supervisor"))
    wait("its children end", lambda: not any(processes.began(pid) for pid in children if pid is not None))
    site.start()
