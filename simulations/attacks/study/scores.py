"""How near an attack came: to an image, to a permutation, to a layout of blocks. Plain functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from skimage.metrics import structural_similarity

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Pixels = npt.NDArray[Any]

SMALLEST = 11
"""Shortest side in pixels that the window of `ssim` fits."""
_PIXELS_AT_ONCE = 2**18
CEILING_DB = 100.0
"""What `psnr` gives for equal images, where it is infinite."""


def ssim(guess: Pixels, truth: Pixels, *, largest: int = 255) -> Floats:
    """Structural similarity of each image, mean over channels: float64 (n,).

    Gaussian window of sigma 1.5 and population covariance, as Wang et al. 2004 (doi:10.1109/TIP.2003.819861) have it;
    computed by scikit-image in single precision, many images at once: they lie below each other, and no window that
    counts reaches from one into the next.

    Parameters
    ----------
    guess, truth
        (n, C, H, W), sides of at least `SMALLEST` pixels.
    largest
        The largest value a pixel can have.
    """
    if min(truth.shape[2:]) < SMALLEST or guess.shape != truth.shape:
        raise ValueError(
            f"images {guess.shape} and {truth.shape} are not alike, with sides of {SMALLEST} pixels or more"
        )
    at_once = max(1, _PIXELS_AT_ONCE // max(1, truth[:1].size))
    made = [_ssim(guess[at : at + at_once], truth[at : at + at_once], largest) for at in range(0, len(truth), at_once)]
    return np.concatenate([np.empty(0), *made])


def _ssim(guess: Pixels, truth: Pixels, largest: int) -> Floats:
    below = (-1, truth.shape[3])
    _, local = structural_similarity(
        guess.reshape(below).astype(np.float32),
        truth.reshape(below).astype(np.float32),
        data_range=largest,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    edge = SMALLEST // 2
    inside = local.reshape(truth.shape)[:, :, edge:-edge, edge:-edge]
    made: Floats = inside.mean(axis=(1, 2, 3), dtype=np.float64)
    return made


def psnr(guess: Pixels, truth: Pixels, *, largest: int = 255) -> Floats:
    """Peak signal-to-noise ratio of each image in dB, at most `CEILING_DB`: float64 (n,)."""
    difference = guess.astype(np.float64) - truth
    squared = np.square(difference).reshape(len(guess), -1).mean(axis=1)
    floor = largest**2 / 10 ** (CEILING_DB / 10)
    made: Floats = 10 * np.log10(largest**2 / np.maximum(squared, floor))
    return made


def edge_correlation(guess: Pixels, truth: Pixels) -> Floats:
    """Pearson correlation of Sobel magnitudes of the mean channel, of each image: float64 (n,).

    It is the same for an image and its negative, and hardly minds a change of tone: it asks whether outlines show. An
    image without any edge correlates with nothing: 0.
    """
    first, second = _centred(_edges(guess)), _centred(_edges(truth))
    above = (first * second).sum(axis=1)
    below = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    made: Floats = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    return made


def _edges(images: Pixels) -> Floats:
    grey = images.mean(axis=1, dtype=np.float64)
    magnitude: Floats = np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2))
    return magnitude.reshape(len(images), -1)


def _centred(rows: Floats) -> Floats:
    made: Floats = rows - rows.mean(axis=1, keepdims=True)
    return made


def share_right(found: Indices, true: Indices) -> float:
    """Share of places of a permutation that are right; an unknown one (-1) is not."""
    return float(np.mean(np.asarray(found) == np.asarray(true)))


def share_right_up_to(found: Indices, true: Indices, classes: Indices) -> float:
    """Share of places that are right or hold something equal: `classes` numbers things by content."""
    known = np.asarray(found) >= 0
    return float(np.mean(known & (classes[found] == classes[true])))


def random_guess(classes: Indices) -> float:
    """Expected `share_right_up_to` of a uniformly random permutation: the sum of squared class shares."""
    shares = np.bincount(classes) / len(classes)
    return float((shares**2).sum())


def neighbour_accuracy(layout: Indices) -> float:
    """Share of neighbouring places whose contents are neighbours in the true image, in the same direction.

    Parameters
    ----------
    layout
        intp (rows, columns): the true place (row-major) of what was put at each place.
    """
    right, down = _true_neighbours(layout)
    return float(np.concatenate([right.ravel(), down.ravel()]).mean()) if right.size + down.size else 1.0


def largest_component(layout: Indices) -> float:
    """Size of the largest group of blocks joined by right neighbourhoods, as a share of all blocks."""
    places = np.arange(layout.size).reshape(layout.shape)
    right, down = _true_neighbours(layout)
    first = np.concatenate([places[:, :-1][right], places[:-1][down]])
    second = np.concatenate([places[:, 1:][right], places[1:][down]])
    graph = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(layout.size, layout.size))
    label = connected_components(graph, directed=False)[1]
    return float(np.bincount(label).max() / layout.size)


def _true_neighbours(layout: Indices) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    row, column = np.divmod(layout, layout.shape[1])
    right = (row[:, :-1] == row[:, 1:]) & (column[:, :-1] + 1 == column[:, 1:])
    down = (row[:-1] + 1 == row[1:]) & (column[:-1] == column[1:])
    return right, down
