"""The moving average of weights over the steps of a round: what a site keeps, sends and measures.

An average over the last steps of noisy training is a better model than the last step (Polyak and Juditsky, 1992). In a
federation it is made anew each round: a round begins from the mean of what sites sent, and ends with the average of its
own steps, so that nothing else has to travel, and the mean over sites stays the exact mean of what they measured. The
average is linear in the weights: in a key's domain it is the plain one, moved, and a stem's stays with its stem.

In the first steps it forgets faster, 1 - decay_t = max(1 - decay, 9 / (10 + t)) at step t = 0, 1, ...: a short round
would otherwise end near where it began.

A step is that of torch's `swa_utils.get_ema_multi_avg_fn` for the decay of that step. Its `AveragedModel` is not used:
it has one decay for all steps, and holds a copy of the whole module, frozen parts too, which costs a site memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_HASTE = 9.0
_SPAN = 10.0


class WeightAverage:
    """The average of some parameters over the steps told to it.

    Parameters
    ----------
    parameters
        Those that train.
    decay
        Share of the average that a step leaves, in the long run; 0 keeps none, and `settle` changes nothing.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._parameters, self._decay, self._steps = list(parameters), decay, 0
        self._average: list[Tensor] = [p.detach().clone() for p in self._parameters] if decay > 0 else []

    def add(self) -> None:
        """Take in the weights as a step left them."""
        if not self._average:
            return
        now = [parameter.detach() for parameter in self._parameters]
        torch._foreach_lerp_(self._average, now, newest_share(self._steps, self._decay))
        self._steps += 1

    def settle(self) -> None:
        """Put the average in the place of the weights."""
        with torch.no_grad():
            for parameter, average in zip(self._parameters, self._average, strict=False):
                parameter.copy_(average)


def newest_share(step: int, decay: float) -> float:
    """Share of the newest weights in the average after `step` (from 0)."""
    return max(1.0 - decay, _HASTE / (_SPAN + step))
