"""Starting, showing and stopping a site."""

from __future__ import annotations

import argparse

from fl_client.commands.common import PROG, Commands, Passphrases, site_of
from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, FederationError
from medveil.exposition import add_exposition, expose
from medveil.plain import tell, tell_json, tell_lines, tell_result, tell_text, working

_SHOWN_PORT = 9094
_METRICS_PORT = 9465
STOCK_WARNING = (
    "--stock runs the app the server sends, with this site's key in reach, and asks no approval: only for a "
    "coordinator you would give the key to"
)


def add_start(commands: Commands) -> argparse.ArgumentParser:
    """Add `start`."""
    made = subcommand(
        commands,
        "start",
        text="Start this site: Flower's SuperNode and its own worker.",
        example=f"{PROG} start",
    )
    made.add_argument("--print", action="store_true", dest="show", help="show Flower's own commands, and start nothing")
    made.add_argument("--foreground", action="store_true", help="stay, and stop it when ended (for systemd)")
    made.add_argument("--stock", action="store_true", help="plain flower-supernode: runs the SERVER's code, unapproved")
    add_json(made)
    made.set_defaults(command=_do_start)
    return made


def _do_start(arguments: argparse.Namespace) -> int:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment import running  # noqa: PLC0415
    from fl_client.deployment.code import approved_code  # noqa: PLC0415
    from fl_client.deployment.door import refuse_unready, warnings_of  # noqa: PLC0415
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415
    from fl_client.deployment.signatures import refuse_unsigned  # noqa: PLC0415
    from fl_client.deployment.supernode import shown_commands  # noqa: PLC0415
    from fl_client.deployment.supervisor import SUPERVISOR  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    files = site_of(arguments)
    if arguments.show:
        commands = shown_commands(files, port=files.config.port or _SHOWN_PORT, stock=arguments.stock)
        tell_text("commands", commands, end="\n", as_json=arguments.json)
        return EXIT_OK
    if arguments.stock:
        tell(f"warning: {STOCK_WARNING}", error=True)
    running.refuse_running(files)
    # Before the approval: who has to rejoin is told so first, and by `check` as well.
    refuse_unsigned(files)
    approved_code(files)
    refuse_unready(files)
    for warning in warnings_of(files):
        tell(f"warning: {warning}", error=True)
    passphrases = Passphrases(read_passphrase)
    keys = open_keys(files, passphrases)
    with working("starting Flower's SuperNode and this site's worker"):
        pid = running.start(files, passphrases.read_so_far, stock=arguments.stock, attended=arguments.foreground)
    key = keys.own.current.fingerprint
    line = f"{files.config.name} is up, process {pid}, with the key {key}; log {files.log}"
    found = {"site": files.config.name, "process": pid, "key": key, "log": str(files.log)}
    record = files.record(SUPERVISOR)
    if arguments.foreground:
        tell_result({**found, "connected": None, "why_not": None}, line, as_json=arguments.json)
        return processes.attend(record, log=files.log)
    tell(line, error=arguments.json)
    with working(f"waiting for {files.config.server} to let this site in"):
        connected, said = running.wait_connected(files)
    tell_result(
        {**found, "connected": connected, "why_not": None if connected else said},
        f"connected to {files.config.server}" if connected else f"not connected yet, and trying on: {said}",
        as_json=arguments.json,
    )
    return EXIT_OK


def add_status(commands: Commands) -> argparse.ArgumentParser:
    """Add `status`."""
    made = subcommand(commands, "status", text="Show what this site is doing.", example=f"{PROG} status")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--healthy", action="store_true", help="exit code 5 unless the site is connected")
    made.set_defaults(command=_do_status)
    return made


def _do_status(arguments: argparse.Namespace) -> int:
    from fl_client.deployment.running import as_text, status  # noqa: PLC0415

    found = status(site_of(arguments))
    if arguments.json:
        tell_json(found)
    else:
        tell_lines(as_text(found))
    return FederationError.exit_code if arguments.healthy and not found["connected"] else EXIT_OK


def add_metrics(commands: Commands) -> argparse.ArgumentParser:
    """Add `metrics`."""
    made = subcommand(
        commands,
        "metrics",
        text="Expose messages answered and refused, the connection and free disk as Prometheus text, to this machine "
        "alone.",
        example=f"{PROG} metrics --once",
    )
    add_exposition(made, _METRICS_PORT)
    made.set_defaults(command=_do_metrics)
    return made


def _do_metrics(arguments: argparse.Namespace) -> int:
    from fl_client.deployment.exposed import Exposed  # noqa: PLC0415

    expose(arguments, Exposed(site_of(arguments)))
    return EXIT_OK


def add_stop(commands: Commands) -> argparse.ArgumentParser:
    """Add `stop`."""
    made = subcommand(
        commands,
        "stop",
        text="Stop this site; it takes leave of its server. Exit code 6: --drain ended with work in hand.",
        example=f"{PROG} stop --drain",
    )
    made.add_argument(
        "--drain", action="store_true", help="first finish what is in hand, a round or its sum, and take nothing new"
    )
    made.add_argument(
        "--seconds", type=float, default=3600.0, metavar="S", help="with --drain, stop after so many all the same"
    )
    add_json(made)
    made.set_defaults(command=_do_stop)
    return made


def _do_stop(arguments: argparse.Namespace) -> int:
    from fl_client.deployment.draining import drain  # noqa: PLC0415
    from fl_client.deployment.running import stop  # noqa: PLC0415
    from fl_client.deployment.supervisor import WORKER  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    files = site_of(arguments)
    if not 0 < arguments.seconds < float("inf"):
        raise ConfigError(f"is {arguments.seconds:g}", where="--seconds", cure="above 0")
    if arguments.drain and processes.running(files.record(WORKER)) is not None:
        with working("finishing what is in hand"):
            empty = drain(files, stop, seconds=arguments.seconds)
        how = "with nothing in hand" if empty else f"after {arguments.seconds:g} s, with work still in hand"
        found = {"site": files.config.name, "was_running": True, "work_in_hand": not empty}
        tell_result(found, f"{files.config.name} was stopped {how}", as_json=arguments.json)
        return EXIT_OK if empty else EXIT_PARTIAL
    was = stop(files)
    found = {"site": files.config.name, "was_running": was, "work_in_hand": None if was else False}
    said = f"{files.config.name} was stopped" if was else f"{files.config.name} was not running"
    tell_result(found, said, as_json=arguments.json)
    return EXIT_OK
