"""Putting blocks together that are turned, mirrored and negated, each in its own way: a jigsaw of grey pieces.

The order of `assembly`, with unknowns more: whether an edge meets another forwards or backwards, and whether one of the
two is negated. Values are taken about the middle of their range, so that a negation is a change of sign, and all four
ways in which two edges can meet are compared at once. A pair that is joined says where the second block goes, how it
is turned and whether it is negated, all beside the first; a group is therefore moved, turned and negated as one.

References
----------
.. [1] Gallagher, "Jigsaw puzzles with pieces of unknown orientation", CVPR 2012: the tree-based assembly.
.. [2] J. Imaging 12(2):65, 2026: that grey EtC images fall to ciphertexts alone, by an edge measure of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.attacks.solvers.blocks import Indices, Pixels
from simulations.attacks.solvers.joining import largest_group
from simulations.attacks.solvers.symmetries import turned

Floats = npt.NDArray[np.float64]
Place = tuple[int, int]

_EDGES = 60
"""Meetings considered for each block, the most certain first."""
_SIDES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Up, down, left, right: where a side looks, in rows and columns."""
_ALONG = np.array([(0, 1), (0, 1), (1, 0), (1, 0)])
"""In which direction the values of a side are listed."""
_QUARTER = np.array([(0, -1), (1, 0)])
_MIRROR = np.array([(1, 0), (0, -1)])
_TURNS = [np.linalg.matrix_power(_QUARTER, s % 4) @ (_MIRROR if s >= 4 else np.eye(2, dtype=int)) for s in range(8)]
"""What `symmetries.turned` does to directions."""
_NUMBER = {tuple(turn.ravel().tolist()): s for s, turn in enumerate(_TURNS)}
_OPPOSITE = (1, 0, 3, 2)


def _looking(symmetry: int, side: int) -> tuple[int, bool]:
    """The side of a block that looks where a side is, once it is turned, and whether it then runs backwards."""
    turn = _TURNS[symmetry]
    found = next(each for each in range(4) if np.array_equal(turn @ _SIDES[each], _SIDES[side]))
    return found, bool((turn @ _ALONG[found]).sum() < 0)


_EDGE = {(symmetry, side): _looking(symmetry, side) for symmetry in range(8) for side in range(4)}


class Laid(NamedTuple):
    """Blocks on a grid: which, under which symmetry and whether negated, (rows, columns) each."""

    blocks: Indices
    symmetries: Indices
    negated: npt.NDArray[np.bool_]


class Piece(NamedTuple):
    """Where a block of a group lies, and how."""

    place: Place
    symmetry: int
    negated: bool


class Meeting(NamedTuple):
    """Two edges, 4 a + s each, and how they meet."""

    one: int
    other: int
    back: bool
    negated: bool


Group = dict[int, Piece]


def meetings(blocks: Pixels, largest: int) -> Floats:
    """How badly edges meet: float64 (2, 2, 4 N, 4 N), infinite within a block.

    The first axis is whether the second edge runs backwards, the next whether one of the two is negated; edge number
    4 a + s is side s of block a (up, down, left, right).

    Parameters
    ----------
    blocks
        (n, N, C, B, B), blocks of n images in the same order.
    largest
        Of a pixel.
    """
    count = blocks.shape[1]
    values = blocks.astype(np.float64) - largest / 2
    second = 1 if blocks.shape[-1] > 1 else 0
    lines = [
        1.5 * values[..., first, :] - 0.5 * values[..., then, :] for first, then in ((0, second), (-1, -1 - second))
    ]
    lines += [1.5 * values[..., first] - 0.5 * values[..., then] for first, then in ((0, second), (-1, -1 - second))]
    # (n, N, C, B) of each side, to a row of each edge.
    edges = np.stack(lines, axis=2).transpose(1, 2, 0, 3, 4).reshape(4 * count, -1, blocks.shape[-1])
    ahead, back = edges.reshape(4 * count, -1), edges[..., ::-1].reshape(4 * count, -1)
    sizes = (ahead**2).sum(axis=1)
    both = sizes[:, None] + sizes[None]
    own = np.kron(np.eye(count, dtype=bool), np.ones((4, 4), dtype=bool))
    made: Floats = np.stack(
        [np.stack([both - 2 * sign * ahead @ other.T for sign in (1, -1)]) for other in (ahead, back)]
    )
    np.maximum(made, 0.0, out=made)
    made[..., own] = np.inf
    return made


def assemble_turned(fits: Floats, grid: tuple[int, int]) -> Laid:
    """Lay all blocks on a grid, as `assembly.assemble` does those that are upright."""
    pairs = ((each.one // 4, each.other // 4, each) for each in _by_certainty(fits))
    alone = Piece((0, 0), 0, False)
    group = largest_group(alone, fits.shape[-1] // 4, pairs, lambda one, other, pair: _joined(one, other, pair, grid))
    rows, columns = _size(group)
    if rows > grid[0] or columns > grid[1]:
        group = _moved(group, _QUARTER, (0, 0), (0, 0), False)
    top, left = (min(each.place[axis] for each in group.values()) for axis in (0, 1))
    group = {b: Piece((p.place[0] - top, p.place[1] - left), p.symmetry, p.negated) for b, p in group.items()}
    _fill(group, fits, grid)
    laid = Laid(np.zeros(grid, np.intp), np.zeros(grid, np.intp), np.zeros(grid, np.bool_))
    for block, piece in group.items():
        laid.blocks[piece.place], laid.symmetries[piece.place] = block, piece.symmetry
        laid.negated[piece.place] = piece.negated
    return laid


def laid_out(blocks: Pixels, laid: Laid, largest: int) -> Pixels:
    """Blocks (n, N, C, B, B) in the order of a layout, turned and negated as it says."""
    made = np.empty_like(blocks)
    ways = zip(laid.blocks.ravel(), laid.symmetries.ravel(), laid.negated.ravel(), strict=True)
    for place, (block, symmetry, negated) in enumerate(ways):
        piece = turned(blocks[:, block], int(symmetry))
        made[:, place] = largest - piece if negated else piece
    return made


def _joined(ours: Group, theirs: Group, meeting: Meeting, grid: tuple[int, int]) -> Group | None:
    """Both groups in the coordinates of the first, or None where they overlap or leave the grid."""
    (a, side), (b, facing) = divmod(meeting.one, 4), divmod(meeting.other, 4)
    turn = _TURNS[ours[a].symmetry]
    out, along = turn @ _SIDES[side], turn @ _ALONG[side]
    wanted = np.outer(-out, _SIDES[facing]) + np.outer(-along if meeting.back else along, _ALONG[facing])
    move = wanted @ _TURNS[theirs[b].symmetry].T
    place = (ours[a].place[0] + int(out[0]), ours[a].place[1] + int(out[1]))
    flip = ours[a].negated ^ theirs[b].negated ^ meeting.negated
    moved = _moved(theirs, move, theirs[b].place, place, flip)
    taken = {each.place for each in ours.values()}
    if not taken.isdisjoint(each.place for each in moved.values()):
        return None
    joined = {**ours, **moved}
    rows, columns = _size(joined)
    fits = min(rows, columns) <= min(grid) and max(rows, columns) <= max(grid)
    return joined if fits else None


def _moved(group: Group, move: npt.NDArray[np.int_], centre: Place, place: Place, flip: bool) -> Group:
    """A group turned about a place of its own, which goes to another."""
    made: Group = {}
    for block, piece in group.items():
        there = move @ np.subtract(piece.place, centre) + place
        turn = _NUMBER[tuple((move @ _TURNS[piece.symmetry]).astype(int).ravel().tolist())]
        made[block] = Piece((int(there[0]), int(there[1])), turn, piece.negated ^ flip)
    return made


def _size(group: Group) -> tuple[int, int]:
    places = np.array([each.place for each in group.values()])
    rows, columns = np.ptp(places, axis=0) + 1
    return int(rows), int(columns)


def _by_certainty(fits: Floats) -> list[Meeting]:
    """Pairs of edges with how they meet, the most certain first: misfit over the best other misfit of either edge."""
    edges = fits.shape[-1]
    if edges == len(_SIDES):
        return []
    # Two edges of one tone meet in any way: that is no certainty.
    padded = fits + 1e-4 * np.median(fits[np.isfinite(fits)]) + 1e-9
    every = padded.transpose(2, 0, 1, 3).reshape(edges, -1)
    best, second = np.partition(every, 1, axis=1)[:, :2].T
    of_row = np.where(padded == best[:, None], second[:, None], best[:, None])
    of_column = np.where(padded == best, second, best)
    ratios = padded / np.minimum(of_row, of_column)
    ratios[..., np.tril_indices(edges)[0], np.tril_indices(edges)[1]] = np.inf
    most = min(ratios.size - 1, edges * _EDGES)
    chosen = np.argpartition(ratios, most, axis=None)[:most]
    flat = ratios.ravel()[chosen]
    order = chosen[np.argsort(flat, kind="stable")]
    order = order[np.isfinite(ratios.ravel()[order])]
    back, negated, one, other = np.unravel_index(order, ratios.shape)
    ways = zip(one.tolist(), other.tolist(), (back == 1).tolist(), (negated == 1).tolist(), strict=True)
    return [Meeting(*each) for each in ways]


def _fill(group: Group, fits: Floats, grid: tuple[int, int]) -> None:
    """Put what is left into the holes, one by one, the hole with most neighbours first, in the way that fits best."""
    while len(group) < grid[0] * grid[1]:
        taken = {piece.place: block for block, piece in group.items()}
        holes = [(r, c) for r in range(grid[0]) for c in range(grid[1]) if (r, c) not in taken]
        hole = max(holes, key=lambda place: len(_around(place, taken)))
        around = [(side, block, group[block]) for side, block in _around(hole, taken)]
        left = [block for block in range(grid[0] * grid[1]) if block not in group]
        ways = [
            (_misfit(block, Piece(hole, symmetry, negated), around, fits), block, symmetry, negated)
            for block in left
            for symmetry in range(8)
            for negated in (False, True)
        ]
        _, block, symmetry, negated = min(ways)
        group[block] = Piece(hole, symmetry, negated)


def _around(place: Place, taken: dict[Place, int]) -> list[tuple[int, int]]:
    """Sides of a place with the blocks that lie there."""
    beside = [(side, (place[0] + int(step[0]), place[1] + int(step[1]))) for side, step in enumerate(_SIDES)]
    return [(side, taken[there]) for side, there in beside if there in taken]


def _misfit(block: int, piece: Piece, around: list[tuple[int, int, Piece]], fits: Floats) -> float:
    """How badly a block would fit as a piece among others: (side, block, piece) each."""
    total = 0.0
    for side, neighbour, there in around:
        one, ours = _EDGE[piece.symmetry, side]
        other, theirs = _EDGE[there.symmetry, _OPPOSITE[side]]
        negated = int(piece.negated != there.negated)
        total += fits[int(ours != theirs), negated, 4 * block + one, 4 * neighbour + other]
    return float(total)
