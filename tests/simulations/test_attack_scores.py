"""Scores, judged by other libraries, slow readings and hand-made layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from crypto.base import Geometry, StemPermutation
from simulations.attacks.solvers.blocks import cut, folded, row_classes, signed_permutation
from simulations.attacks.study import scores


def _images(n: int = 3, channels: int = 3, size: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def test_ssim_is_wang_et_als_in_double_precision() -> None:
    truth = _images()
    guess = np.clip(truth.astype(int) + np.random.default_rng(1).integers(-40, 40, truth.shape), 0, 255).astype(
        np.uint8
    )
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    slow = [
        np.mean([structural_similarity(g[c], t[c], **options) for c in range(3)])
        for g, t in zip(guess, truth, strict=True)
    ]
    assert scores.ssim(guess, truth) == pytest.approx(slow, abs=2e-4)
    assert scores.ssim(truth, truth) == pytest.approx(1.0)


def test_psnr_is_scikit_images_and_finite_for_equal_images() -> None:
    truth, guess = _images(), _images(seed=5)
    slow = [peak_signal_noise_ratio(t, g, data_range=255) for t, g in zip(truth, guess, strict=True)]
    assert scores.psnr(guess, truth) == pytest.approx(slow)
    assert scores.psnr(truth, truth).tolist() == [100.0] * 3


def test_edges_do_not_mind_a_negative_and_do_mind_noise() -> None:
    truth = np.zeros((2, 1, 32, 32), np.uint8)
    truth[:, :, 8:20, 6:18] = 180
    noise = _images(2, 1, 32)
    assert scores.edge_correlation(255 - truth, truth) == pytest.approx(1.0)
    assert np.all(np.abs(scores.edge_correlation(noise, truth)) < 0.3)
    assert scores.edge_correlation(np.zeros_like(truth), truth).tolist() == [0.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(0, 1000))
def test_a_random_guess_scores_its_expectation(contents: list[int], seed: int) -> None:
    classes = np.array(contents)
    rng = np.random.default_rng(seed)
    true = rng.permutation(len(classes))
    drawn = [scores.share_right_up_to(rng.permutation(len(classes)), true, classes) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(scores.random_guess(classes), abs=0.11)


def test_shares_right() -> None:
    true, found = np.array([2, 0, 1, 3]), np.array([2, 1, 0, -1])
    assert scores.share_right(found, true) == 0.25
    # 0 and 1 are equal, so swapping them is no error; the unknown one is.
    assert scores.share_right_up_to(found, true, np.array([7, 7, 8, 9])) == 0.75


def test_layout_scores_by_hand() -> None:
    right = np.arange(6).reshape(2, 3)
    assert scores.neighbour_accuracy(right) == 1.0
    assert scores.largest_component(right) == 1.0
    # Columns turned by one: each row keeps one of its two right neighbourhoods, all three downward ones hold.
    turned = right[:, [1, 2, 0]]
    assert scores.neighbour_accuracy(turned) == pytest.approx(5 / 7)
    assert scores.largest_component(turned) == pytest.approx(4 / 6)
    assert scores.neighbour_accuracy(right[::-1, ::-1]) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_blocks_are_cut_where_the_cipher_cuts_them(channels: int, rows: int, columns: int, block: int) -> None:
    shape = Geometry(channels=channels, height=rows * block, width=columns * block, block=block)
    images = np.random.default_rng(0).integers(0, 256, (2, channels, *shape.padded), dtype=np.uint8)
    blocks = cut(images, block)
    assert np.array_equal(blocks, images.reshape(2, -1)[:, shape.block_positions()])
    assert np.array_equal(shape.join(blocks), images)


def test_a_signed_permutation_opens_what_the_formula_hides() -> None:
    shape = Geometry(channels=2, height=8, width=12, block=4)
    rng = np.random.default_rng(0)
    key = StemPermutation(rng.permutation(32), rng.permutation(6), rng.random(32) < 0.5)
    plain = rng.integers(0, 256, (3, 2, 8, 12), dtype=np.uint8)
    moved = cut(plain, 4)[:, key.pi][:, :, key.rho]
    hidden = shape.join(np.where(key.mask, 255 - moved, moved))
    assert np.array_equal(signed_permutation(key, shape).decrypt(hidden, 255), plain)


def test_folding_and_row_classes() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(folded(values, 255), folded(255 - values, 255))
    first, second = row_classes(np.array([[1, 2], [3, 4]]), np.array([[3, 4], [5, 6], [1, 2]]))
    assert (first[0], first[1]) == (second[2], second[0])
    assert second[1] not in first
