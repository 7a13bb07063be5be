"""Who descends from a process, and which of them are still there later."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from medveil import processes
from medveil.leash import descendants


@dataclass
class Family:
    """All that a process has started, those that left its session or lost their parent since they were seen too.

    Parameters
    ----------
    root
        The process's id.
    """

    root: int
    _seen: dict[int, tuple[str, str]] = field(default_factory=dict)

    def look(self) -> list[str]:
        """Note who is there now; what they are called."""
        for pid in descendants(self.root):
            began = processes.began(pid)
            if began:
                self._seen[pid] = (began, _line(pid))
        return [line for _, line in self._seen.values()]

    def left(self) -> list[str]:
        """Those of the noted that still run, and what they are called."""
        return [f"{pid} {line}" for pid, (began, line) in self._seen.items() if processes.began(pid) == began]

    def wait_gone(self, seconds: float) -> list[str]:
        """Wait until none of the noted is left; those that are."""
        until = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def _line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:150]
    return ""
