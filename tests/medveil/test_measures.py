"""The numbers of a reply: what is possible is taken, and what is not is refused by name, as ours and in short."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_client.measures import majority_rate, measure
from medveil.contract import MEASURES, PHASES, measure_key
from medveil.errors import FederationError
from medveil.measures import MOST_IMAGES, RANGES, checked_measures

IMPOSSIBLE: list[tuple[str, Any]] = [
    ("train-loss", 1e308),
    ("train-loss", -1e308),
    ("train-loss", math.inf),
    ("train-loss", -1e-9),
    ("validation-loss", 28.0),
    ("validation-loss", -1),
    ("validation-accuracy", 7),
    ("validation-accuracy", -0.1),
    ("test-balanced-accuracy", 1.01),
    ("test-auroc", 1.01),
    ("test-auroc", -1),
    ("test-majority-rate", 2),
    ("wrong-key-auroc", -math.inf),
    ("validation-n", -1),
    ("validation-n", 10**15),
    ("validation-n", 10**5000),
    ("validation-n", 2.5),
    ("num-examples", math.nan),
    ("num-examples", -3),
    ("num-examples", 10**15),
    ("seconds", math.nan),
    ("seconds", -1.0),
    ("seconds", 1e300),
    ("train-accuracy", True),
    ("train-accuracy", "0.5"),
    ("train-accuracy", None),
    ("train-accuracy", [0.5]),
    ("train-accuracy", [0.5] * 100_000),
    ("train-accuracy", {"a": 1}),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(IMPOSSIBLE)])
def test_a_number_that_is_not_possible_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(FederationError, match=f"'{name}' is") as caught:
        checked_measures({"train-n": 10.0, name: value})
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["", "x" * 10**6, "\x1b[2Jloss", "validation-loss ", "toString", "train-majority-rate"]
)
def test_a_name_that_is_none_is_refused_and_not_repeated_raw(name: str) -> None:
    with pytest.raises(FederationError, match="measures are unknown") as caught:
        checked_measures({name: 1.0})
    assert len(str(caught.value)) < 200
    assert "\x1b" not in str(caught.value)


def test_thousands_of_names_are_counted() -> None:
    with pytest.raises(FederationError, match="5000 measures are unknown, 'a0' first"):
        checked_measures({f"a{i}": 1.0 for i in range(5000)})


def test_what_sites_measure_is_possible() -> None:
    """Of certain, of wrong and of undecided models, on one class and on all, on no image: all of it is in range."""
    rng = np.random.default_rng(0)
    for n, classes in ((0, 2), (1, 2), (50, 2), (50, 4)):
        labels = rng.integers(0, classes, n)
        sure = np.eye(classes, dtype=np.float32)
        for probabilities in (
            sure[labels],
            sure[(labels + 1) % classes],
            np.full((n, classes), 1 / classes, np.float32),
        ):
            for seen in (labels, np.zeros_like(labels)):
                said = {measure_key("test", "majority-rate"): majority_rate(seen)}
                for phase in PHASES:
                    said |= measure(seen, probabilities).as_metrics(phase)
                made = checked_measures(said)
                assert {name for name, value in said.items() if math.isnan(value)} == {
                    name for name, value in made.items() if value is None
                }


def test_every_measure_of_the_contract_has_a_range() -> None:
    assert {measure_key(phase, name) for phase in PHASES for name in MEASURES} <= set(RANGES)


numbers = (
    st.integers() | st.floats() | st.integers(-(10**400), 10**400) | st.booleans() | st.none() | st.text(max_size=9)
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(RANGES)) | st.text(max_size=20), numbers | st.lists(numbers, max_size=3), max_size=5
    )
)
def test_no_numbers_escape_as_another_error_and_what_is_taken_can_be_written_and_summed(said: dict[str, Any]) -> None:
    try:
        made = checked_measures(said)
    except FederationError as error:
        assert str(error).isprintable()
        return
    json.dumps(made, allow_nan=False)
    whole = sum(value for value in made.values() if value is not None)
    assert 0 <= whole <= len(made) * max(MOST_IMAGES, 1e9)
