"""A command of ours in a fork of this process, which has imported what it needs, to be ended as a program is.

For tests of what becomes of a run that is cut off. How the installed program starts is tested elsewhere.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_LOOK_S = 0.02


class Command:
    """A process in a session of its own; what it prints goes into two files.

    Parameters
    ----------
    body
        What it does; its number is the exit code.
    folder
        Where the files go.
    """

    def __init__(self, body: Callable[[], int], folder: Path) -> None:
        self._files = folder / f"out-{time.monotonic_ns()}", folder / f"err-{time.monotonic_ns()}"
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _be(body, *self._files)

    def poll(self) -> int | None:
        """Its exit code, or less than 0 the signal that ended it; None while it runs."""
        if self.returncode is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it printed, once it has ended; it is killed where it takes longer."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
            time.sleep(_LOOK_S)
        out, err = (path.read_text() for path in self._files)
        return out, err


def _be(body: Callable[[], int], out: Path, err: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
        sys.stdin, sys.stdout, sys.stderr = (
            io.TextIOWrapper(os.fdopen(number, mode, buffering=0, closefd=False), write_through=True)
            for number, mode in ((0, "rb"), (1, "wb"), (2, "wb"))
        )
        code = body()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # as Python says it, of any
        traceback.print_exc()
    finally:
        os._exit(code)
