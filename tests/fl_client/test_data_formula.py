"""Images drawn by formula: a source as any other, of nobody's pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fl_client.data.config import DataConfig, FormulaConfig, check_data_config
from fl_client.data.formula_drawing import Drawn, draw
from fl_client.data.source import open_source
from medveil.errors import ConfigError

SMALL = DataConfig(source="formula", image_size=32, formula=FormulaConfig(classes=6, per_class=12))


@pytest.mark.parametrize("kind", ["contours", "fractals"])
def test_an_image_is_the_same_in_whichever_batch_it_is_drawn(kind: str) -> None:
    every = [Drawn(label, number) for label in range(4) for number in range(3)]
    together = draw(kind, every, size=32, seed=1, device="cpu")
    assert together.shape == (12, 32, 32)
    for i in (0, 5, 11):
        np.testing.assert_array_equal(draw(kind, [every[i]], size=32, seed=1, device="cpu")[0], together[i])
    assert len({image.tobytes() for image in together}) == 12
    assert not np.array_equal(draw(kind, every, size=32, seed=2, device="cpu"), together)
    assert together.std(axis=(1, 2)).min() > 2, "an image shows nothing"


@pytest.mark.parametrize("kind", ["contours", "fractals"])
def test_images_of_one_formula_are_nearer_to_one_another_than_to_others(kind: str) -> None:
    every = [Drawn(label, number) for label in range(8) for number in range(10)]
    # Images of a class are shifted: that leaves the size of their frequencies.
    waves = np.abs(np.fft.fft2(draw(kind, every, size=32, seed=0, device="cpu").astype(float)))
    flat, labels = waves.reshape(80, -1)[:, 1:], np.repeat(np.arange(8), 10)
    apart = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    assert (labels[apart.argmin(1)] == labels).mean() > 0.6, "chance is 0.11"


def test_a_source_of_drawn_images_is_split_read_and_named_as_any_other(tmp_path: Path) -> None:
    source = open_source(SMALL)
    assert (len(source), source.size, source.channels, len(source.classes)) == (72, 32, 1, 6)
    assert [item.label for item in source.items] == np.repeat(np.arange(6), 12).tolist()
    assert source.read(40).shape == (1, 32, 32)
    again = open_source(SMALL)
    np.testing.assert_array_equal(again.read(71), source.read(71))
    np.testing.assert_array_equal(again.read(40), source.read(40))
    assert again.identity() == source.identity()
    assert again.contents(3) != source.contents(4)
    other = open_source(replace(SMALL, formula=replace(SMALL.formula, seed=1)))
    assert (other.identity(), other.name) != (source.identity(), source.name)
    assert other.contents(3) != source.contents(3)
    assert open_source(replace(SMALL, labels="none")).classes == ("unlabelled",)
    assert len(open_source(replace(SMALL, limit=30))) <= 30


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"formula": FormulaConfig(kind="noise")}, "'noise' is not known; one of contours, fractals"),
        ({"formula": FormulaConfig(classes=1)}, "is 1; at least 2"),
        ({"formula": FormulaConfig(classes=5000)}, "is 5000; at most 4096"),
        ({"formula": FormulaConfig(classes=4000, per_class=10**6)}, "draw too many images"),
        ({"labels": "labels.csv"}, "bring labels of their own"),
        ({"group_by": "patient"}, "bring labels of their own"),
        ({"channels": 3}, "drawn images are grey"),
        ({"classes": ["a", "b"]}, "names 2 classes, and 6 are drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(changes: dict[str, object], told: str) -> None:
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=told):
        check_data_config(config)
        open_source(config)
