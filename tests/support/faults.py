"""What the fault tests do to a consortium, and what they look at afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from consortium_world import HERE, PASSPHRASE, RUN, Hospital, World, wait
from safetensors.numpy import load_file

from fl_client.deployment import running
from fl_client.deployment.supervisor import SUPERVISOR
from fl_server.deployment.runs import state_of
from medveil import processes

LONG = {**RUN["train"], "epochs": 150, "lr": 0.0003}
"""Training that takes some seconds a round, so that something can be done meanwhile; its small steps are honest."""
Tensors = dict[str, npt.NDArray[np.float32]]


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


# -- where things are --------------------------------------------------------------------------------------------------


def stage(world: World) -> str:
    """Where the newest run is."""
    with contextlib.suppress(Exception):
        return str(state_of(world.newest(), world.consortium)["stage"])
    return ""


def asked(site: Hospital) -> int:
    """How many train messages a site has been sent."""
    return site.files.node_log.read_text().count("Receiving: train") if site.files.node_log.exists() else 0


def begun(site: Hospital) -> int:
    """How often a site has begun to train: its worker counts before it does."""
    counts = [json.loads(path.read_text())["answered"] for path in site.files.state.glob("runs/*/served.json")]
    return sum(int(each.get("train", 0)) for each in counts)


def received(site: Hospital) -> int:
    """How many train messages of those have come whole."""
    said = site.files.node_log.read_text().split("Receiving: ")[1:]
    return sum(each.startswith("train") and "Received successfully" in each for each in said)


def await_round(world: World, number: int, *, after: Path | None = None, seconds: float = 120) -> None:
    """Wait until a run is in a round; with `after`, a run newer than that folder's."""
    wait(
        f"round {number}",
        lambda: (after is None or world.run_folder() != after) and f"round {number} of" in stage(world),
        seconds=seconds,
    )


def manifest(world: World) -> dict[str, Any]:
    return dict(json.loads((world.run_folder() / "manifest.json").read_text()))


def left_out(world: World) -> list[tuple[int, str]]:
    return [(each["round"], each["site"]) for each in manifest(world)["left_out"]]


def trained(world: World) -> list[tuple[int, str]]:
    """Round and site of every update that was counted."""
    lines = [json.loads(line) for line in (world.run_folder() / "metrics.jsonl").read_text().splitlines()]
    return [(line["round"], line["site"]) for line in lines if line["phase"] == "train" and line["site"] != "all"]


def answers(world: World) -> list[tuple[str, str, int | None]]:
    """Every answer that reached the server, in order: its site, the type of message, the round."""
    found = []
    for line in world.consortium.audit.path.read_text().splitlines():
        # The last line may not be whole yet.
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            if record["event"] == "answered":
                said = record["details"]
                found.append((said["site"], said.get("kind", ""), said.get("round")))
    return found


def sums(world: World) -> dict[int, list[str]]:
    """Of each round, the sites in its sum."""
    return {each["round"]: each["sites"] for each in manifest(world)["sums"]}


def tensors(world: World, round_: int) -> Tensors:
    return dict(load_file(world.run_folder() / "checkpoints" / f"round-{round_:04d}.safetensors"))


def assert_took_part_but_for_a_while(world: World, name: str, *, since: int, rounds: int) -> None:
    """Every other site's update was counted in every round; this one's too, but for some rounds from `since` on."""
    counted = trained(world)
    assert len(counted) == len(set(counted)), "counted twice"
    names = [row["site"] for row in manifest(world)["sites"]]
    everyone = {(round_, site) for round_ in range(1, rounds + 1) for site in names}
    missed = sorted(everyone - set(counted))
    assert missed, "it was there all the time"
    assert missed == [(round_, name) for round_ in range(since, since + len(missed))], missed
    assert missed[-1][0] < rounds, "it never took part again"


def assert_same(left: Tensors, right: Tensors) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(right[name], tensor, err_msg=name)


# -- what is done to them ----------------------------------------------------------------------------------------------


def send(pid: int | None, number: signal.Signals = signal.SIGKILL) -> None:
    assert pid is not None
    os.kill(pid, number)


def hold(site: Hospital, *, until: Callable[[], bool], seconds: float, rounds: range) -> None:
    """Stop a site's worker for some seconds in each of its first run's rounds, until something has happened."""
    for round_ in rounds:
        wait(f"{site.name} trains", lambda number=round_: until() or begun(site) >= number)  # type: ignore[misc]
        if until():
            return
        end, worker = time.monotonic() + seconds, site.pid("worker")
        send(worker, signal.SIGSTOP)
        try:
            while not until() and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            send(worker, signal.SIGCONT)


def server_app(world: World) -> int:
    """The process of the newest run."""
    return int(manifest(world)["process"]["pid"])


def damage(path: Path) -> None:
    """Turn one bit in the middle of a file: its length and its head stay."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class OddSite:
    """A site whose supervisor, worker and node are those of `odd_site`; see there."""

    def __init__(self, site: Hospital, **how: Any) -> None:
        self.site, self.file = site, site.folder / "odd" / "how.json"
        self.file.parent.mkdir()
        self.be(**how)

    def be(self, **how: Any) -> None:
        # It is read at any time, and so never half written.
        made = self.file.with_suffix(".new")
        made.write_text(json.dumps(how))
        made.replace(self.file)

    def hold(self, *messages: tuple[str, int | None]) -> None:
        """Keep back its answers to these messages, by type and round; to all others it answers."""
        self.be(hold=messages)

    def holds(self, kind: str, round_: int | None) -> bool:
        """Whether it has such an answer, and keeps it back or did so before."""
        return self.file.with_name(f"held-{kind}-{round_}").exists()

    def has_let_go(self, kind: str, round_: int | None) -> bool:
        """Whether it kept such an answer back, and no longer does."""
        return self.file.with_name(f"let-go-{kind}-{round_}").exists()

    def start(self, *, ready: bool = True) -> None:
        files = self.site.files
        script = str(Path(__file__).with_name("odd_site.py"))
        (files.state / "work").mkdir(parents=True, mode=0o700, exist_ok=True)
        processes.start(
            [sys.executable, script, "supervisor", str(self.file), str(files.file)],
            record=files.record(SUPERVISOR),
            log=files.log.with_name("supervisor.out"),
            folder=files.state / "work",
            environment=files.environment(),
            stdin=json.dumps({"": PASSPHRASE}).encode() + b"\n",
        )
        if ready:
            wait(f"{self.site.name} connects", lambda: running.is_connected(files))
            self.site.wait_ready()

    def update(self, run: str, round_: int) -> tuple[float, Tensors]:
        """The weight and the tensors of an honest update, as the site made it."""
        with np.load(self.file.with_name(f"{run}-{round_}.npz")) as kept:
            return float(kept["_n"]), {name: kept[name] for name in kept.files if name != "_n"}


def assert_made_of(world: World, sites: Mapping[str, OddSite], round_: int, names: Sequence[str] | None = None) -> None:
    """Compute a round's model slowly, from the updates that were counted, each once, and compare the checkpoint."""
    if names is None:
        names = [site for number, site in trained(world) if number == round_]
        assert len(names) == len(set(names)), f"counted twice in round {round_}: {names}"
        names = [name for name in names if (round_, name) not in left_out(world)]
    updates = [sites[name].update(manifest(world)["run"], round_) for name in names]
    # Of two sites each has half, whatever it declares: server.most_share is a half.
    weights = [n if len(updates) > 2 else 1.0 for n, _ in updates]
    total = sum(weights)
    assert len(updates) < 3 or max(weights) <= 0.5 * total, "the cap holds a site, which this formula does not know"
    made = tensors(world, round_)
    for name in updates[0][1]:
        mean = sum(n * update[name].astype(np.float64) for n, (_, update) in zip(weights, updates, strict=True)) / total
        np.testing.assert_allclose(made[f"model/{name}"], mean, rtol=1e-5, atol=1e-6, err_msg=f"round {round_}: {name}")


class Proxy:
    """A TCP proxy in front of the server, whose connections can be cut."""

    def __init__(self, port: int) -> None:
        self._to = (HERE, port)
        self._door = socket.create_server((HERE, 0))
        self.port = int(self._door.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock, self._cut = threading.Lock(), threading.Event()
        self.refused = 0
        threading.Thread(target=self._welcome, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Break every connection, and every new one for so long."""
        self._cut.set()
        with self._lock:
            for pair in self._pairs:
                _shut(*pair)
            self._pairs.clear()
        time.sleep(seconds)
        self._cut.clear()

    def close(self) -> None:
        self._door.close()
        with self._lock:
            for pair in self._pairs:
                _shut(*pair)

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                if self._cut.is_set():
                    self.refused += 1
                    near.close()
                    continue
                try:
                    far = socket.create_connection(self._to, timeout=5)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._pairs.append((near, far))
                threading.Thread(target=_pass_on, args=(near, far), daemon=True).start()


def _pass_on(near: socket.socket, far: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as watched:
        watched.register(near, selectors.EVENT_READ, far)
        watched.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in watched.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    _shut(near, far)
                    return
                key.data.sendall(data)
    _shut(near, far)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
