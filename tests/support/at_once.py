"""Our own programs done at once in this process: for tests of what they leave, and not of how they start.

A test puts this module where one of ours says ``subprocess``; nobody else's processes are touched.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from simulations.cli import main

DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE
_ONE_AT_A_TIME = threading.Lock()


def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `medveil-sim`, with its output captured as text."""
    out, err = io.StringIO(), io.StringIO()
    with _ONE_AT_A_TIME, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(command[1:]))
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


class Popen:
    """As `subprocess.Popen` of `medveil-sim` with its errors piped as text, ended when it is made."""

    def __init__(self, command: Sequence[str], **_: Any) -> None:
        done = run(command)
        self.returncode = done.returncode
        self.stderr = io.StringIO(done.stderr)

    def wait(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        """There is nothing left to end."""
