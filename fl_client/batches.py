"""Batches in an order that depends on nothing but seed, site and round, and on what `Site.drawing` mixes in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from crypto.base import Reading


class Batches(Protocol):
    """Labelled images a trainer can draw from: a part of the store, or images encrypted on the fly."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(n,) class indices."""

    @property
    def reading(self) -> Reading:
        """How a model reads the pixels; `crypto.base.PLAIN` where nothing hides them."""

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Images (b, C, H, W) of these indices, in the view of this epoch."""


def generator(seed: int, *where: str | int) -> np.random.Generator:
    """A generator for one purpose, the same in every process.

    Parameters
    ----------
    seed
        The run's seed.
    where
        What it is for, for example ``"train", "site-1", round``.
    """
    words = np.frombuffer(hashlib.sha256("/".join(map(str, where)).encode()).digest(), dtype=np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed & 0xFFFFFFFF, *words.tolist()])))


def shuffled(n: int, batch_size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of one epoch in shuffled batches; the last may be smaller."""
    order = rng.permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def in_order(n: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices 0..n-1 in batches."""
    for start in range(0, n, batch_size):
        yield np.arange(start, min(start + batch_size, n))
