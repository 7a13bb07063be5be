"""A batch of images shared among threads: numpy's gathers, numba's and OpenSSL's streams let go of Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from crypto.geometry import Pixels

_LEAST = 8
"""Images that are worth a thread; `crypto.woven` takes so many together, and every part but the last is a multiple."""
Nonces = npt.NDArray[np.uint8]
Work = Callable[[Pixels, Nonces | None], Pixels]


def on_threads(work: Work, batch: Pixels, nonces: Nonces | None, *, threads: int) -> Pixels:
    """Do `work` on a batch, on so many threads at most.

    Parameters
    ----------
    work
        Takes images and their nonces, and gives as many; of a part of the batch the same as of all of it.
    batch
        (N, C, H, W).
    nonces
        uint8 (N, 16), or None where images need none.
    threads
        Below 2: this thread alone.

    Returns
    -------
    ndarray
        What `work` gives of all images, in their order.
    """
    length = len(batch) if threads < 2 else _LEAST * -(-len(batch) // (threads * _LEAST))
    if length >= len(batch):
        return work(batch, nonces)
    parts = [slice(first, first + length) for first in range(0, len(batch), length)]
    with ThreadPoolExecutor(len(parts)) as pool:
        return np.concatenate(
            list(pool.map(lambda part: work(batch[part], None if nonces is None else nonces[part]), parts))
        )
