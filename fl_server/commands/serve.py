"""Starting, showing and stopping the server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fl_server.commands.common import PROG, Commands, consortium_of, refuse_stopped, said_of, say_new_key, tell_server
from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, FederationError
from medveil.exposition import add_exposition, expose
from medveil.plain import tell, tell_json, tell_lines, tell_result, tell_text, working

if TYPE_CHECKING:
    from fl_server.deployment.consortium import Consortium


_METRICS_PORT = 9464


def add_start(commands: Commands) -> argparse.ArgumentParser:
    """Add `start`."""
    made = subcommand(
        commands, "start", text="Start Flower's SuperLink for this consortium.", example=f"{PROG} start --print"
    )
    made.add_argument("--print", action="store_true", dest="show", help="show Flower's own commands, and start nothing")
    made.add_argument("--foreground", action="store_true", help="stay, and stop it when ended (for systemd)")
    add_json(made)
    made.set_defaults(command=_do_start)
    return made


def _do_start(arguments: argparse.Namespace) -> int:
    from fl_server.deployment import superlink  # noqa: PLC0415
    from fl_server.deployment.runs import end_left_behind  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    consortium = consortium_of(arguments)
    if arguments.show:
        commands = superlink.shown_commands(consortium)
        tell_text("commands", commands, end="\n", as_json=arguments.json)
        return EXIT_OK
    begun, ended = say_new_key(consortium, aside=arguments.json), []
    if processes.running(consortium.record) is None:
        ended = end_left_behind(consortium)
        for name in ended:
            said = f"ended what was left of run {name}; '{PROG} resume' goes on from its last whole round"
            tell(said, error=arguments.json)
    with working("starting Flower's SuperLink and waiting for it to answer"):
        pid = superlink.start(consortium, attended=arguments.foreground)
    try:
        told = tell_server(consortium)
        fleet = consortium.config.fleet
        address = f"{fleet.host}:{fleet.port}"
        found = {"process": pid, "address": address, "log": str(consortium.log), "runs_ended": ended}
        tell_result(
            {**found, "server": told, "new_signing_key": begun},
            *said_of(told),
            f"the server is up, process {pid}: sites at {address}, log {consortium.log}",
            as_json=arguments.json,
        )
    except BaseException:
        processes.stop(consortium.record)
        raise
    return processes.attend(consortium.record, log=consortium.log) if arguments.foreground else EXIT_OK


def add_status(commands: Commands) -> argparse.ArgumentParser:
    """Add `status`."""
    made = subcommand(
        commands,
        "status",
        text="Show the server, its certificates, sites and runs: rounds, losses, who is there and who was left out.",
        example=f"{PROG} status --watch",
    )
    made.add_argument("--json", action="store_true", help="print JSON; with --watch a line for each change")
    made.add_argument("--watch", action="store_true", help="stay, and show what changes until Ctrl-C")
    made.add_argument("--healthy", action="store_true", help="exit code 5 unless the server answers")
    made.set_defaults(command=_do_status)
    return made


def _do_status(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.status import as_text, status  # noqa: PLC0415

    consortium = consortium_of(arguments)
    if arguments.watch:
        from fl_server.deployment.live import looks, watch  # noqa: PLC0415

        watch(looks(consortium), as_json=arguments.json)
        return EXIT_OK
    found = status(consortium)
    if arguments.json:
        tell_json(found)
    else:
        tell_lines(as_text(found))
    return FederationError.exit_code if arguments.healthy and not found["server"]["answers"] else EXIT_OK


def add_metrics(commands: Commands) -> argparse.ArgumentParser:
    """Add `metrics`."""
    made = subcommand(
        commands,
        "metrics",
        text="Expose rounds, losses, sites, refusals and free disk as Prometheus text, to this machine alone.",
        example=f"{PROG} metrics --once",
    )
    add_exposition(made, _METRICS_PORT)
    made.set_defaults(command=_do_metrics)
    return made


def _do_metrics(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.exposed import exposed  # noqa: PLC0415

    consortium = consortium_of(arguments)
    expose(arguments, lambda: exposed(consortium))
    return EXIT_OK


def add_stop(commands: Commands) -> argparse.ArgumentParser:
    """Add `stop`."""
    made = subcommand(
        commands,
        "stop",
        text="Stop the server, or only its newest run. Exit code 6: --drain ended in the middle of a round.",
        example=f"{PROG} stop --drain",
    )
    made.add_argument("--run", action="store_true", help="end the newest run; the server and its sites stay")
    made.add_argument(
        "--drain", action="store_true", help="first finish the round in flight, and begin no other and no new run"
    )
    made.add_argument(
        "--seconds", type=float, default=7200.0, metavar="S", help="with --drain, stop after so many all the same"
    )
    add_json(made)
    made.set_defaults(command=_do_stop)
    return made


def _do_stop(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.control import Control  # noqa: PLC0415
    from fl_server.deployment.runs import end_left_behind, find  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    consortium = consortium_of(arguments)
    if not 0 < arguments.seconds < float("inf"):
        raise ConfigError(f"is {arguments.seconds:g}", where="--seconds", cure="above 0")
    if arguments.run and arguments.drain:
        raise ConfigError(
            "--run ends a run at once, and --drain finishes its round", where=f"{PROG} stop", cure="give one of them"
        )
    if arguments.drain and processes.running(consortium.record) is not None:
        return _drain(consortium, arguments.seconds, as_json=arguments.json)
    if arguments.run:
        refuse_stopped(consortium)
        newest = find(consortium, None)
        consortium.audit.append("run-stopped", run=newest.run, name=newest.name, app=newest.fab)
        Control(consortium).stop(newest.flower_runs[-1])
        said = f"stopped run {newest.name}; '{PROG} resume' goes on from its last whole round"
        tell_result({"was_running": True, "stopped": False, "runs_ended": [newest.name]}, said, as_json=arguments.json)
        return EXIT_OK
    was = processes.stop(consortium.record)
    ended = end_left_behind(consortium)
    lines = ["the server was stopped" if was else "the server was not running"]
    lines += [f"ended what was left of run {name}" for name in ended]
    tell_result({"was_running": was, "stopped": was, "runs_ended": ended}, *lines, as_json=arguments.json)
    return EXIT_OK


def _drain(consortium: Consortium, seconds: float, *, as_json: bool = False) -> int:
    """Let runs finish their rounds, and stop the server; runs are left to be resumed."""
    from fl_server.deployment.control import Control  # noqa: PLC0415
    from fl_server.deployment.runs import end_left_behind, wait_for_round  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    consortium.audit.append("drained", seconds=seconds)
    consortium.drain.ask()
    try:
        with working("finishing the round in flight"):
            left = wait_for_round(consortium, Control(consortium), seconds=seconds)
        processes.stop(consortium.record)
        end_left_behind(consortium)
    finally:
        # Who interrupts this takes it back: the server goes on.
        consortium.drain.forget()
    how = "between two rounds" if not left else f"after {seconds:g} s, in the middle of a round of {', '.join(left)}"
    after = f"after the upgrade: '{PROG} start', and '{PROG} resume' for a run that had not ended"
    found = {"was_running": True, "stopped": True, "runs_ended": left}
    tell_result(found, f"the server was stopped {how}", after, as_json=as_json)
    return EXIT_PARTIAL if left else EXIT_OK
