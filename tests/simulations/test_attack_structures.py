"""Keys from pairs where every block or pixel has its own arrangement, or blocks are turned: against the arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.base import Geometry
from simulations.attacks.solvers.blocks import cut
from simulations.attacks.solvers.digits import by_digits
from simulations.attacks.solvers.own_orders import (
    agreement,
    block_states,
    match_values,
    pixel_states,
    recover_blocks,
    recover_pixels,
)
from simulations.attacks.solvers.rotation import recover_rotation

SHAPES = st.builds(
    lambda channels, block: Geometry(channels=channels, height=3 * block, width=4 * block, block=block),
    st.sampled_from([1, 3]),
    st.sampled_from([3, 4]),
)


def _images(n: int, shape: Geometry, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (n, shape.channels, *shape.padded), dtype=np.uint8)


def _moved(images: np.ndarray, shape: Geometry, pi: np.ndarray, inner: np.ndarray, flips: np.ndarray) -> np.ndarray:
    blocks = cut(images, shape.block)[:, pi]
    moved = np.stack([blocks[:, j][:, inner[j]] for j in range(shape.blocks)], axis=1)
    return shape.join(np.where(flips, 255 - moved, moved).astype(np.uint8))


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 1000))
def test_one_pair_gives_blocks_that_are_turned_mirrored_and_negated(shape: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = block_states(shape)
    assert len(np.unique(np.concatenate([states.source, states.flips], axis=1), axis=0)) == len(states.source)
    assert len(states.source) == (96 if shape.channels == 3 else 16)
    state = rng.integers(len(states.source), size=shape.blocks)
    pi = rng.permutation(shape.blocks)
    pair, others = _images(1, shape, rng), _images(3, shape, rng)
    hidden = [_moved(each, shape, pi, states.source[state], states.flips[state]) for each in (pair, others)]
    found = recover_blocks(pair, hidden[0], shape, negate=True, states=states, rng=rng)
    assert np.array_equal(found.decrypt(hidden[1], 255), others)


def test_agreement_is_what_random_states_agree_in() -> None:
    shape = Geometry(channels=3, height=8, width=8, block=4)
    for states in (block_states(shape), pixel_states(3)):
        first, second = np.random.default_rng(0).integers(len(states.source), size=(2, 4000))
        alike = (states.source[first] == states.source[second]) & (states.flips[first] == states.flips[second])
        assert agreement(states) == pytest.approx(alike.mean(), abs=0.01)
    # A third of the orders have a channel in its place, half of the negations are right.
    assert agreement(pixel_states(3)) == pytest.approx(1 / 6)


def test_turns_are_those_of_a_square_seen_by_eye() -> None:
    """A block with one bright corner and a bright edge beside it has eight different looks, all among the states."""
    shape = Geometry(channels=1, height=2, width=2, block=2)
    block = np.array([[1, 2], [3, 4]])
    looks = {tuple(block.ravel()[source]) for source in block_states(shape).source}
    by_eye = {tuple(np.rot90(face, k).ravel()) for face in (block, block[:, ::-1]) for k in range(4)}
    assert looks == by_eye


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, negate=st.booleans(), seed=st.integers(0, 1000))
def test_a_few_pairs_give_an_order_for_every_block(shape: Geometry, negate: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (shape.blocks, shape.block_length)
    inner = np.argsort(rng.random(size), axis=1)
    flips = rng.random(size) < (0.5 if negate else 0.0)
    pi = rng.permutation(shape.blocks)
    pairs, others = _images(4, shape, rng), _images(3, shape, rng)
    hidden = [_moved(each, shape, pi, inner, flips) for each in (pairs, others)]
    found = recover_blocks(pairs, hidden[0], shape, negate=negate, states=None, rng=rng)
    assert np.array_equal(found.decrypt(hidden[1], 255), others)


def test_values_that_are_equal_in_the_pairs_are_paired_at_random() -> None:
    flat = np.zeros((2, 50, 16), np.uint8)
    inner, flips = match_values(flat, flat, largest=255, negate=False, rng=np.random.default_rng(0))
    assert np.array_equal(np.sort(inner, axis=1), np.tile(np.arange(16), (50, 1)))
    assert np.mean(inner == np.arange(16)) < 0.15
    assert not flips.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_one_pair_gives_pixels_that_stay(channels: int) -> None:
    rng = np.random.default_rng(channels)
    shape = Geometry(channels=channels, height=12, width=16, block=4)
    states = pixel_states(channels)
    assert len(states.source) == (48 if channels == 3 else 2)
    state = rng.integers(len(states.source), size=(12, 16))

    def hide(images: np.ndarray) -> np.ndarray:
        order = np.moveaxis(states.source[state], -1, 0)[None]
        moved = np.take_along_axis(images, np.broadcast_to(order, images.shape), axis=1)
        return np.where(np.moveaxis(states.flips[state], -1, 0), 255 - moved, moved).astype(np.uint8)

    pair, others = _images(1, shape, rng), _images(3, shape, rng)
    found = recover_pixels(pair, hide(pair), largest=255, rng=rng)
    right = found.decrypt(hide(others), 255) == others
    # Two of a pixel's channels may be equal or negatives of each other in one pair.
    assert right.mean() > 0.97


def _turned(images: np.ndarray, shape: Geometry, matrix: np.ndarray, pi: np.ndarray) -> np.ndarray:
    """The arithmetic of `orthogonal`: y = Q z, c = round(65535 / 2 * (1 + y / sqrt(L)))."""
    z = (2 * cut(images, shape.block).astype(float) - 255) / 255
    y = z[:, pi] @ matrix.T
    return shape.join(np.rint(65535 / 2 * (1 + y / np.sqrt(shape.block_length))).astype(np.uint16))


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_give_the_matrix_that_turns_blocks(channels: int) -> None:
    rng = np.random.default_rng(channels)
    shape = Geometry(channels=channels, height=16, width=16, block=4)
    length = shape.block_length
    matrix = np.linalg.qr(rng.normal(size=(length, length)))[0]
    pi = rng.permutation(shape.blocks)
    pairs, others = _images(2 * channels, shape, rng), _images(3, shape, rng)
    found = recover_rotation(pairs, _turned(pairs, shape, matrix, pi), shape, rng=rng)
    assert np.array_equal(found.order, pi)
    assert found.matrix == pytest.approx(matrix, abs=1e-2)
    assert np.array_equal(found.decrypt(_turned(others, shape, matrix, pi)), others)


def test_directions_the_pairs_do_not_show_stay_unknown() -> None:
    """Four blocks of 16 values: the matrix is known in four directions, and nothing is made up in the others."""
    rng = np.random.default_rng(0)
    shape = Geometry(channels=1, height=8, width=8, block=4)
    matrix = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    pair = _images(1, shape, rng)
    found = recover_rotation(pair, _turned(pair, shape, matrix, np.arange(4)), shape, rng=rng)
    assert np.linalg.matrix_rank(found.matrix, tol=1e-6) == 4
    assert np.linalg.norm(found.matrix, 2) == pytest.approx(1.0)


def test_digits_of_answers_that_follow_no_rule_stay_inside_the_image() -> None:
    shape = Geometry(channels=1, height=8, width=8, block=4)
    noise = np.random.default_rng(0)
    found = by_digits(lambda images: noise.integers(0, 256, images.shape), shape, negate=True)
    assert found.source.min() >= 0
    assert found.source.max() < 64
