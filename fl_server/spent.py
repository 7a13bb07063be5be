"""What a run has spent so far: time on the wall, and processor time of the process that runs it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

_WALL, _CPU, _TRAINING = "seconds", "cpu_seconds", "cpu_training"


class Spent:
    """Time since a run began or went on, beside what it had spent before.

    Parameters
    ----------
    before
        `as_scalars` of the checkpoint it goes on from; what an older one does not tell counts as nothing.
    """

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        self._wall, self._cpu, self._training = time.monotonic(), time.process_time(), 0.0
        self.goes_on(before or {})

    def goes_on(self, before: Mapping[str, Any]) -> None:
        """Count what was spent before a checkpoint as well; what it took to come back to it counts already."""
        self._before = {name: float(before.get(name) or 0.0) for name in (_WALL, _CPU, _TRAINING)}

    @property
    def wall(self) -> float:
        """Seconds on the wall."""
        return self._before[_WALL] + time.monotonic() - self._wall

    @property
    def cpu(self) -> float:
        """Seconds of all of this process's processors."""
        return self._before[_CPU] + time.process_time() - self._cpu

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Count a block's processor time as training."""
        began = time.process_time()
        try:
            yield
        finally:
            self._training += time.process_time() - began

    def as_scalars(self) -> dict[str, float]:
        """As a checkpoint keeps it."""
        return {_WALL: self.wall, _CPU: self.cpu, _TRAINING: self._before[_TRAINING] + self._training}

    def as_summary(self) -> dict[str, float]:
        """Seconds of processor time, of training rounds and of all the run did, as a summary tells them."""
        found = self.as_scalars()
        return {"training": round(found[_TRAINING], 3), "all": round(found[_CPU], 3)}
