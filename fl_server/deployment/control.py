"""Flower's own commands against the consortium's SuperLink: nodes and runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fl_server.deployment.consortium import CONNECTION, Consortium
from fl_server.deployment.roster import ADMITTED, Member, Roster
from medveil.errors import FederationError
from medveil.fab import stage
from medveil.files import make_folder, write_text
from medveil.log import logger

_log = logger("server")
_CALL_S = 120.0
_AT_ONCE = 4
OFFLINE, ONLINE, REGISTERED, UNREGISTERED = "offline", "online", "registered", "unregistered"


@dataclass(frozen=True)
class Node:
    """A node as Flower lists it."""

    node: int
    status: str
    online_since: str
    offline_since: str


class Control:
    """What a coordinator tells a SuperLink, each as a ``flwr`` command.

    Parameters
    ----------
    consortium
        Whose SuperLink; it must be running.
    """

    def __init__(self, consortium: Consortium) -> None:
        self._consortium = consortium

    def register(self, member: Member) -> int:
        """Tell the SuperLink a site's key; returns the id of its node."""
        with tempfile.TemporaryDirectory(prefix="medveil-") as scratch:
            key = Path(scratch) / f"{member.name}.pub"
            write_text(key, member.public.line())
            said = self._flwr("supernode", "register", str(key), CONNECTION, "--name", member.name)
        return int(said["node-id"])

    def unregister(self, node: int) -> None:
        """Cut a node off: it ends within a minute, and its key never comes back."""
        self._flwr("supernode", "unregister", str(node), CONNECTION)

    def nodes(self) -> dict[int, Node]:
        """All nodes the SuperLink was ever told, by id."""
        listed = self._flwr("supernode", "list", CONNECTION)["nodes"]
        made = [Node(int(each["node-id"]), each["status"], each["online-at"], each["offline-at"]) for each in listed]
        return {node.node: node for node in made}

    def submit(self, run_config: Mapping[str, str], fab: str) -> int:
        """Submit the installed MedVeil with a run config; returns Flower's id of the run.

        Parameters
        ----------
        run_config
            What server and sites are told.
        fab
            The hash sites were told.

        Raises
        ------
        FederationError
            Flower refuses, or packed other code: the installation changed in between.
        """
        with tempfile.TemporaryDirectory(prefix="medveil-") as scratch:
            app = stage(make_folder(Path(scratch) / "medveil"))
            settings = Path(scratch) / "run.toml"
            write_text(settings, tomli_w.dumps(dict(run_config)), mode=0o600)
            said = self._flwr("run", str(app), CONNECTION, "-c", str(settings))
        flower_run = int(said["run-id"])
        if not fab.startswith(str(said["fab-hash"])):
            self.stop(flower_run)
            raise FederationError(
                f"Flower packed another app ({said['fab-hash']}...)", where=fab, cure="submit it again"
            )
        return flower_run

    def run(self, flower_run: int) -> dict[str, Any]:
        """What Flower says of one run: status, status-details, fab-hash and more."""
        return dict(self._flwr("list", CONNECTION, "--run-id", str(flower_run))["runs"][0])

    def stop(self, flower_run: int) -> None:
        """End a run."""
        self._flwr("stop", str(flower_run), CONNECTION)

    def _flwr(self, *words: str) -> dict[str, Any]:
        command = ["flwr", *words, "--format", "json"]
        folder = make_folder(self._consortium.state / "work", mode=0o700)
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=self._consortium.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_CALL_S,
            )
        except subprocess.TimeoutExpired:
            raise FederationError(f"'{shlex.join(command[:3])}' took more than {_CALL_S:g} s") from None
        said = _json(done.stdout)
        if said is None or not said.get("success"):
            raise FederationError(f"'{shlex.join(command[:3])}' failed: {_why(said, done.stdout + done.stderr)}")
        return said


def sync(consortium: Consortium, control: Control) -> list[str]:
    """Tell the SuperLink what changed in the roster; returns a line for each change.

    Raises
    ------
    FederationError
        Flower refuses.
    """
    roster, known = Roster(consortium.roster), control.nodes()
    done: list[str] = []

    def settle(member: Member) -> str | None:
        node = known.get(member.node)
        if member.status == ADMITTED and node is None:
            roster.registered(member, control.register(member))
            return f"{member.name} may connect"
        if member.status != ADMITTED and node is not None and node.status != UNREGISTERED:
            control.unregister(member.node)
            return f"{member.name} was cut off"
        return None

    # A command of Flower's takes seconds: several sites at a time.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = [said for said in pool.map(settle, roster.members()) if said is not None]
    return done


def _json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _why(said: dict[str, Any] | None, text: str) -> str:
    if said is not None and said.get("error-message"):
        text = str(said["error-message"])
    lines = [line.strip("│╭╮╰╯─ \t") for line in text.splitlines()]
    return " ".join([line for line in lines if line][-4:]) or "it said nothing"
