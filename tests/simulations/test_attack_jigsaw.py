"""covariance and jigsaw: from ciphertexts alone to layouts, block orders and images; nothing from random ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from crypto.base import Geometry
from crypto.config import CipherConfig
from simulations.attacks.ciphertext.covariance import Covariance
from simulations.attacks.ciphertext.jigsaw import Jigsaw, laid_right
from simulations.attacks.solvers import symmetries
from simulations.attacks.solvers.assembly import Misfits, assemble, misfits
from simulations.attacks.solvers.blocks import cut
from simulations.attacks.solvers.layout import Moments, place_on_grid, polarities, recover_layout, split_channels
from simulations.attacks.solvers.turned_assembly import assemble_turned, laid_out, meetings
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Target
from simulations.attacks.study.controls import PixelShuffle
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


@pytest.mark.parametrize(("negate", "channels"), [(True, 1), (False, 3)])
def test_positions_are_placed_from_ciphertexts_alone(attack_setting: Make, negate: bool, channels: int) -> None:
    setting = attack_setting(negate=negate, channels=channels, images=4, keys=3)
    result = measure(Covariance(images=(2, 40)), setting).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["within_1_40"].target > 0.9
    assert metrics["within_1_40"].control > 0.9
    assert metrics["within_1_40"].chance < 0.35
    if negate:
        assert metrics["flips_40"].target > 0.95
        assert metrics["flips_40"].chance < 0.75
    # Blocks of the control stand where they stood, so its seams say which way is up.
    assert metrics["upright"].control == 1.0
    assert metrics["upright"].chance == 0.125


def test_a_layout_is_upright_where_blocks_stay(attack_setting: Make) -> None:
    result = measure(Covariance(images=(40,)), attack_setting(PixelShuffle, keys=3)).result
    assert result.metrics["upright"].target == 1.0
    assert result.metrics["exact_40"].target > 0.9


def test_random_ciphertexts_have_no_layout(attack_setting: Make) -> None:
    result = measure(Covariance(images=(40,)), attack_setting("aes-ctr", keys=2)).result
    assert result.metrics["within_1_40"].target is None
    assert result.verdict == "at chance"


@pytest.mark.parametrize("negate", [False, True])
def test_images_are_recovered_from_ciphertexts_alone(attack_setting: Make, negate: bool) -> None:
    result = measure(Jigsaw(images=(1, 30)), attack_setting(negate=negate, keys=3)).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["neighbour_30"].target > 0.9
    assert metrics["ssim_30"].target > 0.9 > metrics["ssim_30"].chance
    assert metrics["direct_30"].control == 1.0


def test_grey_blocks_that_are_turned_mirrored_and_negated_are_laid_too(attack_setting: Make) -> None:
    result = measure(Jigsaw(images=(1, 20)), attack_setting("etc", keys=3)).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["neighbour_20"].target > 0.9
    assert metrics["ssim_20"].target > 0.9 > metrics["ssim_20"].chance
    colours = Jigsaw().applies_to(Target(CipherConfig("etc"), Geometry(channels=3, height=32, width=32, block=8)))
    assert "shuffles the channels" in str(colours)


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(2, 5), columns=st.integers(2, 5), seed=st.integers(0, 1000))
def test_blocks_in_any_state_are_laid_once_and_a_smooth_images_come_back(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(12, 4 * rows, 4 * columns)), (0, 2.5, 2.5))
    images = 127.5 + 40 * fields / fields.std()
    blocks = images.reshape(12, rows, 4, columns, 4).swapaxes(2, 3).reshape(12, -1, 1, 4, 4)
    states = [(int(rng.integers(8)), bool(rng.integers(2))) for _ in range(rows * columns)]
    order = rng.permutation(rows * columns)
    hidden = np.stack(
        [
            255 - symmetries.turned(blocks[:, j], s) if n else symmetries.turned(blocks[:, j], s)
            for j, (s, n) in zip(order, states, strict=True)
        ],
        axis=1,
    )
    laid = assemble_turned(meetings(hidden, 255), (rows, columns))
    assert sorted(laid.blocks.ravel().tolist()) == list(range(rows * columns))
    shown = laid_out(hidden, laid, 255).reshape(12, rows, columns, 4, 4).swapaxes(2, 3).reshape(images.shape)
    views = [symmetries.turned(v, s) for s in range(8) for v in (shown, 255 - shown)]
    assert min(np.abs(v - images).max() for v in views if v.shape == images.shape) < 1e-9


def test_random_ciphertexts_make_no_jigsaw(attack_setting: Make) -> None:
    result = measure(Jigsaw(images=(30,)), attack_setting("aes-ctr", keys=3)).result
    assert result.metrics["neighbour_30"].target is None
    assert result.metrics["ssim_30"].target < result.metrics["ssim_30"].chance
    assert result.verdict == "at chance"


def test_they_say_where_they_do_not_apply() -> None:
    shape = Geometry(channels=1, height=32, width=32, block=16)
    assert "leaves the inside" in Covariance().applies_to(Target(CipherConfig("block-shuffle"), shape))
    for attack in (Covariance(), Jigsaw()):
        assert "shared by all blocks" in attack.applies_to(Target(CipherConfig("per-block"), shape))


@settings(max_examples=10, deadline=None)
@given(edge=st.integers(3, 9), seed=st.integers(0, 1000))
def test_a_map_of_likeness_that_falls_with_distance_is_found(edge: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = rng.permutation(edge**2)
    grid = np.stack(np.divmod(place, edge), axis=1)
    distance = np.linalg.norm(grid[:, None] - grid[None], axis=2)
    likeness = np.exp(-distance / 4) + rng.normal(0, 1e-4, distance.shape)
    found = place_on_grid((likeness + likeness.T) / 2)
    assert any(np.array_equal(turn[found], place) for turn in symmetries.places(edge))


def test_polarities_are_found_up_to_a_negative() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 1)) + 0.5 * rng.normal(size=(500, 20))
    sign = rng.choice([-1, 1], 20)
    found = polarities(np.corrcoef((values * sign).T))
    assert np.array_equal(found, sign < 0) or np.array_equal(found, sign > 0)


@pytest.mark.parametrize("known_by", ["tone", "neighbours"])
def test_channels_are_told_apart_by_tone_or_by_neighbours(known_by: str) -> None:
    """Three lines of 30 places that differ in tone only, or whose places are like their neighbours."""
    rng = np.random.default_rng(0)
    channel, place = np.divmod(rng.permutation(90), 30)
    near = np.exp(-np.abs(place[:, None] - place[None]) / 10)
    likeness = near * np.where(channel[:, None] == channel[None], 1.0, 0.4)
    tones = rng.random((90, 4))
    if known_by == "tone":
        likeness = near
        tones = np.array([[0.1, 0.3, 0.7, 1.0], [0.2, 0.3, 0.7, 1.0], [0.1, 0.3, 0.8, 1.0]])[channel]
        tones += rng.normal(0, 0.01, (90, 4))
    found = split_channels(likeness, 3, tones=tones)[["tone", "neighbours"].index(known_by)]
    assert sorted(map(sorted, found)) == sorted(sorted(np.flatnonzero(channel == each)) for each in range(3))


def test_equal_channels_are_one(attack_setting: Make) -> None:
    """Grey stored as RGB: three positions hold the same values and get the same place."""
    grey = attack_setting(n=120).material.images(range(40)).pixels
    blocks = np.repeat(grey, 3, axis=1)
    order = np.random.default_rng(0).permutation(192)
    moments = Moments(192, 255)
    shuffled = cut(blocks, 8)[..., order]
    moments.add(shuffled.reshape(40, 16, 3, 8, 8).transpose(0, 2, 3, 1, 4).reshape(40, 3, 8, 128), 8)
    layout = recover_layout(moments, 3, negate=False, rng=np.random.default_rng(1))
    true = order % 64
    turns = symmetries.places(8)
    assert max(np.mean(turn[layout.place] == true) for turn in turns) > 0.9
    assert all(len(set(layout.channel[true == place])) == 3 for place in range(64))


def test_channels_that_part_from_image_to_image_are_still_turned_alike(attack_setting: Make) -> None:
    """Stains differ: a brighter channel meets a darker one, image by image, and within one they go together.

    Over all images the two correlate negatively, the less so at the same place.
    """
    rng = np.random.default_rng(0)
    fields = attack_setting().material.images(range(60)).pixels[:, 0].astype(float) - 128
    offset = rng.normal(0, 60, (60, 1, 1))
    images = np.stack([150 + 0.5 * fields + offset, 110 + 0.4 * fields - offset], axis=1).clip(0, 255).astype(np.uint8)
    order, flips = rng.permutation(128), rng.random(128) < 0.5
    shuffled = cut(images, 8)[..., order]
    shuffled = np.where(flips, 255 - shuffled, shuffled)
    moments = Moments(128, 255)
    moments.add(shuffled.reshape(60, 16, 2, 8, 8).transpose(0, 2, 3, 1, 4).reshape(60, 2, 8, 128), 8)
    layout = recover_layout(moments, 2, negate=True, rng=np.random.default_rng(1))
    assert max(np.mean(turn[layout.place] == order % 64) for turn in symmetries.places(8)) > 0.9
    assert np.array_equal(layout.mask, flips) or np.array_equal(layout.mask, ~flips)


def test_moments_are_numpys() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
    images[:, :, 0, 0] = 7
    moments = Moments(64, 255)
    moments.add(images[:11], 8)
    moments.add(images[11:], 8)
    blocks = cut(images, 8).reshape(-1, 64).astype(float)
    assert moments.means == pytest.approx(blocks.mean(axis=0) - 127.5)
    assert moments.covariance == pytest.approx(np.cov(blocks.T, bias=True), abs=1e-2)
    tones = [np.histogram(np.abs(column - 127.5), bins=32, range=(0, 128))[0] for column in blocks.T]
    assert np.array_equal(moments.tones, tones)
    assert moments.correlation == pytest.approx(np.corrcoef(blocks.T), abs=1e-4)


def test_symmetries_are_eight_and_viewing_undoes_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    smooth = np.clip(image * 0.1 + np.linspace(0, 200, 16), 0, 255).astype(np.uint8)
    seen = {symmetries.turned(smooth, each).tobytes() for each in range(8)}
    assert len(seen) == 8
    for each in range(8):
        turned = 255 - symmetries.turned(smooth, each)[:, ::-1]
        assert symmetries.viewed(scores.ssim, turned, smooth, largest=255) == pytest.approx(1.0, abs=1e-3)
        places = symmetries.places(16)[each]
        assert np.array_equal(smooth.reshape(3, 3, -1)[..., places], symmetries.turned(smooth, each).reshape(3, 3, -1))


def test_misfits_are_those_of_a_slow_reading() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 5, 5)).astype(np.uint8)
    fits = misfits(blocks)
    for a, b in product(range(4), repeat=2):
        if a == b:
            assert np.isinf(fits.right[a, b]) and np.isinf(fits.down[a, b])
            continue
        right = down = 0.0
        for image, c, t in product(range(2), range(3), range(5)):
            one, other = blocks[image, a, c].astype(float), blocks[image, b, c].astype(float)
            right += ((1.5 * one[t, -1] - 0.5 * one[t, -2]) - (1.5 * other[t, 0] - 0.5 * other[t, 1])) ** 2
            down += ((1.5 * one[-1, t] - 0.5 * one[-2, t]) - (1.5 * other[0, t] - 0.5 * other[1, t])) ** 2
        assert fits.right[a, b] == pytest.approx(right)
        assert fits.down[a, b] == pytest.approx(down)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 1000))
def test_every_block_is_laid_once_and_clear_seams_are_followed(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = rows * columns
    order = rng.permutation(count)
    right, down = rng.uniform(5, 9, (2, count, count))
    for row, column in product(range(rows), range(columns)):
        here = row * columns + column
        if column + 1 < columns:
            right[order[here], order[here + 1]] = rng.uniform(0, 1)
        if row + 1 < rows:
            down[order[here], order[here + columns]] = rng.uniform(0, 1)
    for table in (right, down):
        np.fill_diagonal(table, np.inf)
    laid = assemble(Misfits(right, down), (rows, columns))
    assert np.array_equal(laid, order.reshape(rows, columns))
    noise = rng.uniform(0, 1, (2, count, count))
    for table in noise:
        np.fill_diagonal(table, np.inf)
    assert sorted(assemble(Misfits(*noise), (rows, columns)).ravel()) == list(range(count))


def test_a_turned_layout_is_as_right_as_it_was() -> None:
    right = np.arange(16).reshape(4, 4)
    for each in range(8):
        layout = symmetries.turned(right, each)
        assert laid_right(layout) == {"neighbour": 1.0, "largest_component": 1.0, "direct": 1.0}
    swapped = right.copy()
    swapped[0, 0], swapped[3, 3] = 15, 0
    made = laid_right(swapped)
    assert made["direct"] == 14 / 16
    assert made["neighbour"] == pytest.approx(20 / 24)
    assert scores.largest_component(swapped) == 14 / 16
