"""How far a round is in the whole run: by steps, or by the clock.

By steps everything follows from the plan. By the clock a round ends when its share of the run's minutes is spent, and
rate and schedule follow what is spent: of two machines the faster one sees more images, and no run is made again
exactly, resumed or not.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator

import torch

from fl_client.config import TrainConfig

MOST_EPOCHS = 10_000
"""Epochs of a round by the clock: the views of an image are numbered by them."""
_MILLISECONDS = 60_000


class Course:
    """Where training stands, in steps or milliseconds of the whole run.

    Parameters
    ----------
    config
        How the run trains.
    round_, rounds
        The round, from 1, and how many there are.
    steps
        Steps an epoch.
    clock
        Seconds spent; None: the process's own on a CPU, whoever else computes there, and the wall's on a GPU.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        round_: int,
        rounds: int,
        steps: int,
        device: torch.device,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or (time.process_time if device.type == "cpu" else time.monotonic)
        self._timed, self._before = config.minutes > 0, round_ - 1
        self._epochs = MOST_EPOCHS if self._timed else config.epochs
        share = config.minutes * _MILLISECONDS / rounds
        self._length = max(1, math.ceil(share)) if self._timed else config.epochs * steps
        self._steps, self._started = 0, self._clock()
        self.total = rounds * self._length

    @property
    def done(self) -> int:
        """Of `total`, what is done."""
        return self._before * self._length + min(self._spent(), self._length)

    @property
    def over(self) -> bool:
        """Whether the round has had its share; never before its first step."""
        return self._steps > 0 and self._spent() >= self._length

    def step(self) -> None:
        """One more step was taken."""
        self._steps += 1

    def epochs(self) -> Iterator[int]:
        """Numbers of the round's epochs in the whole run, while it lasts."""
        first = self._before * self._epochs
        for epoch in itertools.islice(itertools.count(first), self._epochs):
            if self.over:
                return
            yield epoch

    def _spent(self) -> int:
        return int((self._clock() - self._started) * 1000) if self._timed else self._steps
