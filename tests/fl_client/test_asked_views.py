"""Views of an image that is asked about, and the mean of what a model says of them."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from fl_client.data.asked_views import asked_view
from fl_client.export.predicting import mean_of

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16), dtype=np.uint8)


def test_views_follow_from_the_pixels_and_nothing_else() -> None:
    views = [asked_view(IMAGES[0], view, "light") for view in range(5)]
    np.testing.assert_array_equal(views[0], IMAGES[0])
    assert len({each.tobytes() for each in views}) == 5
    np.testing.assert_array_equal(views[3], asked_view(IMAGES[0].copy(), 3, "light"))
    assert (asked_view(IMAGES[1], 3, "light") != views[3]).any()
    assert (asked_view(IMAGES[0], 3, "strong") != views[3]).any()


def test_the_mean_is_of_probabilities_and_of_one_view_its_own() -> None:
    said = list(np.random.default_rng(1).normal(size=(3, 4, 5)) * 8)
    np.testing.assert_allclose(softmax(mean_of(said), axis=1), softmax(np.stack(said), axis=2).mean(0), rtol=1e-12)
    assert mean_of(said[:1]) is said[0]
