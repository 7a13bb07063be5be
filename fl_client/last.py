"""What a site remembers of the round it last trained, while its process lasts."""

from __future__ import annotations

from dataclasses import dataclass

from medveil.wire import Tensors


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
