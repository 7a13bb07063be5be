"""What happens when something of a consortium is killed, or never comes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium_world import RUN, Hospital, World, wait
from safetensors.numpy import load_file

from fl_client.deployment import running
from fl_server.deployment.runs import state_of
from medveil import processes
from medveil.errors import EXIT_PARTIAL, FederationError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
LONG = {**RUN["train"], "epochs": 150}


@pytest.fixture
def consortium(world: World) -> World:
    """Two hospitals that are connected; a round may be made of one."""
    world.set_up("policy.least_sites=1")
    for name in ("mercy", "st-anna"):
        world.enroll(name, "limits.least_sites=1")
    assert world("start") == 0
    for site in world.sites.values():
        site.start()
        site.wait_ready()
    return world


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in the background while a command runs; its failure is the test's."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failed:
        raise failed[0]


def stage(world: World) -> str:
    """Where the newest run is."""
    with contextlib.suppress(Exception):
        return str(state_of(world.newest(), world.consortium)["stage"])
    return ""


def trains(site: Hospital, times: int) -> Callable[[], bool]:
    """Whether a site has been sent so many train messages."""
    return lambda: site.files.node_log.read_text().count("Receiving: train") >= times


def lines(world: World) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (world.run_folder() / "metrics.jsonl").read_text().splitlines()]


def tensors(world: World, round_: int) -> dict[str, np.ndarray]:
    return dict(load_file(world.run_folder() / "checkpoints" / f"round-{round_:04d}.safetensors"))


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(right[name], tensor, err_msg=name)


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def server_app(world: World) -> int:
    """The process of the newest run."""
    document = json.loads((world.run_folder() / "manifest.json").read_text())
    return int(document["process"]["pid"])


def test_a_site_that_never_comes_is_waited_for_and_no_longer(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    site, absent = world.enroll("st-anna"), world.enroll("mercy")
    assert world("start") == 0
    site.start()
    assert world("run", world.run_file(server={"wait_for_sites": 6})) == FederationError.exit_code
    said = capsys.readouterr().err
    assert "waiting up to 6 s for 2 sites; here: st-anna" in said
    assert "1 of 2 sites came within 6 s" in said
    assert not absent.files.log.exists()


def test_a_killed_server_app_goes_on_where_it_was(consortium: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert consortium("run", consortium.run_file(rounds=3, train=LONG)) == 0
    whole = tensors(consortium, 3)
    first = consortium.run_folder()
    site = consortium.sites["mercy"]

    def kill_it() -> None:
        wait("another run begins", lambda: consortium.run_folder() != first and "round 2" in stage(consortium))
        kill(server_app(consortium))

    capsys.readouterr()
    with meanwhile(kill_it):
        assert consortium("run", consortium.run_file(rounds=3, train=LONG)) == FederationError.exit_code
    assert "the run's process ended without a word" in capsys.readouterr().err
    assert consortium("resume") == 0
    assert "resuming after round 1 of 3" in capsys.readouterr().err
    assert_same(whole, tensors(consortium, 3))
    assert site.pid("worker") is not None
    # What has ended is not resumed.
    assert consortium("resume") == 2
    assert "has already finished" in capsys.readouterr().err


@pytest.mark.faults
def test_a_killed_superlink_comes_back_and_its_run_goes_on(
    consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert consortium("run", consortium.run_file(rounds=3, train=LONG)) == 0
    whole, first = tensors(consortium, 3), consortium.run_folder()
    nodes = {name: site.pid("supernode") for name, site in consortium.sites.items()}

    def kill_it() -> None:
        wait("another run begins", lambda: consortium.run_folder() != first and "round 2" in stage(consortium))
        kill(processes.running(consortium.consortium.record))

    with meanwhile(kill_it):
        assert consortium("run", consortium.run_file(rounds=3, train=LONG)) == FederationError.exit_code
    capsys.readouterr()
    assert consortium("resume") == 2
    assert "the server is not running; medveil-server start" in capsys.readouterr().err
    assert consortium("start") == 0
    assert consortium("resume") == 0
    assert "resuming after round 1 of 3" in capsys.readouterr().err
    assert_same(whole, tensors(consortium, 3))
    assert {name: site.pid("supernode") for name, site in consortium.sites.items()} == nodes, "a node was restarted"


@pytest.mark.faults
@pytest.mark.parametrize("process", ["worker", "supernode"])
def test_a_site_whose_process_is_killed_is_left_out_and_comes_back(
    consortium: World, process: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = consortium.sites["mercy"]

    def kill_it() -> None:
        wait("mercy trains", trains(site, 2))
        kill(site.pid(process))

    server = {"wait_for_sites": 90, "round_deadline": 150}
    with meanwhile(kill_it):
        code = consortium("run", consortium.run_file(rounds=3, train=LONG, server=server))
    assert code == EXIT_PARTIAL
    said = capsys.readouterr().err
    left_out = json.loads((consortium.run_folder() / "manifest.json").read_text())["left_out"]
    assert [(each["round"], each["site"]) for each in left_out] == [(2, "mercy")]
    assert "left out of round 2: mercy" in said
    trained = [(line["round"], line["site"]) for line in lines(consortium) if line["phase"] == "train"]
    assert (2, "st-anna") in trained
    assert (2, "mercy") not in trained
    assert "ended" in site.files.log.with_name("supervisor.log").read_text()
    wait("mercy is back", lambda: running.is_connected(site.files))
    assert consortium("run", consortium.run_file(rounds=1)) == 0
    again = [(line["round"], line["site"]) for line in lines(consortium) if line["phase"] == "train"]
    assert (1, "mercy") in again


@pytest.mark.faults
def test_a_site_whose_supervisor_is_killed_leaves_nothing_running(consortium: World) -> None:
    site = consortium.sites["mercy"]
    children = [site.pid(name) for name in ("supernode", "worker")]
    kill(site.pid("supervisor"))
    wait("its children end", lambda: not any(processes.began(pid) for pid in children if pid is not None))
    site.start()


@pytest.mark.faults
def test_a_run_without_any_usable_update_fails_with_the_reasons(
    consortium: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for site in consortium.sites.values():
        # The disk refuses the stem of every round; the query needs none.
        folder = site.files.state / "site"
        folder.mkdir(mode=0o700)
        (folder / "stems").write_text("a file where a folder is needed")
    assert consortium("run", consortium.run_file()) == FederationError.exit_code
    said = capsys.readouterr().err
    for name in consortium.sites:
        assert f"{name}: StorageError: see the log of the site" in said
    assert str(Path(consortium.folder)) not in said.splitlines()[-1], "a path left a site"
