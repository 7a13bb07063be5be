"""Views of an image that is asked about, and the mean of what a model says of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fl_client.averaging import WeightAverage, newest_share
from fl_client.data.asked_views import asked_view
from fl_client.export.asking import ask
from fl_client.export.images import Reader
from fl_client.export.model_card import _views
from fl_client.export.predicting import mean_of
from fl_client.export.ready import Ready
from medveil.errors import ConfigError

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


def ready(level: str) -> Ready:
    described: Any = SimpleNamespace(channels=1, image_size=16, padded_size=16, reads_plain=True, hidden_source=None)
    described.views, described.level = 3, level
    model: Any = None
    return Ready(described, model, None, lambda: pytest.fail("no key is asked for"))


def test_the_level_of_a_runs_views_is_handed_to_who_asks_its_model(tmp_path: Path) -> None:
    assert Reader(ready("strong"), views=4)._level == "strong"
    assert Reader(ready("strong"), views=4, level="medium")._level == "medium"
    with pytest.raises(ConfigError, match="--view-level: names no level of augmentation; one of light, medium, strong"):
        ask(ready("light"), tmp_path, tmp_path / "x.csv", device=torch.device("cpu"), named="m", views=2, level="huge")


def test_a_model_card_says_what_its_figures_are_means_of() -> None:
    for predict in ({"views": 1, "augment": "light"}, {}):
        assert _views({"run_config": json.loads(json.dumps({"predict": predict}))}) == []
    assert _views({"run_config": {}}) == []
    (said,) = _views({"run_config": {"predict": {"views": 10, "augment": "medium"}}})
    assert "the mean of 10 views of an image: the image itself and 9 augmented ones, at level medium" in said
    assert "and `predict` asks so" in said


def test_a_step_of_the_average_is_torchs_for_the_decay_of_that_step() -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    average, theirs = WeightAverage([parameter], 0.9), [parameter.detach().clone()]
    for step in range(120):
        parameter.data += 0.1 * torch.sin(parameter.data + step)
        average.add()
        get_ema_multi_avg_fn(1 - newest_share(step, 0.9))(theirs, [parameter.detach()], step)
    average.settle()
    torch.testing.assert_close(parameter.detach(), theirs[0])
