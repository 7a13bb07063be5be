from __future__ import annotations

import zlib

import numpy as np
import pytest

from fl_client.data.augment import LEVELS, augment
from fl_client.data.rng import generator
from medveil.errors import ConfigError

OLD = {"light": 1585648807, "standard": 4000206327}
"""What views were made of before there were levels: stores that hold them are kept."""
IMAGE = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)


@pytest.mark.parametrize("name", ["light", "standard"])
def test_a_view_is_repeatable_and_differs_from_the_image(name: str) -> None:
    views = [augment(IMAGE, name=name, flip=False, rng=generator(1, "augment", "id", v)) for v in (1, 1, 2)]
    np.testing.assert_array_equal(views[0], views[1])
    assert (views[0] != views[2]).any()
    assert (views[0] != IMAGE).any()
    assert views[0].shape == IMAGE.shape
    assert views[0].dtype == np.uint8


def test_none_changes_nothing_and_flips_only_move_pixels() -> None:
    np.testing.assert_array_equal(augment(IMAGE, name="none", flip=False, rng=generator(0)), IMAGE)
    flipped = [augment(IMAGE, name="none", flip=True, rng=generator(0, i)) for i in range(60)]
    assert len({each.tobytes() for each in flipped}) == 8
    assert all((np.sort(each, axis=None) == np.sort(IMAGE, axis=None)).all() for each in flipped)


def test_movements_are_small_and_bring_in_no_border() -> None:
    bright = np.full((1, 32, 32), 200, dtype=np.uint8)
    for i in range(30):
        view = augment(bright, name="standard", flip=False, rng=generator(2, i)).astype(int)
        assert view.max() - view.min() <= 1
        assert abs(int(view[0, 0, 0]) - 200) <= 27
    dot = np.zeros((1, 33, 33), dtype=np.uint8)
    dot[0, 14:19, 14:19] = 255
    for i in range(30):
        view = augment(dot, name="light", flip=False, rng=generator(3, i)).astype(float)[0]
        y, x = np.unravel_index(np.argmax(view), view.shape)
        assert max(abs(int(y) - 16), abs(int(x) - 16)) <= 5


def test_rotation_is_about_the_centre_on_average() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))[None]
    views = np.stack([augment(ramp, name="standard", flip=False, rng=generator(4, i)) for i in range(300)])
    np.testing.assert_allclose(views.mean(axis=0)[0, 16:48, 16:48], ramp[0, 16:48, 16:48], atol=10)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="strong"):
        augment(IMAGE, name="strong", flip=False, rng=generator(0))


def test_generators_are_the_same_everywhere_and_differ_by_purpose() -> None:
    assert generator(7, "split", 3).integers(2**32) == 1316195210
    draws = {int(generator(7, *purpose).integers(2**62)) for purpose in [("a", 1), ("a", 2), ("b", 1), ("a",), ()]}
    assert len(draws) == 5


@pytest.mark.parametrize("level", LEVELS)
def test_levels_of_a_run_draw_views_that_repeat_and_stay_near_the_image(level: str) -> None:
    draws = [augment(IMAGE, name=f"train.{level}", flip=False, rng=generator(1, v)) for v in range(40)]
    again = augment(IMAGE, name=f"train.{level}", flip=False, rng=generator(1, 7))
    np.testing.assert_array_equal(draws[7], again)
    assert len({each.tobytes() for each in draws}) == 40
    assert {(each.shape, each.dtype) for each in draws} == {(IMAGE.shape, np.dtype(np.uint8))}
    flat = np.full((1, 32, 32), 120, dtype=np.uint8)
    views = [augment(flat, name=f"train.{level}", flip=False, rng=generator(2, v)) for v in range(40)]
    # No border comes in, whatever moves; and each view is one grey within what gamma, gain and offset allow.
    assert max(int(view.max()) - int(view.min()) for view in views) <= 1
    ranges, white = LEVELS[level], 120 / 255
    top = white ** np.exp(-ranges.gamma) * (1 + ranges.gain) + ranges.offset
    assert max(int(view.max()) for view in views) <= round(255 * top) + 1
    assert len({int(view[0, 0, 0]) for view in views}) > 10


def test_half_of_a_levels_views_are_mirrored_and_each_number_is_drawn_within_its_range() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3 + 30, (64, 1))[None]
    slopes = [
        np.polyfit(np.arange(40), augment(ramp, name="train.light", flip=False, rng=generator(3, i))[0, 32, 12:52], 1)[
            0
        ]
        for i in range(80)
    ]
    assert 25 < sum(slope < 0 for slope in slopes) < 55
    # The slope of a row: gain over zoom, times the cosine of the turn.
    assert max(map(abs, slopes)) <= 3 * 1.1 / 0.92 + 0.02
    assert min(map(abs, slopes)) >= 3 * 0.9 / 1.08 * np.cos(np.radians(10)) - 0.02


def test_old_names_draw_what_they_drew() -> None:
    drawn = {name: augment(IMAGE, name=name, flip=True, rng=generator(5, name)) for name in ("light", "standard")}
    assert {name: zlib.crc32(view.tobytes()) for name, view in drawn.items()} == OLD
