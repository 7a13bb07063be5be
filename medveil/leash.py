"""The parent of a command on another's behalf: once that other is gone, however it went, all that was started ends.

``python -IS leash.py --life FD|--parent [OPTIONS] -- COMMAND ...``. It runs as a file, in a bare interpreter, so that
it costs little, and needs nothing but the standard library. Nobody can answer SIGKILL; so it is not who may be killed
that looks after the processes, but this one, in a session of its own:

- it learns of the other's end by a pipe that closes, or (``--parent``) by the kernel's parent-death signal;
- what the command started, and what those started, is found among its descendants: where a process between them ended,
  Linux gives the orphan to the nearest "subreaper", which this is (prctl(2), PR_SET_CHILD_SUBREAPER), and so finds
  what made itself a session of its own as well;
- should it be killed itself, its command is told by the parent-death signal (PR_SET_PDEATHSIG).

The command is asked to end by SIGTERM, then what it left is, and what is still there after some seconds is killed.
This process ends after all of them. Without ``/proc``, elsewhere than on Linux, the command's own process group ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

GRACE_S = 5.0
"""How long a command, and then what it left, may take to end in order, if nothing else is said."""
NO_PROGRAM = 127
"""The exit code where the command cannot be started, as shells have it."""
_LOOK_S = 0.1
_PDEATHSIG, _SUBREAPER = 1, 36
_PROC = Path("/proc")
_TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Leash:
    """A command, the pipe that says whether whoever wanted it lives, and the signals that came.

    Parameters
    ----------
    command
        Program and arguments.
    life
        The pipe's end to read from; None to live as long as this process's parent.
    grace
        Seconds the command, and then what it left, may take to end in order.
    """

    def __init__(self, command: Sequence[str], life: int | None, *, grace: float) -> None:
        self._life, self._grace, self._asked = life, grace, 0
        self._status: int | None = None
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in _TOLD:
            # Who ignores a signal (nohup) has its processes ignore it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._ask)
        _prctl(_SUBREAPER, 1)
        if life is None:
            _end_with(os.getppid())
        own = os.getpid()
        # One thread alone runs here: what is done between fork and exec meets no lock of another.
        self._child = subprocess.Popen(command, start_new_session=True, preexec_fn=lambda: _end_with(own))  # noqa: PLW1509

    def hold(self) -> int:
        """Wait for the command's end or the other's, and end what is left; returns the exit code."""
        while self._status is None and not self._asked and not self.is_let_go():
            self._rest()
        if self._status is None:
            _send([self._child.pid], signal.SIGTERM)
            self._wait(lambda: self._status is not None)
        _send(self._left(), signal.SIGTERM)
        self._wait(lambda: not self._left())
        while self._kill():
            self._rest(_LOOK_S)
        return self._code()

    def is_let_go(self) -> bool:
        """Whether whoever held the pipe is gone."""
        return self._life is not None and bool(select.select([self._life], [], [], 0)[0])

    # -- inside --------------------------------------------------------------------------------------------------------

    def _ask(self, number: int, frame: object) -> None:
        self._asked += 1

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait for what was asked to end; where this process is asked again meanwhile, no longer."""
        asked, until = self._asked, time.monotonic() + self._grace
        while not done() and time.monotonic() < until and self._asked <= max(asked, 1):
            self._rest(_LOOK_S)

    def _rest(self, seconds: float | None = None) -> None:
        """Wait for a signal, the pipe's end, or some seconds."""
        ends = [self._woken] if self._life is None or self.is_let_go() else [self._woken, self._life]
        select.select(ends, [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        self._reap()

    def _reap(self) -> None:
        """Take leave of the command and of orphans that came here."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._child.pid:
                    self._status = status

    def _left(self) -> list[int]:
        return descendants(os.getpid())

    def _kill(self) -> list[int]:
        """Kill what is left; what was."""
        left = self._left()
        _send(left, signal.SIGKILL)
        if not _PROC.is_dir():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
        return left

    def _code(self) -> int:
        if self._status is None:
            return 128 + signal.SIGKILL
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code


def descendants(of: int) -> list[int]:
    """Ids of processes below one, those that have ended and wait for their parents left out; none without ``/proc``."""
    parents, found = _parents(), [of]
    for each in found:
        found += [pid for pid, parent in parents.items() if parent == each]
    return found[1:]


def _parents() -> dict[int, int]:
    made = {}
    for name in os.listdir(_PROC) if _PROC.is_dir() else []:
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                # The name, in brackets, may hold anything: what follows the last bracket counts.
                state, parent = (_PROC / name / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    made[int(name)] = int(parent)
    return made


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _end_with(parent: int) -> None:
    """Have the kernel send SIGTERM here once `parent`, whose child this is, has ended (Linux)."""
    _prctl(_PDEATHSIG, signal.SIGTERM)
    # It may have ended before that.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main(argv: list[str] | None = None) -> int:
    """Be the leash's process."""
    parser = argparse.ArgumentParser(prog="leash.py", allow_abbrev=False)
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--life", type=int, metavar="FD", help="live until this pipe closes")
    whose.add_argument("--parent", action="store_true", help="live as long as the process that started this one")
    parser.add_argument("--grace", type=float, default=GRACE_S, metavar="SECONDS", help="for an end in order")
    parser.add_argument("--remove", metavar="FOLDER", help="remove it, where the pipe had closed")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(argv)
    try:
        leash = Leash(given.command, given.life, grace=given.grace)
    except OSError:
        return NO_PROGRAM
    code = leash.hold()
    if given.remove and leash.is_let_go():
        shutil.rmtree(given.remove, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
