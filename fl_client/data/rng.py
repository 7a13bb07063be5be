"""Random numbers that are the same on every machine: PCG64, seeded by a seed and the purpose of the draw."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Make a generator for one purpose.

    Parameters
    ----------
    seed
        The run's seed, not negative.
    purpose
        What is drawn and for which object, for example ``"augment", "a/b.png", 3``. Strings enter by SHA-256, since
        Python's own ``hash`` differs between processes.
    """
    words = [seed, *(each if isinstance(each, int) else _stable_hash(each) for each in purpose)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "little")
