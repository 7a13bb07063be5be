"""A server that crafts the weights it has measured, and reads counts of small classes from what comes back."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crypto.keys import SiteKey
from fl_client import work
from fl_client.data.config import DataConfig
from fl_client.leaving import EVERYTHING, FEWEST_STEPS, SMALLEST_COUNT, Leaving, known, stepped
from fl_client.measures import measure
from fl_client.site import Site
from fl_client.site_setup import SiteSetup
from medveil.config import to_mapping
from medveil.contract import RunConfig
from medveil.training import TrainConfig
from medveil.wire import Tensors
from models.config import ModelConfig

torch.set_num_threads(1)

CLASSES = ["none", "mass", "rare", "rarer"]
LARGE = {"train": (40, 30), "val": (40, 20), "test": (50, 25)}
SIZE, BLOCK = 16, 4
KEY = SiteKey.generate("st-anna")


def site(folder: Path, small: tuple[int, int], *, leaving: Leaving | None = None) -> Site:
    """A site with the same images of two classes, and so many of each of two others in every part."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {"classes": np.array(CLASSES)}
    for part, large in LARGE.items():
        labels = np.repeat(np.arange(4), [*large, *small])
        images = rng.integers(0, 256, (sum(large) + 20, SIZE, SIZE), dtype=np.uint8)
        arrays |= {f"{part}_images": images[: len(labels)], f"{part}_labels": labels}
    np.savez(folder / "images.npz", **arrays)
    model = ModelConfig(image_size=SIZE, patch=BLOCK, channels=1, classes=4, width=8, depth=1, heads=1)
    run = RunConfig(
        run="0f2c7cf0",
        rounds=99,
        classes=CLASSES,
        image_size=SIZE,
        model=to_mapping(model),
        train=to_mapping(TrainConfig(batch_size=64, lr=0.0)),
        cipher={"scheme": "block-pixel", "block": BLOCK, "negate": False},
        keys="shared",
    )
    setup = SiteSetup(
        name="st-anna",
        index=0,
        sites=1,
        key=KEY,
        cipher_key=KEY,
        thief_key=KEY,
        data=DataConfig(source="npz", path=str(folder / "images.npz"), image_size=SIZE, channels=1),
        folder=folder / "state",
        device=torch.device("cpu"),
        **({} if leaving is None else {"leaving": leaving}),
    )
    return Site(run, setup)


def crafted(of: Site, bias: list[float]) -> Tensors:
    """Weights whose answer is the same for every image: the softmax of `bias`."""
    sent = {name: of.bench.public[name].numpy().copy() for name in of.travelling}
    return sent | {"head.weight": np.zeros_like(sent["head.weight"]), "head.bias": np.array(bias, np.float32)}


QUERIES = [
    *([8.0 if k == each else 0.0 for k in range(4)] for each in range(4)),
    *([1.0 + shift if k == each else 0.0 for k in range(4)] for each in range(4) for shift in (0.0, 0.01, 0.1, 1.0)),
    [0.0, 1.0, 64.0, 4096.0],
    [float("nan"), 0.0, 1.0, float("inf")],
]


def replies(of: Site) -> list[dict[str, Any]]:
    """Everything that comes back over many rounds, but for how long it took."""
    found = [work.describe(of)]
    for round_, bias in enumerate(QUERIES, start=1):
        sent = crafted(of, bias)
        found.append(work.evaluate(of, round_, sent))
        if np.isfinite(bias).all():
            found.append(work.train(of, round_, sent)[1])
    return [{name: value for name, value in each.items() if name != "seconds"} for each in found]


def read_counts(of: Site, phase: str) -> list[int]:
    """The attack of the issue: images of a class are accuracy times n of a model that always answers it."""
    found = []
    for k in range(4):
        measured = work.evaluate(of, 1, crafted(of, [9.0 if each == k else 0.0 for each in range(4)]))
        accuracy, n = measured[f"{phase}-accuracy"], measured[f"{phase}-n"]
        found.append(round(accuracy * n) if math.isfinite(accuracy) else 0)
    return found


@pytest.mark.parametrize("phase", ["validation", "test", "wrong-key", "public-stem"])
def test_without_the_room_every_small_count_is_read(tmp_path: Path, phase: str) -> None:
    of = site(tmp_path / "a", (3, 7), leaving=Leaving(EVERYTHING))
    assert read_counts(of, phase)[2:] == [3, 7]


def test_no_reply_of_many_rounds_depends_on_a_small_count(tmp_path: Path) -> None:
    first = replies(site(tmp_path / "0", (0, 0)))
    assert any(value for each in first for name, value in each.items() if name.endswith("-accuracy"))
    for number, small in enumerate([(1, 0), (3, 7), (SMALLEST_COUNT - 1, 5)], start=1):
        other = replies(site(tmp_path / str(number), small))
        for one, two in zip(first, other, strict=True):
            np.testing.assert_equal(two, one)


def test_a_count_that_is_large_enough_counts(tmp_path: Path) -> None:
    row = work.describe(site(tmp_path / "a", (SMALLEST_COUNT, 9)))
    assert row["counts"] == [40, 30, 10, 0]
    assert row["missing"] == ["rarer"]
    assert (row["n-train"], row["n-validation"], row["n-test"]) == (80, 70, 80)


@given(
    large=st.tuples(st.integers(10, 60), st.integers(10, 60)),
    small=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
    sharp=st.floats(0.01, 50),
)
def test_a_small_class_changes_no_measure_whatever_the_model_says(
    large: tuple[int, int], small: int, seed: int, sharp: float
) -> None:
    rng, leaving = np.random.default_rng(seed), Leaving()
    labels = np.repeat(np.arange(3), [*large, small])
    raw = np.exp(rng.standard_normal((len(labels), 3)) * sharp)
    said = (raw / raw.sum(1, keepdims=True)).astype(np.float32)
    without = leaving.measured("test", labels[: sum(large)], said[: sum(large)])
    np.testing.assert_equal(leaving.measured("test", labels, said), without)
    np.testing.assert_equal(leaving.majority(labels), leaving.majority(labels[: sum(large)]))
    assert leaving.size(labels) == sum(each // 10 * 10 for each in large)


def test_one_image_moves_a_measure_by_less_than_a_step() -> None:
    leaving, labels = Leaving(), np.repeat(np.arange(2), [60, 45])
    said = np.full((105, 2), 0.5, np.float32)
    right = np.eye(2, dtype=np.float32)[labels]
    told = set()
    for known_ones in itertools.product(range(0, 60, 7), range(0, 45, 7)):
        mixed = said.copy()
        for k, count in enumerate(known_ones):
            mixed[np.flatnonzero(labels == k)[:count]] = right[np.flatnonzero(labels == k)[:count]]
        told.add(leaving.measures(labels, mixed).accuracy)
    assert {round(value * 10, 9) for value in told} <= set(range(11))


def test_the_loss_of_one_image_is_bounded() -> None:
    leaving, labels = Leaving(), np.repeat(np.arange(2), [50, 50])
    said = np.eye(2, dtype=np.float32)[labels]
    assert leaving.measures(labels, said).loss == 0
    said[0] = [0, 1]
    assert measure(labels, said).loss > 0.2
    assert leaving.measures(labels, said).loss == 0


def test_measures_are_withheld_where_too_few_steps_are_left() -> None:
    labels = np.repeat(np.arange(2), [15, 15])
    said = np.eye(2, dtype=np.float32)[labels]
    found = Leaving().measures(labels, said)
    assert math.isnan(found.accuracy)
    assert found.n == 20
    assert math.isnan(stepped(1.0, FEWEST_STEPS - 1))
    assert stepped(1.0, FEWEST_STEPS) == 1.0
    one_class = np.repeat([0, 1], [90, 9])
    assert math.isnan(Leaving().measures(one_class, said[[0] * 99]).accuracy)


def test_a_perfect_model_is_told_as_one_and_a_model_without_numbers_as_undecided() -> None:
    labels = np.repeat(np.arange(2), [64, 57])
    said = np.eye(2, dtype=np.float32)[labels]
    found = Leaving().measures(labels, said)
    assert (found.accuracy, found.balanced_accuracy, found.auroc, found.loss) == (1, 1, 1, 0)
    said[3] = np.nan
    assert Leaving().measures(labels, said).accuracy == 1
    said[:] = np.nan
    assert Leaving().measures(labels, said).auroc == 0.5


def test_everything_is_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 3, 17), rng.dirichlet(np.ones(3), 17).astype(np.float32)
    assert Leaving(EVERYTHING).measures(labels, said) == measure(labels, said)


def test_no_name_leaves_that_the_contract_does_not_know() -> None:
    assert known({"test-accuracy": 0.5, "num-examples": 10.0, "seconds": 1.0}) == {
        "test-accuracy": 0.5,
        "num-examples": 10.0,
        "seconds": 1.0,
    }
    with pytest.raises(ValueError, match="patients"):
        known({"patients": 3.0})
