"""Rounds of secure aggregation in one process: whoever is lost, whenever, a sum that opens is the plain one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from secagg_made import CLIP, Going, World

from medveil.errors import AggregationError
from medveil.secagg.fixed import unpack
from medveil.secagg.masks import mask

STEPS = ("train", "mask", "agree", "unmask")


def test_the_opened_sum_is_the_plain_one_to_the_last_bit(tmp_path: Path) -> None:
    world = World(tmp_path, examples=[10, 40, 25, 5, 20])
    going = Going.begin(world)
    survivors = going.masked(world.names)
    going.agreed(survivors)
    found = going.opened(survivors)
    assert found.survivors == tuple(world.names)
    assert (found.residues == world.plain(going.task, world.names)).all()
    assert found.sums == [7.5, -10.0]
    assert found.examples == 100
    weights = np.array([0.1, 0.4, 0.25, 0.05, 0.2])
    exact = weights @ np.stack([world.updates[name].astype(np.float64) for name in world.names])
    assert np.abs(found.mean - exact).max() < 5 * CLIP / 2**31


def test_what_a_site_sends_tells_nothing_of_its_update(tmp_path: Path) -> None:
    world = World(tmp_path, size=20_000)
    going = Going.begin(world)
    sent = unpack(going.mask("s0").packed, 32, world.size)
    plain = world.plain(going.task, ["s0"])
    assert abs(float(np.corrcoef(sent.view(np.int32), plain.view(np.int32))[0, 1])) < 0.05
    # Numbers modulo 2^32, each as likely as any other: 16 counts of 1250, chi-squared with 15 degrees of freedom.
    counts = np.bincount(sent >> 28, minlength=16)
    assert float(((counts - 1250.0) ** 2 / 1250).sum()) < 60


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(3, 7), st.sampled_from([24, 32]))
def test_whoever_is_lost_a_sum_is_exact_or_there_is_none(
    tmp_path: Path, data: st.DataObject, sites: int, bits: int
) -> None:
    colluding = data.draw(st.integers(0, sites - 2))
    world = World(tmp_path / str(len(list(tmp_path.iterdir()))), sites=sites, colluding=colluding, bits=bits, size=5)
    extremes = st.sampled_from([0.0, CLIP, -CLIP, 9 * CLIP, -3e38, 1e-30])
    for name in world.names:
        drawn = data.draw(st.lists(st.one_of(extremes, st.floats(-1, 1)), min_size=5, max_size=5))
        world.updates[name] = np.array(drawn, np.float32)
    lost = {step: set(data.draw(st.lists(st.sampled_from(world.names), max_size=2))) for step in STEPS}
    left = {
        step: [n for n in world.names if n not in set().union(*(lost[s] for s in STEPS[: i + 1]))]
        for i, step in enumerate(STEPS)
    }
    fewest, threshold = max(world.roster.fewest, 2), world.roster.threshold
    opens = len(left["mask"]) >= fewest and len(left["unmask"]) >= threshold and len(left["agree"]) >= threshold

    def attempt() -> None:
        going = Going.begin(world, offering=left["train"])
        going.masked(left["mask"])
        going.agreed(left["agree"])
        found = going.opened(left["unmask"])
        assert found.survivors == tuple(left["mask"])
        assert (found.residues == world.plain(going.task, left["mask"])).all()

    if opens:
        attempt()
        return
    with pytest.raises(AggregationError) as refused:
        attempt()
    assert refused.value.reason in {"few", "signatures", "shares"}


def test_a_site_lost_before_it_offers_costs_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    going = Going.begin(world, offering=world.names[:3])
    survivors = going.masked(world.names[:3])
    going.agreed(survivors)
    found = going.opened(survivors)
    assert (found.residues == world.plain(going.task, survivors)).all()
    exact = np.mean([world.updates[name] for name in survivors], axis=0)
    assert np.abs(found.mean - exact).max() < 1e-6, "the sum of three of five is divided by their own weights"


def test_an_attempt_that_is_lost_is_made_again_with_other_sites(tmp_path: Path) -> None:
    world = World(tmp_path)
    lost = Going.begin(world)
    with pytest.raises(AggregationError, match="2 sites are left, and 3 must: the attempt is lost"):
        lost.masked(["s0", "s1"])
    again = Going.begin(world, world.task(attempt=1), offering=world.names[1:])
    survivors = again.masked(world.names[1:])
    again.agreed(survivors)
    assert (again.opened(survivors).residues == world.plain(again.task, survivors)).all()


def test_sites_that_restart_before_they_offer_and_after_they_mask_still_help(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in world.names:
        world.restart(name)
    going = Going.begin(world)
    survivors = going.masked(world.names[:4])
    for name in world.names:
        world.restart(name)
    going.agreed(survivors)
    for name in world.names:
        world.restart(name)
    found = going.opened(survivors)
    assert (found.residues == world.plain(going.task, survivors)).all()


def test_a_late_masked_update_stays_closed(tmp_path: Path) -> None:
    """A server that holds it, and every share it is given: the pairwise masks come off, the self mask does not."""
    world = World(tmp_path, size=20_000)
    going = Going.begin(world)
    late = going.mask("s4")
    survivors = going.masked(world.names[:4])
    going.agreed(survivors)
    found = going.opened(survivors)
    with pytest.raises(AggregationError, match="not its turn") as refused:
        going.aggregator.masked("s4", late.packed, late.sums)
    assert refused.value.reason == "order"
    # By its name it subtracted every pairwise mask, and the server knows the keys: it took them off the others.
    secrets = {name: going.aggregator._secret(name) for name in world.names}
    pairs = going.aggregator._keys(secrets, "update")[1][len(survivors) :]
    words = unpack(late.packed, 32, world.size)
    mask(words, plus=pairs)
    plain = world.plain(going.task, ["s4"])
    assert abs(float(np.corrcoef(words.view(np.int32), plain.view(np.int32))[0, 1])) < 0.05
    assert (found.residues == world.plain(going.task, survivors)).all()
