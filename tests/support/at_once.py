"""Our own programs done at once in this process: for tests of what they leave, and not of how they start.

A test puts `tied` or `run_tied` where one of ours says `medveil.tied`'s; nobody else's processes are touched.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from simulations.cli import main

_ONE_AT_A_TIME = threading.Lock()


def run_tied(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
    """As `medveil.tied.run_tied` of `medveil-sim`, with its output captured as text."""
    out, err = io.StringIO(), io.StringIO()
    with _ONE_AT_A_TIME, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(command[1:]))
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def tied(command: Sequence[str], **_: Any) -> Iterator[Ended]:
    """As `medveil.tied.tied` of `medveil-sim` with its errors piped as text."""
    yield Ended(run_tied(command))


class Ended:
    """What a `subprocess.Popen` is asked for whose process has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.returncode = done.returncode
        self.stderr = io.StringIO(done.stderr)

    def wait(self) -> int:
        return self.returncode
