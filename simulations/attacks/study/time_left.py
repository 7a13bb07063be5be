"""How long several attacks still take, by how long those done took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from simulations.attacks.study.attack import Attack

LONGEST = len("less than a minute left")
"""Letters of `TimeLeft.about` at most."""


class TimeLeft:
    """Time left over all attacks of a command.

    Each key of an attack counts by the attack's weight, and what is done sets the pace. An attack that did not apply
    or failed leaves the account, its time with it.

    Parameters
    ----------
    attacks
        What is to be measured, in this order.
    keys
        Keys of each.
    clock
        Seconds, for tests.
    """

    def __init__(self, attacks: Iterable[Attack], *, keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = {each.name: each.weight * keys for each in attacks}
        self._attacks = len(self._left)
        self._clock = clock
        self._began = self._last = clock()
        self._done = self._seconds = 0.0

    def key_done(self, attack: Attack) -> None:
        """One key of an attack was measured."""
        now = self._clock()
        self._seconds += now - self._last
        self._last = now
        self._done += attack.weight
        self._left[attack.name] = max(0.0, self._left[attack.name] - attack.weight)

    def ended(self, attack: Attack) -> None:
        """An attack ended, whether it was measured or not."""
        self._left.pop(attack.name, None)
        self._last = self._clock()

    @property
    def seconds(self) -> float | None:
        """Seconds left; None before anything is measured."""
        if not self._done:
            return None
        running = self._clock() - self._last
        return max(0.0, sum(self._left.values()) * self._seconds / self._done - running)

    @property
    def text(self) -> str:
        """``3 of 14 attacks done, about 2 min left``."""
        done = self._attacks - len(self._left)
        head = f"{done} of {self._attacks} attacks done"
        return head if not self._left else f"{head}, {self.about}"

    @property
    def about(self) -> str:
        """The time alone: ``about 2 min left``; it is an estimate and says so."""
        seconds = self.seconds
        if seconds is None:
            return "time left not known yet"
        if seconds < 60:
            return "less than a minute left"
        minutes = round(seconds / 60)
        return f"about {minutes} min left" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min left"
