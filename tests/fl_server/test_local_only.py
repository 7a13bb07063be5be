from __future__ import annotations

import numpy as np
import pytest

from fl_server import checkpoints
from fl_server.initial import initial_model


def alone(site, initial, rounds):
    """What a site that never hears of another makes of the initial tensors."""
    made = dict(initial)
    for round_ in range(1, rounds + 1):
        rng = site.step(round_)
        made = {
            name: array * np.float32(0.9) + rng.normal(0, 0.01, array.shape).astype(np.float32)
            for name, array in made.items()
        }
    return made


@pytest.mark.parametrize("kind", ["weights", "delta"])
def test_every_site_goes_its_own_way(make_world, kind):
    world = make_world(3, rounds=3, kind=kind)
    summary = world.federate(strategy="local-only")
    initial = initial_model(world.run).tensors
    for site in world.sites:
        what, round_, incoming = site.received[-1]
        assert (what, round_) == ("evaluate", 3)
        for name, array in alone(site, initial, 3).items():
            np.testing.assert_allclose(incoming[name], array, rtol=1e-5, atol=1e-6)
    assert set(summary["sites"]) == {"site-1", "site-2", "site-3"}


def test_the_checkpoint_holds_each_sites_tensors_and_the_initial_model(make_world):
    world = make_world(2, rounds=2)
    world.federate(strategy="local-only")
    found = checkpoints.load_newest(world.out / "checkpoints", run=world.run.run)
    initial = initial_model(world.run).tensors
    assert all(np.array_equal(found.tensors[name], initial[name]) for name in initial)
    name = max(initial, key=lambda each: initial[each].size)
    assert not np.array_equal(found.state[f"site-1/{name}"], found.state[f"site-2/{name}"])


def test_a_bad_update_leaves_a_site_with_what_it_had(make_world):
    world = make_world(2, rounds=2)
    site = world.site("site-2")
    site.spoil = lambda round_, made: {name: array * np.nan for name, array in made.items()} if round_ == 2 else made
    world.federate(strategy="local-only")
    assert [each["site"] for each in world.manifest()["left_out"]] == ["site-2"]
    initial = initial_model(world.run).tensors
    for name, array in alone(site, initial, 1).items():
        np.testing.assert_allclose(site.received[-1][2][name], array, rtol=1e-5, atol=1e-6)


def test_a_fraction_does_not_apply(make_world):
    world = make_world(4, rounds=1)
    world.federate(strategy="local-only", fraction=0.25)
    assert sum(kind == "train" for kind, _ in world.grid.sent) == 4


def test_tensors_travel_sorted_by_name(make_world):
    world = make_world(2, rounds=2)
    world.sites[1].spoil = lambda _, made: dict(reversed(made.items()))
    world.federate(strategy="local-only")
    assert all(list(incoming) == sorted(incoming) for site in world.sites for _, _, incoming in site.received)
