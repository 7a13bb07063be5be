"""The summary of a run whose measures are sums: what they rest on is what was summed."""

from __future__ import annotations

import pytest

from fl_server.summary import summarise
from fl_server.weights import Declared, Weights
from medveil.contract import RunConfig

SUMMED = {"test-n": 30.0, "test-loss": 0.5, "test-accuracy": 0.7, "test-balanced-accuracy": 0.6}


@pytest.mark.parametrize("asked", [4, 0], ids=["one lost on the way", "opened by a server that was begun anew"])
def test_a_mean_rests_on_the_sites_of_its_sum_and_on_no_other(asked: int) -> None:
    names = ["a", "b", "c", "d"]
    weights = Weights({name: Declared(10, 10, 10) for name in names}, most_share=0.5)
    told: dict[str, dict[str, float | None]] = {name: {} for name in names[:asked]}
    made = summarise(
        RunConfig(), told, weights, status="finished", rounds=1, summed=SUMMED, sites_of_sum=("a", "b", "c")
    )
    assert made["accuracy"] == pytest.approx(0.7)
    assert made["rests_on"]["accuracy"] == {"n": 30, "sites": 3, "of_sites": max(3, asked)}
