"""A ``flower-superexec`` that shows nobody the token of a run. Private interfaces of Flower 1.41.

``python -m medveil.flower_superexec ARGUMENTS``. Flower hands a run's process its token as an argument, which every
account of the machine can read while the run lasts: with it anybody fetches the sites' single updates, and ends the
run, in the name of the server's app. Here it comes as the standard input.
"""

from __future__ import annotations

import importlib
import subprocess
import tempfile
from types import SimpleNamespace
from typing import Any, cast

TOKEN, TOKEN_FILE = "--token", "--token-file"
STDIN = "/dev/stdin"


def start_unseen(arguments: list[str], **settings: Any) -> subprocess.Popen[bytes]:
    """Start a run's process with its token as the standard input, in a file that has no name.

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
        return subprocess.Popen(hidden, stdin=stream, **settings)


def hide_tokens() -> None:
    """Have this process start what it starts by `start_unseen`."""
    executor = importlib.import_module("flwr.supercore.superexec.executor.subprocess_executor")
    starting = SimpleNamespace(Popen=start_unseen, DEVNULL=subprocess.DEVNULL)
    executor.subprocess = starting  # type: ignore[attr-defined]


def main() -> None:
    """Be the SuperExec's process."""
    hide_tokens()
    command = cast("Any", importlib.import_module("flwr.supercore.cli.flower_superexec"))
    command.flower_superexec()


if __name__ == "__main__":
    main()
