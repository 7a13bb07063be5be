"""Flower's SuperNode as a process of the site's.

``python -m fl_client.deployment.supernode --poll SECONDS --answered FILE --others FILE -- ARGUMENTS`` is
``flower-supernode ARGUMENTS`` that looks for work every so often while there is some, leaves the time of the server's
last answer, and tells of others with its key (`medveil.flower.run_supernode`).
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from fl_client.deployment.own_files import OwnFiles
from medveil.cli import guarded
from medveil.environment import HERE
from medveil.parent import end_with_parent

_SHOWN = ("FLWR_HOME", "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK", "MEDVEIL_HOME")


def stock_command(files: OwnFiles, *, port: int, isolated: bool = True) -> list[str]:
    """Flower's own command.

    Parameters
    ----------
    files
        The site.
    port
        Its inner port, on this machine only.
    isolated
        The site's own worker does the work; otherwise Flower starts a process a message, which runs the server's code.
    """
    config = files.config
    isolation = ["process", "--superexec-auth-secret-file", str(files.secret)] if isolated else ["subprocess"]
    return [
        "flower-supernode",
        *("--superlink", config.server, "--root-certificates", str(files.path(config.ca))),
        *("--auth-supernode-private-key", str(files.path(config.node_key))),
        *("--host", HERE, "--port", str(port), "--isolation", *isolation),
    ]


def command(files: OwnFiles, *, port: int, stock: bool = False) -> list[str]:
    """What the site starts: Flower's own command, or the same with shorter polls and the site's own worker."""
    if stock:
        return stock_command(files, port=port, isolated=False)
    own = [sys.executable, "-Pm", "fl_client.deployment.supernode", "--poll", f"{files.config.poll:g}"]
    told = ["--answered", str(answered_file(files)), "--others", str(others_file(files))]
    return [*own, *told, "--", *stock_command(files, port=port)[1:]]


def answered_file(files: OwnFiles) -> Path:
    """An empty file whose time is when the server last answered the node; a stock node keeps none."""
    return files.state / "supernode.answered"


def others_file(files: OwnFiles) -> Path:
    """What tells of other sessions with the node's key; none while there was none, and a stock node keeps none."""
    return files.state / "supernode.others"


def worker_command(files: OwnFiles, *, port: int) -> list[str]:
    """The site's own worker."""
    return [sys.executable, "-Pm", "fl_client.worker", str(files.file), "--address", f"{HERE}:{port}"]


def shown_commands(files: OwnFiles, *, port: int, stock: bool) -> str:
    """What an administrator would type to do it by hand."""
    environment = files.environment()
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in _SHOWN]
    if stock:
        return "\n".join(
            [
                *lines,
                f"export MEDVEIL_SITE={shlex.quote(str(files.file))}",
                "",
                "# Flower starts a process a message, which runs the app the SERVER sends, with this site's keys:",
                shlex.join(command(files, port=port, stock=True)),
            ]
        )
    secret = shlex.quote(str(files.secret))
    lines += ["", "# What node and worker know each other by, drawn anew every time:"]
    lines += [f"(umask 077; head -c 32 /dev/urandom > {secret})"]
    lines += ["", "# Flower's own command; it looks for work every 3 s:"]
    lines += [shlex.join(stock_command(files, port=port)), "", "# The same with shorter polls:"]
    lines += [shlex.join(command(files, port=port)), "", "# The worker; it reads passphrases as one line of JSON:"]
    return "\n".join([*lines, f"""{shlex.join(worker_command(files, port=port))} <<< '{{"": "PASSPHRASE"}}'"""])


def main(argv: list[str] | None = None) -> int:
    """Be the SuperNode's process."""
    parser = argparse.ArgumentParser(prog="python -m fl_client.deployment.supernode")
    parser.add_argument("--poll", required=True, type=float)
    parser.add_argument("--answered", type=Path, help="file whose time is when the server answered last")
    parser.add_argument("--others", type=Path, help="file that tells of other sessions with the node's key")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    arguments = given.arguments[1:] if given.arguments[:1] == ["--"] else given.arguments

    def body() -> int:
        # Not above: the supervisor, which reads this file, needs nothing of Flower.
        from medveil.flower import run_supernode  # noqa: PLC0415

        end_with_parent()
        run_supernode(arguments, poll=given.poll, answered=given.answered, others=given.others)
        return 0

    return guarded(body)


def end_at_once(code: int) -> NoReturn:
    """End this process, whatever threads are left: a node that gave up is started again only if it is seen to end.

    After a broken TLS handshake Flower 1.41 says that its SuperNode terminated, and a thread of its own keeps it.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        ended = main()
    except SystemExit as left:
        ended = left.code if isinstance(left.code, int) else int(left.code is not None)
    end_at_once(ended)
