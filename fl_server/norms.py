"""The L2 norms of a round's updates, and what they say of each other: which are far larger, and which are scaled down.

The median of three or more is the measure of both: sites in the minority cannot move it far.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Message

from medveil.errors import FederationError
from medveil.wire import Tensors, delta

FEWEST_FOR_A_MEDIAN = 3
"""Of two it could be either that is not as it should be."""


@dataclass(frozen=True)
class Update:
    """A site's update that a model can be made of.

    Attributes
    ----------
    site : str
        Whose it is.
    message : Message
        The reply it came in.
    tensors : Tensors
        The site's weights, fp32.
    norm : float
        L2 norm of what training changed.
    """

    site: str
    message: Message
    tensors: Tensors
    norm: float


def larger_than_most(updates: Sequence[Update], most: float) -> dict[str, str]:
    """Sites whose update is above `most` times the median norm, each with the reason."""
    limit = limit_of(updates, most)
    of = f"{most:g} times the round's median ({limit:.3g}; server.max_norm)"
    return {
        update.site: f"the update's norm is {update.norm:.3g}, above {of}" for update in updates if update.norm > limit
    }


def scaled_down(update: Update, base: Tensors, limit: float) -> Update:
    """An update no longer than a limit: what training changed, scaled down to it where it is longer."""
    if update.norm <= limit:
        return update
    share = np.float32(limit / update.norm)
    change = delta(update.tensors, base)
    return replace(update, tensors={name: base[name] + share * change[name] for name in change}, norm=limit)


def limit_of(updates: Sequence[Update], most: float) -> float:
    """What `most` times the median norm is; infinite where most sent no change at all."""
    median = statistics.median(update.norm for update in updates)
    return most * median if median else math.inf


def norm_over(tensors: Tensors) -> float:
    """The L2 norm over all tensors; not finite where a value is not, or where a square is too large for fp32."""
    flat = (array.reshape(-1) for array in tensors.values())
    with np.errstate(over="ignore"):
        return math.sqrt(sum(float(np.dot(each, each)) for each in flat))


def refuse_not_finite(change: Tensors) -> None:
    """Refuse an update with a value that is not finite (FederationError), naming the first tensor that has one."""
    bad = [name for name, array in change.items() if not np.isfinite(array).all()]
    if bad:
        raise FederationError(f"{len(bad)} tensors are not finite, '{bad[0]}' first")
