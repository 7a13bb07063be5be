"""From known pairs to a block-pixel key: blocks by their multisets, positions by their columns, flips by their signs.

What a permutation of blocks and of positions inside blocks cannot change is matched first: the multiset of each block
(of ``|2v - maxval|`` where values may be negated). Blocks whose multiset is unique are certain, and as rows they give
each position of a block a column of values; a column is found again up to its negative. The rest of the blocks follow
from their content, read through the positions. What is equal in the pairs cannot be told apart, and is paired at
random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from crypto.base import StemPermutation
from simulations.attacks.solvers.blocks import Flags, Indices, Pixels, folded, row_classes

UNKNOWN = -1
_ROUNDS = 4
_COMPARED = 2048
"""Values of a row compared at most where nothing matches exactly and distances decide."""


class Columns(NamedTuple):
    """How the positions of hidden blocks follow from those of plain ones."""

    rho: Indices
    mask: Flags


def recover_key(
    plain: Pixels, hidden: Pixels, *, largest: int, negate: bool, rng: np.random.Generator
) -> StemPermutation:
    """Recover block order, in-block order and flips from pairs.

    Parameters
    ----------
    plain, hidden
        (m, N, L): the blocks of m images, plain and hidden, with ``hidden[:, j, i] = f_i(plain[:, pi[j], rho[i]])``.
        Where they do not have this form the best assignment is returned, which then means little.
    largest
        The largest value a pixel can have, odd.
    negate
        Whether the scheme negates values.
    rng
        Decides between equals, so that no order of the data is mistaken for a finding.
    """
    pi = unique_matches(*_multisets(plain, hidden, largest=largest, negate=negate))
    if (pi == UNKNOWN).all():
        pi = _nearest(*_sorted_values(plain, hidden, largest=largest, negate=negate), rng=rng)
    columns = _columns_of(plain, hidden, pi, largest=largest, negate=negate, rng=rng)
    for _ in range(_ROUNDS):
        content = _read(hidden, columns, largest=largest)
        grown = _grown(pi, unique_matches(*row_classes(_rows(plain), _rows(content))))
        if np.array_equal(grown, pi):
            break
        pi = grown
        columns = _columns_of(plain, hidden, pi, largest=largest, negate=negate, rng=rng)
    content = _read(hidden, columns, largest=largest)
    order = _rest(pi, _rows(plain), _rows(content), rng=rng)
    return StemPermutation(columns.rho.astype(np.int64), order.astype(np.int64), columns.mask)


def match_blocks(plain: Pixels, hidden: Pixels, *, largest: int, negate: bool, rng: np.random.Generator) -> Indices:
    """The plain block behind each hidden one, (m, N, L) each, by multisets alone; equals at random, then the nearest.

    For schemes whose blocks are each arranged in their own way, so that content says no more.
    """
    first, second = _sorted_values(plain, hidden, largest=largest, negate=negate)
    return _rest(unique_matches(*row_classes(first, second)), first, second, rng=rng)


def match_columns(plain: Pixels, hidden: Pixels, *, largest: int, negate: bool, rng: np.random.Generator) -> Columns:
    """Match the positions of blocks that correspond, (m, U, L) each.

    A column and its negative share a canonical form, the one whose first value is in the upper half; since `largest` is
    odd no value is its own negative, and a position is flipped where one of the two had to be turned and the other not.
    """
    before, after = _values_by_position(plain), _values_by_position(hidden)
    low = np.zeros((2, len(before)), np.bool_)
    if negate:
        low = np.stack([before[:, 0] <= largest // 2, after[:, 0] <= largest // 2])
    first = np.where(low[0][:, None], largest - before, before)
    second = np.where(low[1][:, None], largest - after, after)
    rho = pair_equals(*row_classes(first, second), rng=rng)
    found = rho != UNKNOWN
    mask = np.zeros(len(rho), np.bool_)
    mask[found] = low[0][rho[found]] != low[1][found]
    if not found.all():
        free = np.setdiff1d(np.arange(len(rho)), rho)
        rest = _nearest_columns(before[free], after[~found], largest=largest, negate=negate, rng=rng)
        rho[~found], mask[~found] = free[rest.rho], rest.mask
    return Columns(rho, mask)


def unique_matches(plain: Indices, hidden: Indices) -> Indices:
    """For each hidden thing the plain one of its class, where the class has one of each; else `UNKNOWN`."""
    size = int(max(plain.max(), hidden.max())) + 1
    single = (np.bincount(plain, minlength=size) == 1) & (np.bincount(hidden, minlength=size) == 1)
    place = np.full(size, UNKNOWN, np.intp)
    place[plain] = np.arange(len(plain))
    return np.where(single[hidden], place[hidden], UNKNOWN)


def pair_equals(plain: Indices, hidden: Indices, *, rng: np.random.Generator) -> Indices:
    """Pair hidden things with plain ones of their class, at random within a class; `UNKNOWN` where a class runs out."""
    made = np.full(len(hidden), UNKNOWN, np.intp)
    ours, theirs = _shuffled_by_class(plain, rng), _shuffled_by_class(hidden, rng)
    # The k-th of a class meets the k-th of the same class.
    ranks, wanted = _with_rank(plain[ours]), _with_rank(hidden[theirs])
    where = dict(zip(ranks, ours.tolist(), strict=True))
    made[theirs] = [where.get(pair, UNKNOWN) for pair in wanted]
    return made


def _shuffled_by_class(classes: Indices, rng: np.random.Generator) -> Indices:
    order = rng.permutation(len(classes))
    return order[np.argsort(classes[order], kind="stable")]


def _with_rank(ordered: Indices) -> list[tuple[int, int]]:
    starts = np.searchsorted(ordered, ordered)
    return list(zip(ordered.tolist(), (np.arange(len(ordered)) - starts).tolist(), strict=True))


def _multisets(plain: Pixels, hidden: Pixels, *, largest: int, negate: bool) -> list[Indices]:
    return row_classes(*_sorted_values(plain, hidden, largest=largest, negate=negate))


def _sorted_values(plain: Pixels, hidden: Pixels, *, largest: int, negate: bool) -> tuple[Pixels, Pixels]:
    made = [np.sort(folded(each, largest) if negate else each, axis=2) for each in (plain, hidden)]
    return _rows(made[0]), _rows(made[1])


def _columns_of(
    plain: Pixels, hidden: Pixels, pi: Indices, *, largest: int, negate: bool, rng: np.random.Generator
) -> Columns:
    known = np.flatnonzero(pi != UNKNOWN)
    return match_columns(plain[:, pi[known]], hidden[:, known], largest=largest, negate=negate, rng=rng)


def _read(hidden: Pixels, columns: Columns, *, largest: int) -> Pixels:
    """Hidden blocks with their positions put back and flips undone."""
    made = np.empty_like(hidden)
    made[..., columns.rho] = np.where(columns.mask, largest - hidden, hidden)
    return made


def _rows(blocks: Pixels) -> Pixels:
    """(m, N, L) as one row for each block, (N, m * L)."""
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)


def _values_by_position(blocks: Pixels) -> Pixels:
    """(m, U, L) as one row for each position, (L, m * U)."""
    return np.ascontiguousarray(blocks.transpose(2, 0, 1).reshape(blocks.shape[2], -1))


def _grown(pi: Indices, more: Indices) -> Indices:
    """What was known, and what has become known without contradicting it."""
    new = (pi == UNKNOWN) & (more != UNKNOWN) & ~np.isin(more, pi)
    return np.where(new, more, pi)


def _rest(pi: Indices, plain: Pixels, content: Pixels, *, rng: np.random.Generator) -> Indices:
    """Complete a block order: equal content first, the nearest for what is left."""
    made = pi.copy()
    for pairing in (_equal_rows, _nearest):
        missing = np.flatnonzero(made == UNKNOWN)
        if not missing.size:
            break
        free = np.setdiff1d(np.arange(len(made)), made)
        chosen = pairing(plain[free], content[missing], rng=rng)
        made[missing] = np.where(chosen == UNKNOWN, UNKNOWN, free[chosen])
    return made


def _equal_rows(plain: Pixels, hidden: Pixels, *, rng: np.random.Generator) -> Indices:
    return pair_equals(*row_classes(plain, hidden), rng=rng)


def _nearest(plain: Pixels, hidden: Pixels, *, rng: np.random.Generator) -> Indices:
    """For each hidden row a plain one, so that the summed distances are least."""
    some = _some(plain.shape[1], rng)
    distance = cdist(hidden[:, some].astype(np.float32), plain[:, some].astype(np.float32), "cityblock")
    return _assigned(distance, rng)


def _nearest_columns(before: Pixels, after: Pixels, *, largest: int, negate: bool, rng: np.random.Generator) -> Columns:
    some = _some(before.shape[1], rng)
    first, second = before[:, some].astype(np.float32), after[:, some].astype(np.float32)
    as_it_is = cdist(second, first, "cityblock")
    turned = cdist(largest - second, first, "cityblock") if negate else np.full_like(as_it_is, np.inf)
    rho = _assigned(np.minimum(as_it_is, turned), rng)
    rows = np.arange(len(rho))
    return Columns(rho, turned[rows, rho] < as_it_is[rows, rho])


def _assigned(cost: npt.NDArray[np.float64], rng: np.random.Generator) -> Indices:
    """The cheapest assignment of columns to rows; in no order that ties could betray."""
    rows, columns = rng.permutation(len(cost)), rng.permutation(len(cost))
    made = np.empty(len(cost), np.intp)
    made[rows] = columns[linear_sum_assignment(cost[rows][:, columns])[1]]
    return made


def _some(n: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.arange(n) if n <= _COMPARED else np.sort(rng.choice(n, _COMPARED, replace=False))
