"""A ``flower-superexec`` that shows nobody the token of a run. Private interfaces of Flower.

``python -m medveil.flower_superexec ARGUMENTS``. Flower hands a run's process its token as an argument, which every
account of the machine can read while the run lasts: with it anybody fetches the sites' single updates, and ends the
run, in the name of the server's app. Here it comes as the standard input.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
import time
from types import SimpleNamespace
from typing import Any, cast

from medveil.parent import STARTED_BY

TOKEN, TOKEN_FILE = "--token", "--token-file"
STDIN = "/dev/stdin"
BUSY_S = 1.0
"""Seconds between two looks for another run while one is under way."""
_started: list[subprocess.Popen[bytes]] = []


def start_unseen(arguments: list[str], **settings: Any) -> subprocess.Popen[bytes]:
    """Start a run's process with its token as the standard input, in a file that has no name.

    It is told who started it, so that it ends with this process (`medveil.parent`).

    Parameters
    ----------
    arguments
        As Flower would start it.
    **settings
        Of `subprocess.Popen`.
    """
    at = arguments.index(TOKEN)
    # A pipe would do, but Flower takes a token only from what is a file.
    with tempfile.TemporaryFile() as stream:
        stream.write(arguments[at + 1].encode())
        stream.seek(0)
        hidden = [*arguments[:at], TOKEN_FILE, STDIN, *arguments[at + 2 :]]
        environment = {**os.environ, STARTED_BY: str(os.getpid())}
        made = subprocess.Popen(hidden, stdin=stream, **{"env": environment, **settings})
    _started.append(made)
    return made


def hide_tokens() -> None:
    """Have this process start what it starts by `start_unseen`."""
    executor = importlib.import_module("flwr.supercore.superexec.executor.subprocess_executor")
    starting = SimpleNamespace(Popen=start_unseen, DEVNULL=subprocess.DEVNULL)
    executor.subprocess = starting  # type: ignore[attr-defined]


def rest(seconds: float) -> None:
    """Sleep between two looks for a run: `seconds`, or longer while a run that was started here is under way."""
    _started[:] = [each for each in _started if each.poll() is None]
    time.sleep(max(seconds, BUSY_S) if _started else seconds)


def look_seldom() -> None:
    """Have this process `rest` between its looks."""
    loop = importlib.import_module("flwr.supercore.superexec.run_superexec")
    loop.time = SimpleNamespace(sleep=rest)  # type: ignore[attr-defined]


def main() -> None:
    """Be the SuperExec's process."""
    hide_tokens()
    look_seldom()
    command = cast("Any", importlib.import_module("flwr.supercore.cli.flower_superexec"))
    command.flower_superexec()


if __name__ == "__main__":
    main()
