"""What one site can come to: its share of every average, and the size of its update."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict

from fl_server import checkpoints
from fl_server.config import STRATEGIES, ServerConfig
from fl_server.deployment.plan import RunFile
from fl_server.initial import initial_model
from fl_server.strategies import make_strategy
from medveil.config import load_config
from medveil.contract import METRICS
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig

A_LIE = 10**15


def after(world: Any) -> dict[str, np.ndarray]:
    return checkpoints.load_newest(world.out / "checkpoints", run=world.run.run).tensors


def updates_of(world: Any) -> dict[str, dict[str, np.ndarray]]:
    """What the fake sites make of the initial model."""
    initial = initial_model(world.run).tensors
    made = {}
    for site in world.sites:
        rng = site.step(1)
        made[site.name] = {
            name: array * np.float32(0.9) + rng.normal(0, 0.01, array.shape).astype(np.float32)
            for name, array in initial.items()
        }
    return made


def assert_mean(world: Any, weights: dict[str, float]) -> None:
    updates, made = updates_of(world), after(world)
    for name in made:
        mean = sum(np.float64(w) * updates[site][name] for site, w in weights.items()) / sum(weights.values())
        np.testing.assert_allclose(made[name], mean, rtol=1e-5, atol=1e-7)


def saying(kinds: tuple[str, ...], **changes: Any) -> Any:
    def answers(kind: str, round_: int, content: RecordDict) -> RecordDict:
        if kind in kinds:
            content[METRICS] = MetricRecord({**content.metric_records[METRICS], **changes})
        return content

    return answers


def all_lines(world: Any) -> list[dict[str, Any]]:
    kept = {"round", "phase", "loss", "accuracy", "balanced_accuracy", "auroc"}
    return [{key: line[key] for key in kept} for line in world.lines() if line["site"] == "all"]


# -- by what it declares -----------------------------------------------------------------------------------------------


def test_a_site_that_declares_a_lie_has_the_largest_share_and_no_more_and_is_named(make_world, caplog) -> None:
    world = make_world(4, rounds=1)
    world.site("site-3").row = {"n-train": A_LIE}
    summary = world.federate()
    assert_mean(world, {"site-1": 10, "site-2": 20, "site-3": 70, "site-4": 40})
    (held,) = summary["held"]
    assert held == world.manifest()["held"][0]
    assert held["site"] == "site-3" and held["share"] == pytest.approx(0.5) and held["declared"] > 0.999
    assert "site-3 declares 100 % of the training images and weighs 50 %: server.most_share is 0.5" in caplog.text


def test_of_two_sites_each_has_half_unless_the_coordinator_says_otherwise(make_world) -> None:
    world, trusting = make_world(2, rounds=1), make_world(2, rounds=1, out="trusting")
    world.federate()
    assert_mean(world, {"site-1": 1, "site-2": 1})
    assert [each["site"] for each in world.manifest()["held"]] == ["site-2"]
    trusting.federate(most_share=1.0)
    assert_mean(trusting, {"site-1": 10, "site-2": 20})
    assert trusting.manifest()["held"] == []


def test_the_cap_holds_among_those_who_replied(make_world, caplog) -> None:
    world = make_world(4, rounds=1)
    world.site("site-3").spoil = lambda _, made: {name: array * np.nan for name, array in made.items()}
    world.site("site-2").silent = lambda kind, _: kind == "train"
    world.federate(round_deadline=0.5)
    assert_mean(world, {"site-1": 10, "site-4": 10})
    assert "site-4 declares 80 % of the training images and weighs 50 %" in caplog.text


@pytest.mark.parametrize("kind", ["weights", "delta"])
def test_a_long_update_counts_with_the_length_of_most_and_its_own_direction(make_world, kind) -> None:
    def spoiled(_: int, made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: base[name] + 5 * (array - base[name]) for name, array in made.items()}

    world = make_world(4, rounds=1, kind=kind)
    base, updates = initial_model(world.run).tensors, updates_of(world)
    changes = {site: {name: each[name] - base[name] for name in each} for site, each in updates.items()}
    norms = {
        site: np.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in c.values())) for site, c in changes.items()
    }
    world.site("site-3").spoil = spoiled
    world.federate(max_change=0, clip_norm=1.0)
    limit = float(np.median([5 * norms["site-3"] if site == "site-3" else norm for site, norm in norms.items()]))
    made, weights = after(world), {"site-1": 10, "site-2": 20, "site-3": 30, "site-4": 40}
    for name in made:
        mean = sum(w * min(1, limit / norms[s]) * changes[s][name] for s, w in weights.items() if s != "site-3")
        mean = mean + 30 * (limit / norms["site-3"]) * changes["site-3"][name]
        np.testing.assert_allclose(made[name], base[name] + mean / 100, rtol=1e-4, atol=1e-6)
    assert world.manifest()["left_out"] == []


def test_lengths_are_compared_from_three_sites_on(make_world) -> None:
    with pytest.raises(ConfigError, match=r"with server.clip_norm needs n >= 3 .*; here n = 2"):
        make_world(2, rounds=1).federate(clip_norm=1.0)


@pytest.mark.parametrize("strategy", [each for each in STRATEGIES if each != "qfedavg"])
def test_no_rule_is_handed_more_than_the_cap_nor_a_sites_own_word(make_world, monkeypatch, strategy) -> None:
    world = make_world(7, rounds=2)
    world.site("site-3").row = {"n-train": A_LIE}
    world.site("site-5").answers = saying(("train",), **{"num-examples": 10**12})
    kind = type(make_strategy(ServerConfig(strategy=strategy), {n: f"s{n}" for n in range(7)}))
    real, handed = kind.aggregate_train, []

    def watched(self, server_round, replies):
        replies = list(replies)
        handed.append([float(reply.content.metric_records[METRICS]["num-examples"]) for reply in replies])
        return real(self, server_round, replies)

    monkeypatch.setattr(kind, "aggregate_train", watched)
    world.federate(strategy=strategy)
    assert len(handed) == 2
    for weights in handed:
        assert max(weights) <= 0.5 * sum(weights) * (1 + 1e-9)
        # A rule that chooses by distance averages what it chose alike: a chosen few could leave one above the cap.
        assert (len(set(weights)) == 1) == (strategy in {"krum", "multikrum", "bulyan"})


def test_what_a_site_says_of_its_numbers_in_replies_weighs_nothing(make_world) -> None:
    world, plain = make_world(3), make_world(3, out="plain")
    lies = {f"{phase}-n": 10.0**12 for phase in ("validation", "test")}
    world.site("site-2").answers = saying(("train", "evaluate"), **{"num-examples": 10**12}, **lies)
    for each in (world, plain):
        each.site("site-2").validation = lambda round_: 0.9
    lied, honest = world.federate(), plain.federate()
    for name, tensor in after(plain).items():
        np.testing.assert_array_equal(after(world)[name], tensor)
    assert all_lines(world) == all_lines(plain)
    for name in ("loss", "accuracy", "balanced_accuracy", "auroc", "majority_rate", "thief"):
        assert lied[name] == honest[name]


def test_scores_are_weighed_by_declared_images_of_their_part_under_the_cap(make_world) -> None:
    world = make_world(3, rounds=1)
    for site, n, accuracy in zip(world.sites, (10, 30, A_LIE), (0.2, 0.4, 1.0), strict=True):
        site.row = {"n-test": n, "n-validation": n}
        site.answers = saying(("evaluate",), **{"test-accuracy": accuracy, "test-majority-rate": accuracy})
    summary = world.federate()
    wanted = (10 * 0.2 + 30 * 0.4 + 40 * 1.0) / 80
    assert summary["accuracy"] == pytest.approx(wanted)
    assert summary["majority_rate"] == pytest.approx(wanted)
    assert summary["thief"]["owner"]["accuracy"] == pytest.approx(wanted)


def test_a_site_without_declared_test_images_scores_nothing(make_world) -> None:
    world = make_world(3, rounds=1)
    world.site("site-2").row = {"n-test": 0}
    world.site("site-2").answers = saying(("evaluate",), **{"test-accuracy": 0.0, "test-n": 10.0**9})
    assert world.federate()["accuracy"] == pytest.approx(0.8)


def test_a_left_out_sites_validation_neither_counts_nor_steers_early_stopping(make_world) -> None:
    world, clean = make_world(3, rounds=6), make_world(2, rounds=6, out="clean")
    bad = world.site("site-3")
    bad.validation = lambda round_: 27.0
    bad.spoil = lambda _, made: {name: array * np.nan for name, array in made.items()}
    for each in (world, clean):
        each.federate(patience=2, max_norm=0, max_change=0)
    validation = [
        [line["loss"] for line in each.lines() if (line["site"], line["phase"]) == ("all", "validation")][:-1]
        for each in (world, clean)
    ]
    assert validation[0] == validation[1]
    assert json.loads((world.out / "summary.json").read_text())["status"] == "finished"


def test_one_site_moves_the_monitored_measure_by_its_share_at_most(make_world) -> None:
    world = make_world(3, rounds=1)
    world.site("site-3").row = {"n-validation": A_LIE}
    world.site("site-3").validation = lambda round_: 27.0
    world.federate()
    (line,) = [
        each for each in world.lines() if (each["site"], each["phase"], each["round"]) == ("all", "validation", 0)
    ]
    assert line["loss"] == pytest.approx(0.5 * 27.0 + 0.5 * 1.0)


def test_real_runs_are_capped_by_default_and_simulations_weigh_as_the_papers_do() -> None:
    assert RunFile().server.most_share == 0.5
    assert load_config(ExperimentConfig).server.most_share == 1.0
    assert load_config(ExperimentConfig, None, ["server.strategy=fedprox"]).server.most_share == 1.0


# -- fixed for the run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_a_resumed_run_keeps_the_weights_it_began_with(make_world, old: bool) -> None:
    whole, broken = make_world(4, rounds=3, out="whole"), make_world(4, rounds=3, out="broken")
    whole.federate()
    broken.site("site-2").fails = lambda kind, r: KeyboardInterrupt() if (kind, r) == ("train", 3) else None
    with pytest.raises(KeyboardInterrupt):
        broken.federate()
    broken.site("site-2").fails = lambda kind, r: None
    broken.site("site-1").row = {"n-train": A_LIE, "n-test": A_LIE}
    if old:
        # A MedVeil before this one wrote no weights.
        manifest = broken.manifest()
        del manifest["weights"], manifest["held"]
        (broken.out / "manifest.json").write_text(json.dumps(manifest))
    resumed = broken.federate(resume=True)
    for name, tensor in after(whole).items():
        np.testing.assert_array_equal(after(broken)[name], tensor)
    assert resumed["held"] == []
    assert broken.manifest()["weights"]["site-1"] == {"train": 10, "validation": 10, "test": 10}


def test_the_cap_is_part_of_what_a_run_was_started_with(make_world) -> None:
    world = make_world(3)
    world.site("site-2").fails = lambda kind, r: KeyboardInterrupt() if (kind, r) == ("train", 2) else None
    with pytest.raises(KeyboardInterrupt):
        world.federate()
    world.site("site-2").fails = lambda kind, r: None
    with pytest.raises(ConfigError, match=r"'most_share' is 1\.0; the run was started with 0\.5"):
        world.federate(resume=True, most_share=1.0)


# -- by the size of its update -----------------------------------------------------------------------------------------


def replaced(_: int, made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model of the attacker's own in place of an update."""
    rng = np.random.default_rng(0)
    return {name: (rng.standard_normal(a.shape) * 0.3).astype(np.float32) for name, a in made.items()}


def as_large_as_ours(_: int, made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same, no larger than the model it replaces, so that its own norm tells nothing."""
    rng, norm = np.random.default_rng(0), np.sqrt(sum(float(np.sum(a.astype(float) ** 2)) for a in made.values()))
    other = {name: rng.standard_normal(a.shape) for name, a in made.items()}
    size = np.sqrt(sum(float(np.sum(a**2)) for a in other.values()))
    return {name: (a * norm / size).astype(np.float32) for name, a in other.items()}


def emptied(_: int, made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.zeros_like(a) for name, a in made.items()}


@pytest.mark.parametrize("sites", [2, 3, 5])
@pytest.mark.parametrize("spoil", [replaced, as_large_as_ours, emptied])
@pytest.mark.parametrize("kind", ["weights", "delta"])
def test_a_whole_replacement_is_left_out_by_default(make_world, sites: int, spoil, kind: str) -> None:
    world = make_world(sites, rounds=1, kind=kind)
    world.site("site-1").spoil = spoil
    world.federate()
    (found,) = world.manifest()["left_out"]
    assert found["site"] == "site-1"
    assert "server.max_" in found["reason"]


@pytest.mark.parametrize(("times", "gone"), [(3, False), (9, True), (50, True)])
def test_an_update_made_larger_is_measured_against_the_others(make_world, times: int, gone: bool) -> None:
    world = make_world(5, rounds=1)
    initial = initial_model(world.run).tensors
    for site in world.sites:
        k = np.float32(0.1 * (times if site.name == "site-4" else 1))
        site.spoil = lambda _, made, k=k: {name: initial[name] + k * (made[name] - initial[name]) for name in made}
    world.federate(max_change=0)
    assert [each["site"] for each in world.manifest()["left_out"]] == (["site-4"] if gone else [])
    if gone:
        assert "times the round's median" in world.manifest()["left_out"][0]["reason"]


def test_a_small_update_puts_no_honest_one_out(make_world) -> None:
    """Of two the smaller could be the lie: nothing is measured against it."""
    for sites in (2, 3, 5):
        world = make_world(sites, rounds=1, out=f"of-{sites}")
        initial = initial_model(world.run).tensors
        world.site("site-1").spoil = lambda _, made, initial=initial: {
            name: initial[name] + np.float32(1e-6) for name in made
        }
        world.federate()
        assert world.manifest()["left_out"] == []


def test_where_most_send_no_change_the_others_may(make_world) -> None:
    world = make_world(3, rounds=1)
    for name in ("site-1", "site-2"):
        site = world.site(name)
        site.spoil = lambda _, made, site=site: dict(site.received[-1][2])
    world.federate()
    assert world.manifest()["left_out"] == []


def test_sites_that_go_on_alone_are_not_measured_against_each_other(make_world) -> None:
    world = make_world(3, rounds=1)
    initial = initial_model(world.run).tensors
    for site in world.sites[:2]:
        site.spoil = lambda _, made: {name: initial[name] + np.float32(1e-6) for name in made}
    world.federate(strategy="local-only")
    assert world.manifest()["left_out"] == []
