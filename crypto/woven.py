"""A gather of bytes eight images at a time, in one compiled pass (numba, the extra ``medveil[fast]``).

A pixel of each of eight images is woven into one word of 64 bits, words are gathered, and unwoven as they are written:
one read and one write move eight pixels. Weaving is an 8x8 transposition of bytes in registers (Warren, "Hacker's
Delight", 2nd ed., 7-3). `crypto.signed_permutation` is the reference, and does all that does not fit.

Compiled anew by each process: a cache of machine code would be a pickle, and nothing here is unpickled.
"""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
TOGETHER = 8
"""Images woven into a word, and pixels of one image in it."""

# Numba's own types take what it compiles for an array's function.
_compile: Any = numba.njit(nogil=True)
_BYTES, _PAIRS, _HALVES = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF), np.uint64(0x00000000FFFFFFFF)
_8, _16, _32 = np.uint64(8), np.uint64(16), np.uint64(32)


def _swapped(a: np.uint64, b: np.uint64, mask: np.uint64, by: np.uint64) -> tuple[np.uint64, np.uint64]:
    moved = ((a >> by) ^ b) & mask
    return a ^ (moved << by), b ^ moved


_swap: Any = _compile(_swapped)


def _transposed(  # noqa: PLR0917 - one for each image
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, e: np.uint64, f: np.uint64, g: np.uint64, h: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    a, b = _swap(a, b, _BYTES, _8)
    c, d = _swap(c, d, _BYTES, _8)
    e, f = _swap(e, f, _BYTES, _8)
    g, h = _swap(g, h, _BYTES, _8)
    a, c = _swap(a, c, _PAIRS, _16)
    b, d = _swap(b, d, _PAIRS, _16)
    e, g = _swap(e, g, _PAIRS, _16)
    f, h = _swap(f, h, _PAIRS, _16)
    a, e = _swap(a, e, _HALVES, _32)
    b, f = _swap(b, f, _HALVES, _32)
    c, g = _swap(c, g, _HALVES, _32)
    d, h = _swap(d, h, _HALVES, _32)
    return a, b, c, d, e, f, g, h


_transpose: Any = _compile(_transposed)


def _gathered(images: Words, source: npt.NDArray[np.uint32], flips: Words, out: Words, woven: Words) -> None:
    for row in range(0, len(images), 8):
        i = images[row : row + 8]
        for at in range(images.shape[1]):
            w = _transpose(i[0, at], i[1, at], i[2, at], i[3, at], i[4, at], i[5, at], i[6, at], i[7, at])
            p = 8 * at
            woven[p], woven[p + 1], woven[p + 2], woven[p + 3] = w[0], w[1], w[2], w[3]
            woven[p + 4], woven[p + 5], woven[p + 6], woven[p + 7] = w[4], w[5], w[6], w[7]
        o = out[row : row + 8]
        for at in range(out.shape[1]):
            s = source[8 * at : 8 * at + 8]
            w = _transpose(
                woven[s[0]], woven[s[1]], woven[s[2]], woven[s[3]], woven[s[4]], woven[s[5]], woven[s[6]], woven[s[7]]
            )
            x = flips[at]
            o[0, at], o[1, at], o[2, at], o[3, at] = w[0] ^ x, w[1] ^ x, w[2] ^ x, w[3] ^ x
            o[4, at], o[5, at], o[6, at], o[7, at] = w[4] ^ x, w[5] ^ x, w[6] ^ x, w[7] ^ x


_gather: Any = _compile(_gathered)


def gather_woven(
    images: npt.NDArray[np.uint8],
    source: npt.NDArray[np.uint32],
    flips: npt.NDArray[np.uint8] | None,
    *,
    out: npt.NDArray[np.uint8],
) -> None:
    """``out[n, k] = images[n, source[k]] ^ flips[k]``.

    Parameters
    ----------
    images, out
        uint8 (n, P) and (n, Q) in C order; n, P and Q multiples of 8, P below 2**32.
    source
        uint32 (Q,), each below P.
    flips
        uint8 (Q,); None flips nothing.
    """
    masks = np.zeros(len(source), np.uint8) if flips is None else np.ascontiguousarray(flips)
    words = np.ascontiguousarray(images).view(np.uint64)
    _gather(words, source, masks.view(np.uint64), out.view(np.uint64), _scratch(images.shape[1]))


def _scratch(length: int) -> Words:
    """Memory for woven images, this thread's own: fresh pages would cost as much as weaving."""
    found: Words | None = getattr(_held, "words", None)
    if found is None or len(found) < length:
        found = _held.words = np.empty(length, np.uint64)
    return found[:length]


_held = threading.local()
