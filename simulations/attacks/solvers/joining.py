"""Joining pieces of a jigsaw into groups, pair by pair in the order of their certainty, whatever a piece is.

References
----------
.. [1] Gallagher, "Jigsaw puzzles with pieces of unknown orientation", CVPR 2012: the tree-based assembly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Piece = TypeVar("Piece")
"""Where a block of a group lies, and how."""
Pair = TypeVar("Pair")
"""Two blocks, and how they meet."""


def largest_group(
    alone: Piece,
    count: int,
    pairs: Iterable[tuple[int, int, Pair]],
    joined: Callable[[dict[int, Piece], dict[int, Piece], Pair], dict[int, Piece] | None],
) -> dict[int, Piece]:
    """Join groups until one is left, or no pair.

    Parameters
    ----------
    alone
        How a block lies that is a group by itself.
    count
        Of blocks.
    pairs
        Two blocks, and how they meet, the most certain first.
    joined
        Both groups in the coordinates of the first; None where they cannot be one.
    """
    groups = {each: {each: alone} for each in range(count)}
    group_of = list(range(count))
    for a, b, pair in pairs:
        first, second = group_of[a], group_of[b]
        if first == second:
            continue
        one = joined(groups[first], groups[second], pair)
        if one is None:
            continue
        for block in groups[second]:
            group_of[block] = first
        groups[first] = one
        del groups[second]
        if len(groups) == 1:
            break
    return max(groups.values(), key=len)
