"""How random an image looks: entropy, correlation of neighbours, chi-square, NPCR and UACI. Plain functions of arrays.

The ideals and critical values are those of values drawn independently and uniformly from 0 to F.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[Any]

LEVELS = 256
"""Grey levels of histograms; 16-bit values are counted by their upper byte."""


class Ideal(NamedTuple):
    """What random values give on average, and between which bounds all but `alpha` of them lie."""

    mean: float
    low: float
    high: float


def bytes_of(images: Pixels) -> npt.NDArray[np.uint8]:
    """Values in 8 bits: of 16-bit ones the upper byte."""
    return (images >> 8).astype(np.uint8) if images.dtype == np.uint16 else images.astype(np.uint8)


def histograms(images: Pixels) -> npt.NDArray[np.int64]:
    """Counts of each grey level in each image, over all channels: int64 (n, 256)."""
    rows = bytes_of(images).reshape(len(images), -1)
    return np.stack([np.bincount(row, minlength=LEVELS) for row in rows])


def entropy(images: Pixels) -> Floats:
    """Shannon entropy of each image's histogram in bits, float64 (n,)."""
    shares = histograms(images) / images[0].size
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    made: Floats = -(shares * logs).sum(axis=1)
    return made


def chi_square(images: Pixels) -> Floats:
    """Pearson's chi-square of each image's histogram against a flat one, float64 (n,)."""
    expected = images[0].size / LEVELS
    made: Floats = np.square(histograms(images) - expected).sum(axis=1) / expected
    return made


def neighbour_correlation(images: Pixels, *, down: int, right: int) -> Floats:
    """Pearson correlation of all pairs of pixels of one channel that lie so far apart: float64 (n,).

    NaN for an image without contrast.
    """
    rows, columns = images.shape[2] - down, images.shape[3] - right
    first = images[:, :, :rows, :columns].reshape(len(images), -1).astype(np.float64)
    second = images[:, :, down:, right:].reshape(len(images), -1).astype(np.float64)
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    below = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    made: Floats = np.divide((first * second).sum(axis=1), below, out=np.full(len(below), np.nan), where=below > 0)
    return made


def npcr(first: Pixels, second: Pixels) -> Floats:
    """Number of pixels change rate: values of each pair of images that differ, in per cent, float64 (n,)."""
    made: Floats = 100 * (first != second).reshape(len(first), -1).mean(axis=1)
    return made


def uaci(first: Pixels, second: Pixels, *, largest: int) -> Floats:
    """Unified average changing intensity: mean distance of values as a share of F, in per cent, float64 (n,)."""
    distance = np.abs(first.astype(np.int32) - second.astype(np.int32))
    made: Floats = 100 * distance.reshape(len(first), -1).mean(axis=1) / largest
    return made


def ideal_entropy(size: int) -> float:
    """Expected entropy in bits of the histogram of `size` random bytes, to first order (Miller 1955)."""
    return math.log2(LEVELS) - (LEVELS - 1) / (2 * size * math.log(2))


def ideal_chi_square(alpha: float = 0.05) -> Ideal:
    """Chi-square of random bytes, and its upper critical value: 255 degrees of freedom."""
    return Ideal(LEVELS - 1.0, 0.0, float(stats.chi2.isf(alpha, LEVELS - 1)))


def ideal_npcr(size: int, *, largest: int, alpha: float = 0.05) -> Ideal:
    """NPCR in per cent of two random images of `size` values, one-sided.

    Wu, Noonan, Agaian, "NPCR and UACI randomness tests for image encryption", 2011.
    """
    mean = largest / (largest + 1)
    deviation = math.sqrt(largest / size) / (largest + 1)
    return Ideal(100 * mean, 100 * (mean + float(stats.norm.ppf(alpha)) * deviation), 100.0)


def ideal_uaci(size: int, *, largest: int, alpha: float = 0.05) -> Ideal:
    """UACI in per cent of two random images of `size` values, two-sided; Wu, Noonan, Agaian 2011."""
    top = float(largest)
    mean = (top + 2) / (3 * top + 3)
    variance = (top + 2) * (top**2 + 2 * top + 3) / (18 * (top + 1) ** 2 * top * size)
    reach = float(stats.norm.isf(alpha / 2)) * math.sqrt(variance)
    return Ideal(100 * mean, 100 * (mean - reach), 100 * (mean + reach))


def share_within(values: Floats, ideal: Ideal) -> float:
    """Share of values inside the bounds."""
    return float(((values >= ideal.low) & (values <= ideal.high)).mean())
