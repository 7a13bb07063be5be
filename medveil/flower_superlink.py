"""A ``flower-superlink`` whose doors are ours. Private interfaces of Flower.

Flower serves all its interfaces on one port. Here its own address stays on this machine, for its commands and the
processes of its runs, and sites reach a second one; before both stands a `medveil.doors.Door`.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from medveil.audit import AuditLog
from medveil.door_notes import DoorNotes
from medveil.door_sessions import Sessions
from medveil.doors import Door, Gate, listening
from medveil.flower_absent import Telling
from medveil.flower_control import InnerGate, draw_secrets, guard_control
from medveil.flower_door import FleetGate
from medveil.flower_fleet import Fleet, flowers_handlers, guard
from medveil.flower_spared import Seldom, clean_up_seldom
from medveil.flower_wipe import Wiper, compact, zero_what_is_deleted


@dataclass(frozen=True)
class Places:
    """Where a SuperLink's own things lie, all below a folder of the server's account alone.

    Parameters
    ----------
    home
        Flower's home: its commands find their secret there.
    database
        Flower's database.
    superexec
        File for the secret of the SuperExec.
    refusals
        File for what the doors refused.
    """

    home: Path
    database: Path
    superexec: Path
    refusals: Path


def run_superlink(arguments: Sequence[str], *, fleet: tuple[str, int], places: Places, audit: AuditLog) -> None:
    """Be a ``flower-superlink`` with two doors: commands and runs at its own address, and the fleet alone at another.

    Parameters
    ----------
    arguments
        Of ``flower-superlink``; ``--host`` and ``--port`` name the inner address.
    fleet
        Host and port for SuperNodes.
    places
        Where its things lie.
    audit
        The server's log.
    """
    # A function of the same name hides the module from an import statement.
    command = cast("Any", importlib.import_module("flwr.superlink.cli.flower_superlink"))
    _allow_files()
    shut_other_doors()
    compact(places.database)
    zero_what_is_deleted()

    def run(app: Any, *, host: str, port: int, **options: Any) -> None:
        from medveil.door_connections import serve  # noqa: PLC0415

        sockets = [listening(host, port), listening(*fleet)]
        secret, superexec = draw_secrets(places.home, f"{host}:{port}", places.superexec)
        app.state.superexec_auth_secret = superexec
        command._get_superexec_command = _showing(command._get_superexec_command, places.superexec)
        notes = DoorNotes(places.refusals, audit, warn)
        behind = Behind(app, places.database, notes)
        gates: dict[int, Gate] = {port: InnerGate(secret, behind.state, superexec), fleet[1]: behind.fleet_gate}

        def ended() -> None:
            behind.close()
            notes.flush()

        serve(Door(app, gates, notes), sockets, ended, host=host, port=port, **options)

    command.uvicorn = SimpleNamespace(run=run)
    sys.argv = ["flower-superlink", *arguments]
    command.flower_superlink()


class Runs:
    """Flower's handlers of what a run's process asks: it is handed whole answers, and a `Wiper` hears what it took.

    Parameters
    ----------
    handlers
        Flower's `runtime_handlers`.
    wiper
        Hears when something was deleted.
    fleet
        What sites were handed, and what of it is not to be asked for yet.
    """

    def __init__(self, handlers: Any, wiper: Wiper, fleet: Fleet) -> None:
        self._handlers, self._wiper, self._fleet = handlers, wiper, fleet
        self._seldom = Seldom()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handlers, name)

    def pull_messages(self, request: Any, state: Any, task: Any) -> Any:
        """Hand over the answers that have come whole.

        Flower hands one over when its head has come, and waits for its objects for eight minutes: a site that never
        sends them would hold up every other.
        """
        unready = self._fleet.unready()
        asked = [each for each in request.message_ids if each not in unready]
        del request.message_ids[:]
        request.message_ids.extend(asked)
        lost = self._fleet.absences.lost(asked)
        news = bool(lost) or self._fleet.has_answer(asked)
        # What else Flower may have to say, of nodes that are gone and messages that are too old, can wait a second.
        if not self._seldom.is_due((task.run_id, *sorted(asked)), news=news):
            return self._handlers.PullAppMessagesResponse()
        return self._handlers.pull_messages(request, Telling(state, lost) if lost else state, task)

    def confirm_message_received(self, *arguments: Any) -> Any:
        """Let the server's app say that it has an answer, which is deleted then."""
        response = self._handlers.confirm_message_received(*arguments)
        self._wiper.deleted()
        return response

    def push_task_output(self, *arguments: Any) -> Any:
        """Let a run end."""
        response = self._handlers.push_task_output(*arguments)
        self._wiper.deleted()
        return response


class Behind:
    """What is put behind the doors: rules in place of Flower's handlers, and a `Wiper` of what was deleted.

    Parameters
    ----------
    app
        Flower's app.
    database
        Its database.
    notes
        Hears who was refused and why.
    """

    def __init__(self, app: Any, database: Path, notes: DoorNotes) -> None:
        self.state: Callable[[], Any] = app.state.linkstate_factory.state
        self._wiper = Wiper(database, self.state, warn)
        sessions = Sessions()
        self.fleet = fleet = Fleet(flowers_handlers(), sessions, notes)
        guard(fleet)
        guard_control()
        clean_up_seldom()
        app.state.runtime_handlers = Runs(app.state.runtime_handlers, self._wiper, fleet)
        self.fleet_gate = FleetGate(self.state, fleet, sessions, notes)
        self._wiper.start()

    def close(self) -> None:
        """Wipe what is left to wipe."""
        self._wiper.stop()


def warn(text: str) -> None:
    """Say something in Flower's log."""
    from logging import WARNING  # noqa: PLC0415

    from flwr.supercore import log  # noqa: PLC0415

    log(WARNING, "%s", text)


def shut_other_doors() -> None:
    """Have Flower serve nothing over gRPC beside the doors, as two variables of its own would have it do."""
    from flwr.common.constant import FLWR_INTERNAL_GRPC_CONTROL_API, FLWR_INTERNAL_GRPC_FLEET_API  # noqa: PLC0415

    for name in (FLWR_INTERNAL_GRPC_CONTROL_API, FLWR_INTERNAL_GRPC_FLEET_API):
        os.environ.pop(name, None)


def _showing(made: Callable[..., list[str]], secret: Path) -> Callable[..., list[str]]:
    """The command of the SuperExec that a SuperLink starts: ours, with its secret, which Flower leaves to others."""

    def shown(*arguments: Any, **settings: Any) -> list[str]:
        _, *given = made(*arguments, **settings)
        own = [sys.executable, "-Pm", "medveil.flower_superexec"]
        return [*own, *given, "--superexec-auth-secret-file", str(secret)]

    return shown


def _allow_files() -> None:
    """Let this process have as many connections as the machine allows: strangers must not take the last."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
