"""Starting, showing and stopping the server."""

from __future__ import annotations

import argparse

from fl_server.commands.common import PROG, Commands, consortium_of, refuse_stopped, say_new_key, tell_server
from medveil.cli import subcommand
from medveil.errors import EXIT_OK
from medveil.plain import tell, tell_block, tell_json, tell_lines, working


def add_start(commands: Commands) -> argparse.ArgumentParser:
    """Add `start`."""
    made = subcommand(
        commands, "start", text="Start Flower's SuperLink for this consortium.", example=f"{PROG} start --print"
    )
    made.add_argument("--print", action="store_true", dest="show", help="show Flower's own commands, and start nothing")
    made.add_argument("--foreground", action="store_true", help="stay, and stop it when ended (for systemd)")
    made.set_defaults(command=_do_start)
    return made


def _do_start(arguments: argparse.Namespace) -> int:
    from fl_server.deployment import superlink  # noqa: PLC0415
    from fl_server.deployment.runs import end_left_behind  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    consortium = consortium_of(arguments)
    if arguments.show:
        tell_block(superlink.shown_commands(consortium))
        return EXIT_OK
    say_new_key(consortium)
    if processes.running(consortium.record) is None:
        for name in end_left_behind(consortium):
            tell(f"ended what was left of run {name}; '{PROG} resume' goes on from its last whole round")
    with working("starting Flower's SuperLink and waiting for it to answer"):
        pid = superlink.start(consortium, attended=arguments.foreground)
    try:
        tell_server(consortium)
        fleet = consortium.config.fleet
        tell(f"the server is up, process {pid}: sites at {fleet.host}:{fleet.port}, log {consortium.log}")
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
    return EXIT_OK


def add_stop(commands: Commands) -> argparse.ArgumentParser:
    """Add `stop`."""
    made = subcommand(commands, "stop", text="Stop the server, or only its newest run.", example=f"{PROG} stop --run")
    made.add_argument("--run", action="store_true", help="end the newest run; the server and its sites stay")
    made.set_defaults(command=_do_stop)
    return made


def _do_stop(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.control import Control  # noqa: PLC0415
    from fl_server.deployment.runs import end_left_behind, find  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    consortium = consortium_of(arguments)
    if arguments.run:
        refuse_stopped(consortium)
        newest = find(consortium, None)
        consortium.audit.append("run-stopped", run=newest.run, name=newest.name, app=newest.fab)
        Control(consortium).stop(newest.flower_runs[-1])
        tell(f"stopped run {newest.name}; '{PROG} resume' goes on from its last whole round")
        return EXIT_OK
    tell("the server was stopped" if processes.stop(consortium.record) else "the server was not running")
    for name in end_left_behind(consortium):
        tell(f"ended what was left of run {name}")
    return EXIT_OK
