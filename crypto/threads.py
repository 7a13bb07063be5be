"""A batch of images shared among threads: numpy's gathers and what numba compiled let go of Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any

from medveil.errors import ConfigError
from medveil.values import shown_value

_LEAST = 8
"""Images that are worth a thread; `crypto.woven` takes so many together, and every part but the last is a multiple."""


def on_threads(work: Callable[[slice], None], images: int, *, threads: int) -> None:
    """Do `work` on all rows of a batch, on so many threads at most.

    Parameters
    ----------
    work
        Takes rows, and writes what it makes of them where no other part writes.
    images
        How many rows there are.
    threads
        Below 2: this thread alone.
    """
    given: Any = threads
    if not isinstance(given, Integral):
        raise ConfigError(f"is {shown_value(given)}", where="threads", cure="expected int")
    length = images if threads < 2 else _LEAST * -(-images // (threads * _LEAST))
    if length >= images:
        work(slice(0, images))
        return
    parts = [slice(first, min(first + length, images)) for first in range(0, images, length)]
    with ThreadPoolExecutor(len(parts)) as pool:
        # Asked for, so that an error in a part is raised here.
        list(pool.map(work, parts))
