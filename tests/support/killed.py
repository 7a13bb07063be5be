"""A process killed at every one of its file operations, each time a fresh one."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

OPERATIONS = frozenset(
    {"open", "write", "writelines", "flush", "truncate", "fsync", "fdatasync", "sync", "close", "replace", "rename"}
    | {"link", "unlink", "mkdir", "rmdir", "chmod", "copyfile", "sendfile"}
)
"""Functions in C at which a process is killed, before and after each of their calls."""
_DONE = 0


def killed(work: Callable[[], Any], at: int) -> bool:
    """Run `work` in a fork that is killed at its operation number `at`; whether it came that far.

    Whatever a buffer of the process still holds then is lost, as it is when a person or the kernel kills it.
    """
    child = os.fork()
    if child == 0:
        try:
            sys.setprofile(_killer(at))
            work()
            os._exit(_DONE)
        except BaseException as error:
            sys.setprofile(None)
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == _DONE, "what was to be killed failed by itself"
    return False


def every_point(work: Callable[[], Any], *, step: int = 1) -> Iterator[int]:
    """Kill `work` at its operations 0, `step`, 2 `step` and so on until it ends by itself; yields after each death."""
    at = 0
    while killed(work, at):
        yield at
        at += step
    assert at > step, "nothing was killed"


def files_with(needles: dict[str, bytes], *folders: Path) -> list[tuple[Path, str]]:
    """Which files, by whatever name, hold any of the needles."""
    found = []
    for folder in folders:
        for path in (each for each in folder.rglob("*") if each.is_file()):
            data = path.read_bytes()
            found += [(path, name) for name, needle in needles.items() if needle in data]
    return found


def _killer(at: int) -> Callable[[FrameType, str, Any], None]:
    left = at

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event not in {"c_call", "c_return"} or getattr(argument, "__name__", "") not in OPERATIONS:
            return
        # What is written into memory changes no disk.
        if not isinstance(getattr(argument, "__self__", None), io.BytesIO):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    return count
