"""Patience with somebody at a door: refused too often within a minute, they have to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable
from threading import Lock

TIMES, _SECONDS = 30, 60.0


class Patience:
    """Counts refusals of the last minute, by whoever is refused; any thread may call it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._refused: dict[Hashable, deque[float]] = {}

    def refuse(self, who: Hashable) -> None:
        """Remember that somebody was refused just now."""
        with self._lock:
            self._refused.setdefault(who, deque(maxlen=TIMES)).append(time.monotonic())

    def is_at_its_end(self, who: Hashable) -> bool:
        """Whether somebody was refused so often in the last minute that they have to wait."""
        with self._lock:
            times = self._refused.get(who, deque())
            while times and times[0] < time.monotonic() - _SECONDS:
                times.popleft()
            return len(times) >= TIMES
