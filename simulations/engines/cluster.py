"""A running Ray cluster that the `flower` engine joins: looked at first, so that what cannot work is refused at once.

Starting a cluster, and adding machines to it, is Ray's own job. Flower joins one by `RAY_ADDRESS`, and asks for an
actor's CPUs and GPUs alone; memory is therefore counted here, and paid in CPUs.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medveil.bounded import DOCUMENT, parse_json
from medveil.environment import OFFLINE as FLOWER_OFFLINE
from medveil.errors import ConfigError, DataError, FederationError, StorageError
from medveil.files import read_bytes, write_text
from medveil.log import logger
from medveil.paths import weights_file
from medveil.plain import shown
from medveil.tied import tied
from simulations.plan import Plan
from simulations.ray_config import RayConfig, split_address

OFFLINE = {**FLOWER_OFFLINE, "RAY_USAGE_STATS_ENABLED": "0"}
"""What keeps Flower and Ray from calling home or installing anything."""
VARIABLE = "RAY_ADDRESS"
"""Ray's own name for the address of a cluster."""
ANSWER_S = 5.0
LOOK_S = 240.0
_GIB = 2**30
_SAME = ("python", "flwr", "torch", "timm", "numpy")
_DRAWN = ("formula", "dicomweb")
"""Sources whose `data.path` holds no images."""
_log = logger("cluster")


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: its address, and what it gave its Ray (memory in GiB)."""

    name: str
    cpus: float
    gpus: float
    memory: float

    def actors(self, cpus: int, gpus: float) -> int:
        """How many actors Flower starts on it."""
        by_cpus = int(self.cpus / cpus)
        return min(by_cpus, int(self.gpus / gpus)) if gpus else by_cpus


def address_of(ray: RayConfig) -> str:
    """Address of the cluster that a run joins; empty where it has a Ray of its own (ConfigError where it is none)."""
    if ray.address:
        return ray.address
    named = os.environ.get(VARIABLE, "")
    if named in {"", "local"}:
        return ""
    split_address(named, where=VARIABLE)
    return named


def cpus_of_an_actor(plan: Plan, folder: Path, environment: Mapping[str, str]) -> int:
    """Look whether a cluster can run an experiment, and say how many CPUs an actor is to ask for.

    Parameters
    ----------
    plan
        The experiment.
    folder
        A scratch folder, with ``work`` in it.
    environment
        Of Flower's processes; `RAY_ADDRESS` in it names the cluster, and without it there is none to look at.

    Raises
    ------
    ConfigError
        An actor takes more than a node has; a node has another MedVeil, Python or library; memory without a cluster.
    DataError, StorageError
        A node does not read the images, or does not share the run folder.
    FederationError
        Nobody answers, or not in time.
    """
    ray, address = plan.experiment.ray, environment.get(VARIABLE, "")
    if not address:
        if ray.memory:
            cure = "ray.address, or more ray.cpus an actor, so that fewer run at once"
            raise ConfigError(
                "is counted on a cluster, and this run has a Ray of its own", where="ray.memory", cure=cure
            )
        return ray.cpus
    _answers(address)
    found = _look(plan, folder, environment)
    nodes = [_node(each) for each in found["nodes"]]
    cpus = fitting(nodes, ray)
    hosting = [each for each, node in zip(found["nodes"], nodes, strict=True) if node.actors(cpus, ray.gpus)]
    for each in hosting:
        check_node(each, found["here"], run=plan.out)
    _say(nodes, hosting, found, cpus=cpus, ray=ray)
    return cpus


def fitting(nodes: Sequence[Node], ray: RayConfig) -> int:
    """CPUs an actor is to ask for, so that no node hosts more actors than its memory holds.

    Raises
    ------
    ConfigError
        No node has what one actor takes.
    """
    most = int(max((node.cpus for node in nodes), default=0))
    for cpus in range(ray.cpus, most + 1):
        actors = [node.actors(cpus, ray.gpus) for node in nodes]
        if any(actors) and all(n * ray.memory <= node.memory for n, node in zip(actors, nodes, strict=True)):
            return cpus
    asked = f"an actor takes {_told(ray.cpus, ray.gpus, ray.memory)}, and no node of the cluster has as much"
    largest = "; ".join(f"{node.name} has {_told(node.cpus, node.gpus, node.memory)}" for node in nodes[:4])
    raise ConfigError(asked, where="ray", cure=largest or "there is no node")


def check_node(node: Mapping[str, Any], here: Mapping[str, Any], *, run: Path) -> None:
    """Refuse a node that is to host actors and cannot; errors as `cpus_of_an_actor`."""
    name, seen = f"node {shown(node['name'], most=64)}", node.get("seen")
    if seen is None:
        problem = f"runs no task of ours ({shown(node.get('problem', 'no answer'), most=64)})"
        raise FederationError(problem, where=name, cure="see its Ray's logs")
    same = "install there what is installed here, and start its Ray with that Python"
    if seen["medveil"] is None:
        raise ConfigError("has no MedVeil in the Python of its Ray", where=name, cure=same)
    for package in _SAME:
        theirs, ours = (side["versions"].get(package, "unknown") for side in (seen, here))
        if theirs != ours:
            raise ConfigError(f"has {package} {shown(theirs, most=32)}, and here is {ours}", where=name, cure=same)
    if seen["medveil"] != here["medveil"]:
        raise ConfigError("has another MedVeil than this machine: their files differ", where=name, cure=same)
    if not seen["shared"]:
        cure = "--out in a folder that all nodes share, under the same path, and may write to"
        raise StorageError(f"does not share the run folder {run}", where=name, cure=cure)
    for path, contents in here["paths"].items():
        if seen["paths"].get(path) is None:
            raise DataError(f"cannot read {path}", where=name, cure="the same path on every node, readable for its Ray")
        if seen["paths"][path] != contents:
            cure = "the same files on every node"
            raise DataError(f"has other files than this machine at {path}", where=name, cure=cure)


def _answers(address: str) -> None:
    host, port = split_address(address, where=VARIABLE)
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError:
        problem = f"nobody answers at {address} within {ANSWER_S:g} s"
        raise FederationError(problem, where="Ray cluster", cure="see 'ray status' there") from None


def _look(plan: Plan, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    ask, answer, log = folder / "ask.json", folder / "answer.json", folder / "look.log"
    with _token(plan.out) as (token, text):
        asked: dict[str, Any] = {"address": environment[VARIABLE], "paths": _paths(plan), "environment": list(OFFLINE)}
        asked |= {"run": str(plan.out), "token": token, "text": text}
        write_text(ask, json.dumps(asked))
        command = [sys.executable, "-m", "simulations.engines.cluster_look", str(ask), str(answer)]
        where: dict[str, Any] = {"cwd": folder / "work", "env": dict(environment)}
        waited = contextlib.suppress(subprocess.TimeoutExpired)
        with log.open("wb") as out, tied(command, stdout=out, stderr=out, **where) as process, waited:
            process.wait(LOOK_S)
    if not answer.is_file():
        problem = f"said nothing of its nodes, for which it has {LOOK_S:g} s: {_last_line(log)}"
        raise FederationError(problem, where=f"Ray cluster {asked['address']}")
    found: dict[str, Any] = parse_json(read_bytes(answer), where=answer, bounds=DOCUMENT)
    if "refused" in found:
        cure = "this machine is to be a node of it, with the same Ray and Python: ray start --address"
        raise FederationError(
            f"cannot be joined: {_first(found['refused'])}", where=f"Ray cluster {asked['address']}", cure=cure
        )
    return found


@contextlib.contextmanager
def _token(run: Path) -> Iterator[tuple[str, str]]:
    """A file in the run folder for a while, by which a node knows it."""
    path, text = run / f".cluster-{secrets.token_hex(8)}", secrets.token_hex(16)
    write_text(path, text)
    try:
        yield path.name, text
    finally:
        path.unlink(missing_ok=True)


def _paths(plan: Plan) -> list[str]:
    """What each node reads under the path it has here, beside the run folder."""
    data, named = plan.experiment.data, plan.experiment.model.pretrained.strip()
    found = [] if data.path is None or data.source in _DRAWN else [str(Path(data.path).absolute())]
    return found if named.lower() in {"true", "false"} else [*found, str(Path(weights_file(named)).absolute())]


def _node(found: Mapping[str, Any]) -> Node:
    has = found["resources"]
    memory = has.get("memory", 0.0) / _GIB
    return Node(shown(found["name"], most=64), has.get("CPU", 0.0), has.get("GPU", 0.0), memory)


def _say(
    nodes: Sequence[Node], hosting: Sequence[Mapping[str, Any]], found: Mapping[str, Any], *, cpus: int, ray: RayConfig
) -> None:
    count = sum(node.actors(cpus, ray.gpus) for node in nodes)
    verb = "hosts" if len(hosting) == 1 else "host"
    _log.info("%s %s %s of %s", _some(len(hosting), "node"), verb, _some(count, "actor"), _some(cpus, "CPU"))
    taken = sum(node.cpus for node in nodes) - found["free"]
    if taken > 0:
        _log.warning("%g CPUs of the cluster are others' now: actors wait until these are free", taken)
    for each in hosting:
        there = each["seen"]["environment"]
        unset = [f"{name}={value}" for name, value in OFFLINE.items() if there.get(name) != value]
        if unset:
            _log.warning("node %s was started without %s", each["name"], " ".join(unset))


def _some(count: float, what: str) -> str:
    return f"{count:g} {what}{'' if count == 1 else 's'}"


def _told(cpus: float, gpus: float, memory: float) -> str:
    parts = [_some(cpus, "CPU"), f"{gpus:g} GPU" if gpus else "", f"{memory:.1f} GiB" if memory else ""]
    return ", ".join(part for part in parts if part)


def _first(text: str) -> str:
    return shown(text.strip().split("\n")[0], most=200)


def _last_line(log: Path) -> str:
    lines = read_bytes(log).decode(errors="replace").strip().splitlines()
    return shown(lines[-1], most=200) if lines else "nothing was printed"
