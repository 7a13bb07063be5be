"""What a process leaves that is killed at any of its file operations: looked at at each, and killed at some of them.

What dies takes its buffers and its nameless files along, and changes nothing that has a name. So a look at the disk at
an operation shows what a kill there would leave; one pass looks at all of them, where a kill at each begins anew.
"""

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


def look_at_every_point(work: Callable[[], Any], look: Callable[[int], None]) -> None:
    """Do `work` in this process, and call `look` with the number of each of its file operations that begins or ends."""
    found: list[Exception] = []
    number = 0

    def looked() -> None:
        nonlocal number
        number += 1
        try:
            look(number - 1)
        except (AssertionError, OSError) as error:
            found.append(error)

    sys.setprofile(_at_operations(looked))
    try:
        work()
    finally:
        sys.setprofile(None)
    assert number, "there was nothing to look at"
    if found:
        raise found[0]


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

    def count() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return _at_operations(count)


def _at_operations(done: Callable[[], None]) -> Callable[[FrameType, str, Any], None]:
    """What `sys.setprofile` takes to call `done` before and after each operation that may change a disk."""

    def called(frame: FrameType, event: str, argument: Any) -> None:
        if event not in {"c_call", "c_return"} or getattr(argument, "__name__", "") not in OPERATIONS:
            return
        # What is written into memory changes no disk.
        if not isinstance(getattr(argument, "__self__", None), io.BytesIO):
            done()

    return called
