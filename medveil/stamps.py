"""Whether a file changed since it was looked at, without reading it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

SETTLED_NS = 2 * 10**9
"""What changes again within one tick of a disk's clock bears the same time: so long ago it must have been."""

Stamp = tuple[int, ...]


def stamp(path: str | Path) -> Stamp:
    """What no writer of a file can leave as it was: the system alone sets the time of a file's last change."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def are_settled(stamps: Iterable[Stamp]) -> bool:
    """Whether a later change of any of the files would show in its stamp."""
    now = time.time_ns()
    return all(now - each[-1] > SETTLED_NS for each in stamps)
