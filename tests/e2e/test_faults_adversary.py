"""What happens when somebody means harm: a site with its own key, a thief of one, a stranger, a neighbour."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from adversary import beating, code, node_id, pulled_by, raw_node
from consortium_world import HERE, Hospital, World, wait, with_mark
from faults import OddSite, await_round, meanwhile, stage
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.proto.node_pb2 import Node
from raw_node import Pulled, answer

from fl_server.deployment.superlink import is_up
from medveil import processes
from medveil.errors import FederationError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
MIB = 2**20


def one_honest(world: World) -> Hospital:
    """A consortium of a site that serves, and of mercy, whose key somebody else uses."""
    world.set_up("policy.least_sites=1")
    for name in ("mercy", "st-anna"):
        world.enroll(name, "limits.least_sites=1")
    assert world("start") == 0
    honest = world.sites["st-anna"]
    honest.start()
    honest.wait_ready()
    return honest


@pytest.mark.faults
@pytest.mark.fault("a stolen node key is used beside its node", "refused; said at once at the server and at the site")
def test_a_stolen_key_is_of_no_use_beside_its_node(consortium: World, capsys: pytest.CaptureFixture[str]) -> None:
    site = consortium.sites["mercy"]
    thief = raw_node(consortium, "mercy")
    assert code(thief.activate) == 412
    thief.node = Node(node_id=node_id(consortium, "mercy"))
    assert {code(ask) for ask in (thief.pull, thief.beat, thief.deactivate)} == {409}
    capsys.readouterr()
    supervisor = site.files.log.with_name("supervisor.log")
    wait("the site says so", lambda: "another node with this site's key" in supervisor.read_text(), seconds=60)
    assert consortium("status") == 0
    assert "mercy has two nodes with its key" in capsys.readouterr().out
    assert site("status") == 0
    assert "the server refused another node with this site's key" in capsys.readouterr().out
    # The node itself is not disturbed.
    assert consortium("run", consortium.run_file(rounds=1)) == 0


class _Flood:
    """Strangers who send large bodies, slowly, and never end."""

    def __init__(self, world: World, count: int) -> None:
        self._port = world.consortium.config.fleet.port
        self._context = ssl.create_default_context(cafile=str(world.consortium.authority[1]))
        self.sent = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(count)]

    def __enter__(self) -> _Flood:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join(timeout=20)

    def _send(self) -> None:
        piece = b"x" * MIB
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPSConnection(HERE, self._port, timeout=5, context=self._context)
                connection.putrequest("POST", "/v1/fleet/push-object")
                connection.putheader("content-type", "application/protobuf")
                connection.putheader("content-length", str(60 * MIB))
                connection.endheaders()
                for _ in range(60):
                    connection.send(piece)
                    self.sent += 1


def resident(world: World) -> float:
    """MiB of the SuperLink."""
    pid = processes.running(world.consortium.record)
    assert pid is not None
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.faults
@pytest.mark.fault("16 strangers send 60 MiB each, again and again", "nothing is read; a run goes on and finishes")
@pytest.mark.fault("a site sends 300 MiB for a model of some kB", "refused by its length, before it is read")
def test_large_requests_cost_a_server_little(world: World) -> None:
    honest = one_honest(world)
    assert world("revoke", "mercy") == 0
    before, most = resident(world), [0.0]
    with _Flood(world, 16) as flood:
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.2):
                most[0] = max(most[0], resident(world))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            assert world("run", world.run_file(rounds=1)) == 0
        finally:
            ended.set()
            watcher.join()
        assert flood.sent > 16
    print(f"SuperLink: {before:.0f} MiB, at most {most[0]:.0f} MiB while 16 strangers sent {flood.sent} MiB")
    assert most[0] - before < 150
    assert is_up(world.consortium)
    # The same from a site that is admitted: its own node ends first, for a second one would be refused.
    assert honest("stop") == 0
    own = raw_node(world, "st-anna")
    own.activate(seconds=90)
    before = resident(world)
    huge = RecordDict({"arrays": ArrayRecord({"w": Array(np.arange(75 * MIB, dtype=np.float32))})})
    pulled: list[Pulled] = []

    def attack() -> None:
        wait("it is asked", lambda: bool(pulled) or pulled_by(own, pulled) is not None)
        own.pull_all(pulled[0])
        assert code(lambda: own.push(answer(pulled[0].message, source=own.node.node_id, content=huge))) in {403, 413}

    with beating(own), meanwhile(attack):
        settings = {"wait_for_sites": 60, "prepare_deadline": 20, "round_deadline": 30}
        assert world("run", world.run_file(rounds=1, server=settings)) == FederationError.exit_code
    after = resident(world)
    print(f"SuperLink: {before:.0f} MiB before an update of 300 MiB, {after:.0f} MiB after")
    assert after - before < 100


@pytest.mark.faults
@pytest.mark.fault("another account submits an app at the control port", "refused without the server's secret")
def test_a_neighbour_on_the_servers_machine_gets_nothing_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    assert world("start") == 0
    control = world.consortium.config.control.port
    context = ssl.create_default_context(cafile=str(world.consortium.authority[1]))
    codes = {}
    for path in ("/v1/control/start-run", "/v1/control/list-nodes", "/v1/runtime/acquire-task", "/v1/fleet/get-run"):
        connection = http.client.HTTPSConnection(HERE, control, timeout=20, context=context)
        connection.request("POST", path, body=b"", headers={"content-type": "application/protobuf"})
        codes[path] = connection.getresponse().status
    # Flower itself asks the SuperExec for its signature, once its door is told to.
    assert codes.pop("/v1/runtime/acquire-task") in {401, 403}
    assert list(codes.values()) == [401, 401, 404], codes
    for path in (world.consortium.home / "credentials.yaml", world.consortium.superexec_secret):
        assert path.stat().st_mode & 0o077 == 0
    assert world.consortium.state.stat().st_mode & 0o077 == 0
    # The server's own commands are let in.
    assert world("status") == 0


@pytest.mark.faults
@pytest.mark.fault("another account reads the arguments of the server's processes", "no token of a run is in them")
def test_no_argument_tells_the_token_of_a_run(consortium: World) -> None:
    shown: set[bytes] = set()

    def look() -> None:
        def begun() -> bool:
            for pid in with_mark(f"MEDVEIL_HOME={consortium.folder}"):
                with contextlib.suppress(OSError):
                    shown.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            return any(b"flwr-serverapp" in each for each in shown)

        wait("the run's process", begun)

    with meanwhile(look):
        assert consortium("run", consortium.run_file(rounds=1)) == 0
    assert not [each for each in shown if re.search(rb"\0[0-9a-f]{32,}\0", each)], "a token is among the arguments"


def holding(folder: Path, tensors: dict[str, np.ndarray]) -> set[str]:
    """The files below a folder with 64 bytes of an update in them."""
    pieces = [each.tobytes()[:64] for each in tensors.values() if each.nbytes >= 64]
    assert pieces
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder))
        for path in files
        for data in [path.read_bytes()]
        if any(p in data for p in pieces)
    }


@pytest.mark.faults
@pytest.mark.fault("somebody reads the server's files after a round", "no site's single update is in any of them")
def test_single_updates_are_in_no_file_of_the_server(world: World) -> None:
    world.set_up("policy.least_sites=1")
    sites = {name: OddSite(world.enroll(name, "limits.least_sites=1")) for name in ("mercy", "st-anna")}
    assert world("start") == 0
    for site in sites.values():
        site.start()
    state, found = world.consortium.state, []

    def look() -> None:
        await_round(world, 2)
        wait("round 3", lambda: "round 3" in stage(world) or "finished" in stage(world), seconds=120)
        time.sleep(5)
        run = world.newest().run
        found.extend(holding(state, site.update(run, 1)[1]) for site in sites.values())

    with meanwhile(look):
        assert world("run", world.run_file(rounds=3)) == 0
    run = world.newest().run
    for site in sites.values():
        assert holding(site.file.parent, site.update(run, 1)[1]), "the search finds nothing where there is something"
    assert found == [set(), set()]
    time.sleep(5)
    for site in sites.values():
        for round_ in (1, 2, 3):
            assert holding(state, site.update(run, round_)[1]) == set()
