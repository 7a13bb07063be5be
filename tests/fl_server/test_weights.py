"""How much a site weighs: by what it declared, never above the cap, whoever else is there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_server.weights import Declared, Held, Weights, capped

counts = st.dictionaries(st.integers(0, 30).map(str), st.integers(1, 2**63 - 1).map(float), min_size=1, max_size=12)
shares = st.floats(0.01, 1.0)


@settings(max_examples=300, deadline=None)
@given(counts, shares)
def test_no_share_is_above_the_cap_or_an_equal_part(given_: dict[str, float], most: float) -> None:
    made = capped(given_, most)
    whole = sum(made.values())
    assert set(made) == set(given_)
    for site, weight in made.items():
        assert 0 < weight <= given_[site]
        assert weight / whole <= max(most, 1 / len(made)) * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(counts, shares)
def test_the_cap_cuts_the_largest_alone_and_no_more_than_it_must(given_: dict[str, float], most: float) -> None:
    made = capped(given_, most)
    cut = [site for site in given_ if made[site] < given_[site]]
    if not cut:
        assert made == given_
        return
    # All that are cut stand at one height, above all that are not; and that height is a share of the cap.
    (height,) = {made[site] for site in cut}
    assert all(made[site] <= height * (1 + 1e-9) for site in made)
    share = height / sum(made.values())
    assert share == pytest.approx(max(most, 1 / len(made)), rel=1e-6)


@pytest.mark.parametrize(
    ("given_", "most", "wanted"),
    [
        ({"a": 10.0, "b": 20.0, "c": 30.0}, 0.5, {"a": 10, "b": 20, "c": 30}),
        ({"a": 1e15, "b": 20.0, "c": 30.0}, 0.5, {"a": 50, "b": 20, "c": 30}),
        ({"a": 1e15, "b": 1e15, "c": 30.0}, 0.4, {"a": 60, "b": 60, "c": 30}),
        ({"a": 1e15, "b": 20.0}, 0.5, {"a": 20, "b": 20}),
        ({"a": 7.0, "b": 20.0, "c": 90.0}, 0.2, {"a": 7, "b": 7, "c": 7}),
        ({"a": 1e15}, 0.5, {"a": 1e15}),
        ({"a": 1e15, "b": 20.0}, 1.0, {"a": 1e15, "b": 20}),
        ({}, 0.5, {}),
    ],
)
def test_weights_by_hand(given_: dict[str, float], most: float, wanted: dict[str, float]) -> None:
    assert capped(given_, most) == pytest.approx(wanted)


def test_each_phase_is_weighed_by_its_own_images_and_a_site_without_any_has_no_weight() -> None:
    weights = Weights({"a": Declared(80, 10, 0), "b": Declared(60, 20, 30), "c": Declared(70, 30, 30)}, most_share=0.5)
    assert weights.among("abc") == {"a": 80, "b": 60, "c": 70}
    assert weights.among("abc", "validation") == {"a": 10, "b": 20, "c": 30}
    for phase in ("test", "wrong-key", "public-stem"):
        assert weights.among("abc", phase) == {"b": 30, "c": 30}


def test_the_cap_holds_among_those_who_are_there() -> None:
    weights = Weights({"a": Declared(40, 0, 0), "b": Declared(30, 0, 0), "c": Declared(30, 0, 0)}, most_share=0.5)
    assert weights.held("abc") == []
    assert weights.among("ab") == {"a": 30, "b": 30}
    assert weights.held("ab") == [Held("a", pytest.approx(4 / 7), pytest.approx(0.5))]
    assert str(weights.held("ab")[0]) == "a declares 57.1 % of the training images and weighs 50 %"
