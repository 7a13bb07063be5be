"""When to look for work: soon while whoever is asked answers at once, later while they are busy; when they last did."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_SHARE = 10
"""A look may take one part in so many of the time: then many who look leave time for the work itself."""
_REMEMBERED = 3
_EAGER_S = 120.0
_IDLE_S = 3.0
_NOTED_S = 2.0


class Pace:
    """The wait between two looks.

    With N who look, each of which costs the other side s seconds, looks alone keep it busy for N s / (s + wait). The
    time a look takes grows with that, and the wait with it, so that it never comes to all of its time.

    Parameters
    ----------
    shortest
        Seconds to wait at least.
    """

    def __init__(self, shortest: float) -> None:
        self._shortest = shortest
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    def wait(self, took: float) -> float:
        """Seconds to wait after a look that took so many; one slow look among quick ones is let be."""
        self._took.append(took)
        return max(self._shortest, _SHARE * min(self._took))


class ShortSleep:
    """The sleep of a SuperNode's loop, which is 3 s where it found no work and half a second while it waits for some.

    Short sleeps would make many idle sites a burden to their server: after two minutes without work they end, and
    before that they follow the server's pace.
    """

    def __init__(
        self,
        poll: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poll, self._pace = poll, Pace(poll)
        self._sleep, self._clock = sleep, clock
        self._idle, self._woke = 0.0, clock()

    def __call__(self, seconds: float) -> None:
        """Sleep for `seconds` at most."""
        if seconds < _IDLE_S:
            # It waits for the worker's reply, and asks nobody.
            self._idle = 0.0
            self._sleep(min(seconds, self._poll))
        else:
            wanted = min(seconds, self._pace.wait(self._clock() - self._woke))
            self._sleep(seconds if self._idle >= _EAGER_S else wanted)
            self._idle += wanted
        self._woke = self._clock()


class LastAnswer:
    """Keeps the time of the last answer as that of a file, at most every two seconds.

    Parameters
    ----------
    path
        The file; empty, made by the first answer.
    clock
        Seconds that only grow.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._noted = path, clock, float("-inf")

    def __call__(self) -> None:
        """Note an answer."""
        now = self._clock()
        if now - self._noted < _NOTED_S:
            return
        self._noted = now
        # A node whose disk is full goes on.
        with suppress(OSError):
            self._path.touch(mode=0o600)
