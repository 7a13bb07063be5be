"""`server.keep: best`: the model that is left is that of the round which validation images liked best."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fl_server import checkpoints
from fl_server.best_round import BestRound
from fl_server.config import ServerConfig
from fl_server.same_sites import Measured
from medveil.errors import ConfigError

BEST = 2
LOSSES = {0: 0.1, 1: 0.9, BEST: 0.4, 3: 0.6, 4: 0.4, 5: 0.8}


def at_one_site(value):
    return Measured({} if value is None else {"a": value}, lambda sites: dict.fromkeys(sites, 1.0))


def by_round(world, losses=LOSSES):
    for site in world.sites:
        site.validation = losses.__getitem__


def asked(world, kind):
    """(round, tensors, config) of every message of a kind that the first site got."""
    site = world.sites[0]
    pairs = zip(site.received, site.configs, strict=True)
    return [(round_, tensors, config) for (each, round_, tensors), config in pairs if each == kind]


def saved(world, round_):
    return checkpoints.load(world.out / "checkpoints" / f"round-{round_:04d}.json").tensors


def same(one, other):
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


def test_the_best_rounds_model_is_measured_and_left(make_world):
    world = make_world(3, rounds=5)
    by_round(world)
    summary = world.federate(keep="best")
    # The start, better than all, is no round; of two equal ones the earlier stays.
    assert summary["kept"] == {"round": BEST, "by": "loss", "value": pytest.approx(LOSSES[BEST])}
    assert (summary["rounds"], summary["status"]) == (5, "finished")
    (last, _, validating), (round_, tensors, config) = asked(world, "evaluate")
    assert (last, validating["measure"]) == (5, "validation")
    assert round_ == BEST and "measure" not in config
    assert same(tensors, saved(world, BEST)) and not same(tensors, saved(world, 5))
    assert json.loads((world.out / "summary.json").read_text())["kept"]["round"] == BEST


def test_test_images_are_measured_once_and_of_that_model_alone(make_world):
    world = make_world(3, rounds=5)
    by_round(world)
    world.federate(keep="best")
    assert {line["round"] for line in world.lines() if line["phase"] == "test"} == {BEST}
    validated = [(line["round"], line["loss"]) for line in world.lines() if line["phase"] == "validation"]
    assert {round_ for round_, _ in validated} == set(LOSSES)
    assert all(loss == pytest.approx(LOSSES[round_]) for round_, loss in validated)


def test_the_last_rounds_model_is_left_where_it_is_best_or_where_nothing_is_said(make_world):
    best, plain = make_world(3, rounds=3, out="best"), make_world(3, rounds=3, out="plain")
    by_round(best, {0: 9.0, 1: 0.9, 2: 0.8, 3: 0.7})
    assert best.federate(keep="best")["kept"] == {"round": 3, "by": "loss", "value": pytest.approx(0.7)}
    assert plain.federate()["kept"] == {"round": 3, "by": None, "value": None}
    assert len(asked(plain, "evaluate")) == 1
    assert not any("keep-round" in config for _, _, config in asked(plain, "train"))


def test_sites_are_told_which_round_may_be_wanted_again(make_world):
    world = make_world(3, rounds=5)
    by_round(world)
    world.federate(keep="best")
    # What the model of round r is worth comes with the replies of round r + 1.
    assert [config.get("keep-round") for _, _, config in asked(world, "train")] == [None, None, 1, BEST, BEST]


def test_its_checkpoint_outlives_the_newest(make_world):
    world = make_world(3, rounds=5)
    by_round(world)
    world.federate(keep="best", keep_checkpoints=1)
    kept = sorted(path.stem for path in (world.out / "checkpoints").glob("*.json"))
    assert kept == [f"round-{BEST:04d}", "round-0005"]


@pytest.mark.parametrize(("kind", "round_"), [("train", 4), ("evaluate", 5), ("evaluate", BEST)])
def test_a_resumed_run_leaves_the_same(make_world, kind, round_):
    whole, broken = make_world(3, rounds=5, out="whole"), make_world(3, rounds=5, out="broken")
    for world in (whole, broken):
        by_round(world)
    wanted = whole.federate(keep="best")
    broken.sites[1].fails = lambda k, r: KeyboardInterrupt() if (k, r) == (kind, round_) else None
    with pytest.raises(KeyboardInterrupt):
        broken.federate(keep="best")
    broken.sites[1].fails = lambda k, r: None
    found = broken.federate(keep="best", resume=True)
    assert {**found, "seconds": 0, "run": ""} == {**wanted, "seconds": 0, "run": ""}
    assert same(asked(broken, "evaluate")[-1][1], asked(whole, "evaluate")[-1][1])


def test_each_site_goes_back_to_its_own_under_local_only(make_world):
    world = make_world(3, rounds=5)
    by_round(world)
    world.federate(keep="best", strategy="local-only")
    state = checkpoints.load(world.out / "checkpoints" / f"round-{BEST:04d}.json").state
    own = {name.split("/", 1)[1]: array for name, array in state.items() if name.startswith(f"{world.sites[0].name}/")}
    assert same(asked(world, "evaluate")[-1][1], own)


def test_where_higher_is_better_the_highest_is_best():
    best = BestRound(ServerConfig(keep="best", monitor="auroc"))
    for round_, value in enumerate([0.9, 0.5, None, 0.8, 0.8, 0.7]):
        best.see(round_, at_one_site(value))
    assert (best.round, best.value) == (3, 0.8)


def test_a_run_without_validation_measures_cannot_keep_the_best(make_world):
    with pytest.raises(ConfigError, match="keeping the best round needs 'evaluate_first'"):
        make_world(3, evaluate_first=False).federate(keep="best")
    with pytest.raises(ConfigError, match="'keep' is 'first'"):
        make_world(3, out="other").federate(keep="first")


def test_where_no_site_can_validate_the_last_is_left(make_world):
    world = make_world(3, rounds=3)
    by_round(world, dict.fromkeys(range(4), float("nan")))
    assert world.federate(keep="best")["kept"] == {"round": 3, "by": None, "value": None}
