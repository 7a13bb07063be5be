"""Seconds by stage."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

Value = TypeVar("Value")


class Clock:
    """Adds up what the stages of hiding or showing one file take, in wall-clock seconds.

    A stage inside another counts for itself alone, so that the stages of a file never exceed its time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block for a stage."""
        before, self._inner = self._inner, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.seconds[name] += took - self._inner
            self._inner = before + took

    def each(self, name: str, values: Iterable[Value]) -> Iterator[Value]:
        """Pass values on, and count the making of each for a stage."""
        waiting = iter(values)
        while True:
            with self.stage(name):
                try:
                    value = next(waiting)
                except StopIteration:
                    return
            yield value
