"""One scale for all images of an npz file: what its numbers mean is asked of the whole file, never of one image.

Stretched each by its own percentiles, two images that differ in brightness alone become one: where the classes differ
in brightness, nothing is left to learn (an AUROC of 1.0 became 0.41).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.imaging.preprocess import PERCENTILES
from medveil.errors import DataError

Values = npt.NDArray[Any]

_MOST_SAMPLED = 2**22
"""Values that percentiles are taken of; the error that leaves is far below one step of 255."""
_CHUNK = 2**22
_USUAL = ((0.0, 1.0, 0.1), (-1.0, 1.0, 0.1), (0.0, 255.0, 0.5))
"""Ranges of fractions made of 8-bit images, and the part of each that values must fill to be taken for it: fractions
of 0 to 30 are a measure of something (an uptake), not the dark images of 0 to 255."""
_SLACK = 1e-4
_DARK = 32


class Scale(NamedTuple):
    """Which values become black and white, and how they were found.

    Parameters
    ----------
    low, high
        Become 0 and 255, linearly; what is beyond is clamped.
    said
        For the data card.
    warning
        What a person should look at; empty for nothing.
    """

    low: float
    high: float
    said: str
    warning: str = ""


class _Range(NamedTuple):
    low: float
    high: float
    whole: bool
    """Whether all values are whole numbers."""


def scale_of(arrays: Sequence[Values]) -> Scale | None:
    """The scale of the images of a file; None where they are of 8 bit already.

    Values of 0 to 255, 0 to 1, -1 to 1 and those of int8 are taken for the 8-bit images they were made of. Anything
    else is scaled by the percentiles 0.5 and 99.5 of the file, which another site's file does not share.

    Parameters
    ----------
    arrays
        (n, H, W) or (n, H, W, C) of numbers, together the file's images; values that are not finite are left out.

    Raises
    ------
    DataError
        Some are whole numbers by their type and others not: they cannot share a scale.
    """
    if all(each.dtype == np.uint8 for each in arrays):
        return None
    floating = {each.dtype.kind == "f" for each in arrays}
    if len(floating) > 1:
        raise DataError("holds images of whole numbers and of fractions", cure="give all of them one type")
    found = _range_of(arrays)
    usual = _usual(found, floating=floating.pop(), signed_bytes=all(each.dtype == np.int8 for each in arrays))
    return _own(arrays, found) if usual is None else _as_usual(usual, found)


def _usual(found: _Range, *, floating: bool, signed_bytes: bool) -> tuple[float, float] | None:
    """The range that the values of 8-bit images would be stored in, or None where these are others."""
    low, high = found.low, found.high
    if low >= 0 and high <= 255 and found.whole and not (floating and high <= 1):
        return 0.0, 255.0
    if signed_bytes:
        return -128.0, 127.0
    for darkest, brightest, filled in _USUAL if floating else ():
        inside = low >= darkest - _SLACK and high <= brightest + _SLACK
        if inside and high - low >= filled * (brightest - darkest):
            return darkest, brightest
    return None


def _as_usual(usual: tuple[float, float], found: _Range) -> Scale:
    low, high = usual
    said = f"one scale for all images: {low:g} to {high:g} become 0 to 255"
    dark = (found.high - low) / (high - low) * 255 < _DARK
    warning = f"the largest value of all images is {found.high:g}, where {high:g} is white: they are nearly black"
    return Scale(low, high, said, f"{warning}; set data.window" if dark else "")


def _own(arrays: Sequence[Values], found: _Range) -> Scale:
    low, high = (float(value) for value in np.percentile(_sample(arrays), PERCENTILES))
    which = "percentiles 0.5 and 99.5 of all values"
    if not high > low:
        low, high, which = found.low, found.high, "the smallest and the largest of all values"
    said = f"one scale for all images: {low:.6g} to {high:.6g} ({which} of this file) become 0 to 255"
    return Scale(low, high, said, f"{said}; for one scale at all sites, set data.window to the same at each")


def _range_of(arrays: Sequence[Values]) -> _Range:
    low, high, whole = math.inf, -math.inf, True
    for chunk in (each for array in arrays for each in _chunks(array)):
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
        whole = whole and (chunk.dtype.kind != "f" or bool(np.array_equal(chunk, np.rint(chunk))))
    return _Range(low, high, whole) if low <= high else _Range(0.0, 0.0, whole)


def _chunks(array: Values) -> Iterator[Values]:
    """The finite values of an array, a few images at a time."""
    step = max(1, _CHUNK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        chunk = array[start : start + step]
        kept = chunk[np.isfinite(chunk)] if chunk.dtype.kind == "f" else chunk
        if kept.size:
            yield kept


def _sample(arrays: Sequence[Values]) -> npt.NDArray[np.float64]:
    total = sum(array.size for array in arrays)
    row = math.prod(arrays[0].shape[2:])
    step = -(-total // _MOST_SAMPLED)
    # A step that shares a divisor with the width would see some columns of the images alone.
    while math.gcd(step, row) > 1:
        step += 1
    values = np.concatenate([array.reshape(-1)[::step] for array in arrays]).astype(np.float64)
    finite: npt.NDArray[np.float64] = values[np.isfinite(values)]
    return finite if finite.size else np.zeros(1)
