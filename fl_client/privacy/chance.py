"""What is drawn for private training: which units are in a step, and the noise that hides them.

Both must be unknown to everybody else, noise above all: whoever can tell it takes it off. At a real site they come
from 32 bytes of the operating system, drawn anew for every round that is trained, also for one that is repeated, and
stretched by ChaCha20. Torch's generator, which noise is mostly drawn from, gives its state away. A simulation's follow
from its seed, and hide nothing from who knows that.

A normal value is the sum of four, halved: its digits tell little of what it was added to, which those of a single one
can (Mironov, CCS 2012). The remedy is Holohan and Braghin's (arXiv 2107.10138), as opacus has it. Sums are made in
double precision and rounded once. That makes such attacks hard; for numbers of finite length it is no proof.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crypto.derivation import KeyStream, encode_fields, hkdf, uniforms

SEED_BYTES = 32
_SUMMED = 4
_AT_ONCE = 2**20
"""Normal values drawn at once, so that memory stays flat."""


class Chance:
    """One round's.

    Parameters
    ----------
    seed
        32 bytes that nobody else knows.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed of {len(seed)} bytes")
        self._seed = seed

    def taken(self, step: int, units: int, rate: float) -> npt.NDArray[np.int64]:
        """Which of so many units are in a step, each with the chance `rate` and whatever the others are (Poisson)."""
        found = np.flatnonzero(uniforms(self._stream("units", step), units) < rate)
        return found.astype(np.int64)

    def normals(self, step: int, what: str, count: int) -> npt.NDArray[np.float64]:
        """Standard normal values for one tensor in a step: float64 (count,)."""
        from scipy.special import ndtri  # noqa: PLC0415

        stream, made = self._stream(f"noise/{what}", step), np.zeros(count)
        for start in range(0, count, _AT_ONCE):
            part = made[start : start + _AT_ONCE]
            for _ in range(_SUMMED):
                part += ndtri(uniforms(stream, len(part)))
        made /= np.sqrt(_SUMMED)
        return made

    def _stream(self, what: str, step: int) -> KeyStream:
        # A stream each: one of ChaCha20 ends after 256 GB, which a large model's noise is in some hundred steps.
        return KeyStream(hkdf(self._seed, encode_fields(["medveil", "1", "private step", str(step), what])))
