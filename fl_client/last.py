"""What a site remembers of the round it last trained, while its process lasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medveil.wire import Tensors

_newest: list[Tensors] = []


def one_copy(incoming: Tensors) -> Tensors:
    """The tensors, or the newest that were given here where those are the same: sites of a process share them."""
    if not (_newest and _same(_newest[0], incoming)):
        _newest[:] = [incoming]
    return _newest[0]


def _same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@dataclass(frozen=True)
class Last:
    """One round.

    Attributes
    ----------
    round : int
        Its number.
    incoming : Tensors
        What came.
    norm : float
        L2 norm of what training changed.
    """

    round: int
    incoming: Tensors
    norm: float
