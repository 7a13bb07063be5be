"""A site's own bound on how far its update goes, which no run decides."""

from __future__ import annotations

import numpy as np

from medveil.log import logger
from medveil.secagg.fixed import clipped
from medveil.wire import Tensors, add_delta, delta, encode, pack, unpack

_log = logger("site")


def within(clip: float | None, incoming: Tensors, outgoing: Tensors, *, site: str, round_: int) -> Tensors:
    """The tensors after training, moved back towards those before where they went further than a site allows.

    Parameters
    ----------
    clip
        Largest L2 norm of the change; None: any.
    incoming, outgoing
        The travelling tensors before and after training, fp32.
    site, round_
        For the log.

    Raises
    ------
    FederationError
        The change is not finite.
    """
    if clip is None:
        return outgoing
    change = delta(outgoing, incoming)
    flat = pack(encode(change, "fp32")).astype(np.float32, copy=False)
    short, had_to = clipped(flat, clip)
    if not had_to:
        return outgoing
    _log.warning("%s: round %d: its update was scaled down to limits.clip, %g", site, round_, clip)
    shortened = unpack(short, {name: each.shape for name, each in change.items()})
    return add_delta(incoming, {name: array.astype(np.float32) for name, array in shortened.items()})
