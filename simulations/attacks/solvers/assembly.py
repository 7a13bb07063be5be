"""Putting blocks together by their seams: a jigsaw whose pieces keep their places in all images of a key.

For one image this is the classical puzzle of square pieces. Under one key the order of blocks is the same in every
image, so the misfit of two blocks is summed over all images, and what is ambiguous in one (two black blocks) is not in
the next.

References
----------
.. [1] Gallagher, "Jigsaw puzzles with pieces of unknown orientation", CVPR 2012: the tree-based assembly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from simulations.attacks.solvers.blocks import Indices, Pixels
from simulations.attacks.solvers.joining import largest_group

Floats = npt.NDArray[np.float64]
Place = tuple[int, int]

_EDGES = 60
"""Edges considered for each block and direction, the best first."""
_RIGHT, _DOWN = (0, 1), (1, 0)
_UNKNOWN = -1


class Misfits(NamedTuple):
    """How badly block b fits right of and below block a: float64 (N, N) each, infinite on the diagonal."""

    right: Floats
    down: Floats


def misfits(blocks: Pixels) -> Misfits:
    """Compare the edges of all pairs of blocks.

    Each edge is carried half a pixel on by its own slope, and the two must meet: the squared gap is summed along the
    seam, over channels and over images.

    Parameters
    ----------
    blocks
        (n, N, C, B, B), blocks of n images in the same order.
    """
    return Misfits(_gaps(blocks), _gaps(blocks.swapaxes(-2, -1)))


def _gaps(blocks: Pixels) -> Floats:
    values = blocks[..., [-1, -2 if blocks.shape[-1] > 1 else -1, 0, 1 if blocks.shape[-1] > 1 else 0]]
    last, before, first, second = np.moveaxis(values.astype(np.float64), -1, 0)
    ends, begins = (
        np.moveaxis(each, 1, 0).reshape(blocks.shape[1], -1)
        for each in (1.5 * last - 0.5 * before, 1.5 * first - 0.5 * second)
    )
    gaps = (ends**2).sum(axis=1)[:, None] + (begins**2).sum(axis=1)[None] - 2 * ends @ begins.T
    np.fill_diagonal(gaps, np.inf)
    made: Floats = np.maximum(gaps, 0)
    return made


def assemble(fits: Misfits, grid: tuple[int, int]) -> Indices:
    """Lay all blocks on a grid.

    Pairs are joined in the order of their certainty (misfit over the best other misfit of either block), as long as no
    place is taken twice and nothing leaves the grid. The largest group is laid down, and the rest goes where it fits
    least badly.

    Returns
    -------
    ndarray
        intp (rows, columns): the block at each place.
    """
    pairs = ((a, b, (a, b, step)) for a, b, step in _by_certainty(fits))
    group = largest_group((0, 0), len(fits.right), pairs, lambda one, other, pair: _joined(one, other, pair, grid))
    layout = np.full(grid, _UNKNOWN, np.intp)
    top, left = (min(place[axis] for place in group.values()) for axis in (0, 1))
    for block, (row, column) in group.items():
        layout[row - top, column - left] = block
    return _filled(layout, fits)


def _joined(
    ours: dict[int, Place], theirs: dict[int, Place], pair: tuple[int, int, Place], grid: tuple[int, int]
) -> dict[int, Place] | None:
    """Both groups in the coordinates of the first, or None where they overlap or leave the grid."""
    a, b, step = pair
    move = [ours[a][axis] + step[axis] - theirs[b][axis] for axis in (0, 1)]
    moved = {block: (row + move[0], column + move[1]) for block, (row, column) in theirs.items()}
    taken = set(ours.values())
    if not taken.isdisjoint(moved.values()):
        return None
    every = [*taken, *moved.values()]
    for axis in (0, 1):
        along = [place[axis] for place in every]
        if max(along) - min(along) >= grid[axis]:
            return None
    return {**ours, **moved}


def _by_certainty(fits: Misfits) -> list[tuple[int, int, Place]]:
    count = len(fits.right)
    found: list[tuple[float, int, int, Place]] = []
    for gaps, step in ((fits.right, _RIGHT), (fits.down, _DOWN)):
        ratios = _ratios(gaps)
        order = np.argsort(ratios, axis=None, kind="stable")[: count * _EDGES]
        for a, b in zip(*np.unravel_index(order, ratios.shape), strict=True):
            if np.isfinite(ratios[a, b]):
                found.append((float(ratios[a, b]), int(a), int(b), step))
    found.sort(key=lambda each: each[0])
    return [(a, b, step) for _, a, b, step in found]


def _ratios(gaps: Floats) -> Floats:
    """Misfit over the best misfit with any other block on either side: small where a pair stands out."""
    if len(gaps) < 3:
        return gaps
    finite = gaps[np.isfinite(gaps)]
    # Two black blocks fit any others without a gap: that is no certainty.
    padded = gaps + 1e-4 * np.median(finite) + 1e-9
    rows = np.partition(padded, 1, axis=1)[:, :2]
    columns = np.partition(padded, 1, axis=0)[:2]
    other_row = np.where(padded == rows[:, :1], rows[:, 1:], rows[:, :1])
    other_column = np.where(padded == columns[:1], columns[1:], columns[:1])
    made: Floats = padded / np.minimum(other_row, other_column)
    return made


def _filled(layout: Indices, fits: Misfits) -> Indices:
    """Put what is left into the holes, first those with most neighbours, by assignment."""
    made = layout.copy()
    while (made == _UNKNOWN).any():
        left = np.setdiff1d(np.arange(made.size), made)
        holes = np.argwhere(made == _UNKNOWN)
        known = np.array([_neighbours(made, hole) for hole in holes.tolist()], dtype=object)
        most = max(len(each) for each in known)
        chosen = [place for place, each in enumerate(known) if len(each) == most][: len(left)]
        cost = np.stack([_misfit_of_all(known[place], fits)[left] for place in chosen])
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            made[tuple(holes[chosen[row]])] = left[column]
    return made


def _neighbours(layout: Indices, hole: list[int]) -> list[tuple[str, int]]:
    row, column = hole
    around = (("right", row, column - 1), ("left", row, column + 1), ("down", row - 1, column), ("up", row + 1, column))
    rows, columns = layout.shape
    return [
        (side, int(layout[r, c]))
        for side, r, c in around
        if 0 <= r < rows and 0 <= c < columns and layout[r, c] != _UNKNOWN
    ]


def _misfit_of_all(neighbours: list[tuple[str, int]], fits: Misfits) -> Floats:
    """How badly each block fits beside some that lie already."""
    total = np.zeros(len(fits.right))
    for side, block in neighbours:
        total += {
            "right": fits.right[block],
            "left": fits.right[:, block],
            "down": fits.down[block],
            "up": fits.down[:, block],
        }[side]
    return np.where(np.isfinite(total), total, np.finfo(np.float64).max / 1e6)
