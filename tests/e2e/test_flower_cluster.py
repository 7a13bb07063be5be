"""A simulation on a Ray cluster of two nodes of this machine, each with an address of its own; one is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flower_runs import CHECKOUT, DEMO, PROGRAMS, TINY_OVERRIDES, assert_same_run, environment, medveil_sim

from medveil.ports import free_port
from simulations.cli import main

HEAD, NODE = "127.0.0.2", "127.0.0.3"
STARTED = "This command will now block forever"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8, and /proc"),
]


@dataclass
class Cluster:
    """Two Ray nodes, each below a process of ours that leads a group of its own."""

    address: str
    nodes: list[subprocess.Popen[bytes]]

    def at_work(self) -> set[int]:
        """Places in `nodes` of those with an actor that serves a message just now."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                if (entry / "cmdline").read_bytes().startswith(b"ray::ClientAppActor.run"):
                    above = _above(int(entry.name))
                    found |= {place for place, node in enumerate(self.nodes) if node.pid in above}
        return found


def _above(process: int) -> set[int]:
    """Ids of the processes a process descends from."""
    found: set[int] = set()
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.add(process)
    return found


@contextlib.contextmanager
def ray_node(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / f"{len(list(folder.iterdir()))}.log"
    small = ["--num-cpus", "1", "--object-store-memory", str(80 * 2**20), "--disable-usage-stats"]
    command = [str(PROGRAMS / "ray"), "start", "--block", *words, *small]
    with log.open("wb") as out:
        node = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=out, stderr=out, start_new_session=True
        )
    try:
        end = time.monotonic() + 120
        while STARTED not in log.read_text(errors="replace"):
            assert node.poll() is None, log.read_text(errors="replace")[-1000:]
            assert time.monotonic() < end, "Ray did not start"
            time.sleep(0.2)
        yield node
    finally:
        if node.poll() is None:
            node.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # Not below `tmp_path`: a socket's path has 107 bytes, of which Ray takes 65.
    with tempfile.TemporaryDirectory(prefix="mv-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        address = f"{HEAD}:{free_port()}"
        where = ["--node-ip-address", HEAD, "--port", address.partition(":")[2], "--temp-dir", str(folder / "r")]
        alone = ["--include-dashboard", "false", "--ray-client-server-port", str(free_port())]
        with (
            ray_node(folder, "--head", *where, *alone) as head,
            ray_node(folder, "--address", address, "--node-ip-address", NODE) as node,
        ):
            yield Cluster(address, [head, node])


def words(cluster: Cluster, out: Path, *overrides: str) -> list[str]:
    settings = [*TINY_OVERRIDES, f"ray.address={cluster.address}", *overrides]
    return ["run", DEMO, *settings, "--out", str(out), "--engine", "flower", "--log-level", "info"]


def test_two_nodes_share_a_run_and_it_is_the_one_in_process(cluster: Cluster, tmp_path: Path) -> None:
    assert main(["run", str(CHECKOUT / DEMO), *TINY_OVERRIDES, "--out", str(tmp_path / "inprocess")]) == 0
    worked: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            worked.update(cluster.at_work())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = medveil_sim(*words(cluster, tmp_path / "run"), home=tmp_path)
    finally:
        over.set()
        watcher.join()
    assert done.returncode == 0, done.stderr
    assert "2 nodes host 2 actors of 1 CPU" in done.stderr
    assert_same_run(tmp_path / "inprocess", tmp_path / "run")
    assert worked == {0, 1}, "a node did nothing"
    # The cluster is not ours: it stays, and what the run had on it does not.
    assert [node.poll() for node in cluster.nodes] == [None, None]
    assert cluster.at_work() == set()


def test_a_node_that_is_killed_ends_the_run_in_one_line_and_it_goes_on_without(
    cluster: Cluster, tmp_path: Path
) -> None:
    command = [str(PROGRAMS / "medveil-sim"), *words(cluster, tmp_path / "run", "rounds=12")]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    checkpoints = tmp_path / "run" / "checkpoints"
    try:
        end = time.monotonic() + 240
        while not list(checkpoints.glob("round-0002.safetensors")) and time.monotonic() < end:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        os.killpg(cluster.nodes[1].pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 5, said
    (line,) = [each for each in said.splitlines() if each.startswith("error: ")]
    assert line.startswith("error: site-") and "Ray lost the actor that served it (Actor" in line
    assert "Traceback" not in said
    done = medveil_sim("run", "--resume", str(tmp_path / "run"), "--log-level", "info", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 node hosts 1 actor of 1 CPU" in done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert len(manifest["resumed"]) == 1
