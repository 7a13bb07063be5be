"""From known pairs to keys of schemes that treat every block, or every pixel, in its own way.

Where a unit (a block, a pixel) can be in few states (`etc`: a symmetry, an order of channels, a negation; `pixel-wise`:
an order of channels and negations), the state that explains the pairs is looked up. Where it can be any permutation
(`per-block`), values are matched by what they are in all pairs, and what is equal there is paired at random.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry
from simulations.attacks.solvers.blocks import Flags, Indices, Pixels, SignedPermutation, cut
from simulations.attacks.solvers.matching import match_blocks
from simulations.attacks.solvers.symmetries import places

PIXEL_STATES = 48
"""Orders of 3 channels times negations: no more is looked up for a pixel."""


class States(NamedTuple):
    """Everything a unit of L values can be in: where each value comes from, (S, L), and which are negated, (S, L)."""

    source: Indices
    flips: Flags


def block_states(shape: Geometry) -> States:
    """States of a block of `etc`: 8 symmetries, C! orders of channels, with and without negation."""
    inner = places(shape.block)
    source = np.stack(
        [
            (np.array(order)[:, None] * shape.block**2 + turn[None]).ravel()
            for order in permutations(range(shape.channels))
            for turn in inner
        ]
    )
    flips = np.zeros(source.shape, np.bool_)
    return States(np.concatenate([source, source]), np.concatenate([flips, ~flips]))


def pixel_states(channels: int) -> States:
    """States of a pixel of `pixel-wise`: C! orders of channels, each channel negated or not."""
    pairs = list(product(permutations(range(channels)), product((False, True), repeat=channels)))
    return States(np.array([order for order, _ in pairs], np.intp), np.array([flips for _, flips in pairs], np.bool_))


def agreement(states: States) -> float:
    """Expected share of positions that two random states treat alike."""
    codes = states.source * 2 + states.flips
    shares = [np.unique(column, return_counts=True)[1] / len(codes) for column in codes.T]
    return float(np.mean([(share**2).sum() for share in shares]))


def recover_blocks(
    plain: Pixels, hidden: Pixels, shape: Geometry, *, negate: bool, states: States | None, rng: np.random.Generator
) -> SignedPermutation:
    """Recover block order and the inside of each block from pairs (m, C, H, W); any permutation without `states`."""
    before, after = cut(plain, shape.block), cut(hidden, shape.block)
    order = match_blocks(before, after, largest=shape.largest, negate=negate, rng=rng)
    if states is None:
        inner, flips = match_values(before[:, order], after, largest=shape.largest, negate=negate, rng=rng)
    else:
        inner, flips = match_states(before[:, order], after, states, largest=shape.largest, rng=rng)
    positions = shape.block_positions()
    source, flipped = np.empty(positions.size, np.intp), np.empty(positions.size, np.bool_)
    source[positions] = np.take_along_axis(positions[order], inner, axis=1)
    flipped[positions] = flips
    return SignedPermutation(source, flipped)


def recover_pixels(plain: Pixels, hidden: Pixels, *, largest: int, rng: np.random.Generator) -> SignedPermutation:
    """Recover the order of channels and the negations of every pixel from pairs (m, C, H, W)."""
    m, channels = plain.shape[:2]
    before, after = (np.moveaxis(each, 1, -1).reshape(m, -1, channels) for each in (plain, hidden))
    inner, flips = match_states(before, after, pixel_states(channels), largest=largest, rng=rng)
    pixels = inner.shape[0]
    source = inner.T * pixels + np.arange(pixels)
    return SignedPermutation(source.ravel().astype(np.intp), flips.T.ravel())


def match_states(
    plain: Pixels, hidden: Pixels, states: States, *, largest: int, rng: np.random.Generator
) -> tuple[Indices, Flags]:
    """For each unit the state nearest to the pairs, (m, U, L) each; equals at random."""
    shuffled = rng.permutation(len(states.source))
    best = np.full(plain.shape[1], np.iinfo(np.int64).max)
    state = np.zeros(plain.shape[1], np.intp)
    for each in shuffled.tolist():
        moved = plain[..., states.source[each]]
        expected = np.where(states.flips[each], largest - moved, moved).astype(np.int32)
        distance = np.abs(expected - hidden).sum(axis=(0, 2), dtype=np.int64)
        nearer = distance < best
        best[nearer], state[nearer] = distance[nearer], each
    return states.source[state], states.flips[state]


def match_values(
    plain: Pixels, hidden: Pixels, *, largest: int, negate: bool, rng: np.random.Generator
) -> tuple[Indices, Flags]:
    """For each unit any permutation of its values, by what each is in all pairs: (m, U, L) each.

    Values are sorted on both sides by a code of what they are, up to a negative, and the k-th meets the k-th.
    """
    codes, low = zip(*(_codes(each, largest, negate=negate) for each in (plain, hidden)), strict=True)
    ranks = [_order(each, rng) for each in codes]
    inner = np.empty(codes[1].shape, np.intp)
    np.put_along_axis(inner, ranks[1], ranks[0], axis=1)
    flips: Flags = np.take_along_axis(low[0], inner, axis=1) != low[1]
    return inner, flips


def _codes(values: Pixels, largest: int, *, negate: bool) -> tuple[npt.NDArray[np.uint64], Flags]:
    """A number for each value from what it is in all pairs, (U, L), and whether it stands for the negative."""
    low = (values[0] <= largest // 2) if negate else np.zeros(values.shape[1:], np.bool_)
    upper = np.where(low[None], largest - values, values).astype(np.uint64)
    code = np.zeros(values.shape[1:], np.uint64)
    for each in upper:
        code = code * np.uint64(largest + 1) + each
    return code, low


def _order(codes: npt.NDArray[np.uint64], rng: np.random.Generator) -> Indices:
    """Places of each row in the order of their codes, equals at random."""
    made: Indices = np.lexsort((rng.random(codes.shape), codes), axis=1)
    return made
