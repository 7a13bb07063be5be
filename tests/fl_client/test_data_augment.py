from __future__ import annotations

import numpy as np
import pytest

from fl_client.data.augment import augment
from fl_client.data.rng import generator
from medveil.errors import ConfigError

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
