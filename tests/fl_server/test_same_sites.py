"""Rounds compete over the same sites: neither a hard site nor a missing one makes a round look better or worse."""

from __future__ import annotations

import pytest

from fl_server.best_round import BestRound
from fl_server.config import ServerConfig
from fl_server.early_stopping import EarlyStopping
from fl_server.same_sites import Measured, compared


def measured(**sites):
    return Measured(sites, lambda chosen: {site: {"big": 3.0}.get(site, 1.0) for site in chosen})


def test_means_are_taken_over_the_sites_that_measured_both():
    new, earlier = measured(a=0.4, b=0.2, big=0.6), {"a": 0.5, "big": 0.8, "gone": 0.0}
    assert compared(new, earlier) == pytest.approx(((0.4 + 3 * 0.6) / 4, (0.5 + 3 * 0.8) / 4))
    assert compared(new, {"gone": 0.0}) is None


def test_a_round_at_easier_sites_is_no_better_round():
    stopping, best = EarlyStopping(patience=1), BestRound(ServerConfig(keep="best"))
    for round_, sites in enumerate([{"easy": 0.3, "hard": 1.5}, {"easy": 0.4}, {"easy": 0.2}], start=1):
        best.see(round_, measured(**sites))
    # Round 2's mean, .4, is below round 1's, .9, and its model is worse wherever both were measured.
    assert best.round == 3
    stopping.see(1, measured(easy=0.3, hard=1.5))
    stopping.see(2, measured(easy=0.4))
    assert stopping.stops and stopping.best_round == 1


def test_a_round_at_other_sites_counts_neither_way_and_state_carries_the_sites():
    stopping = EarlyStopping(patience=1)
    stopping.see(1, measured(a=0.5))
    stopping.see(2, measured(b=9.0))
    assert not stopping.stops
    other = EarlyStopping(patience=1)
    other.state = stopping.state
    other.see(3, measured(a=0.6, b=0.0))
    assert other.stops


def test_a_checkpoint_of_before_compares_means():
    stopping = EarlyStopping(patience=1)
    stopping.state = {"best": 0.5, "best_round": 3, "waited": 0}
    stopping.see(4, measured(a=0.4))
    assert stopping.best_round == 4


def test_where_sites_take_turns_all_of_them_measure_every_round(make_world):
    world = make_world(6, rounds=6)
    for place, site in enumerate(world.sites):
        # Sites differ by far more than rounds do; the model is best after round 2.
        site.validation = lambda round_, place=place: 0.05 * abs(round_ - 2) + place
    summary = world.federate(fraction=0.34, keep="best", patience=3)
    assert summary["kept"]["round"] == 2
    assert summary["status"] == "stopped-early" and summary["rounds"] == 5
    lines = [line for line in world.lines() if line["phase"] == "validation"]
    seen = {round_: sorted(each["site"] for each in lines if each["round"] == round_) for round_ in range(6)}
    everyone = ["all", *(site.name for site in world.sites)]
    # The last round is measured once more with the test images, of the model that is left.
    assert all(seen[round_] == everyone for round_ in (0, 1, 3, 4, 5))
    assert set(seen[2]) == set(everyone)
