"""How often to look for work: soon while whoever is asked answers at once, later while they are busy."""

from __future__ import annotations

from collections import deque

_SHARE = 10
"""A look may take one part in so many of the time: then many who look leave time for the work itself."""
_REMEMBERED = 3


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
