from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg

from fl_server import checkpoints
from fl_server.config import ServerConfig
from fl_server.initial import initial_model
from fl_server.watch import Watcher
from medveil.errors import ConfigError, FederationError, PolicyError
from medveil.wire import decode, encode

NAMES = [
    *("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "qfedavg"),
    *("fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan", "local-only"),
]
LINE = {
    "round",
    "site",
    "phase",
    "loss",
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "n",
    "seconds",
    "bytes_up",
    "bytes_down",
}


def tensors_after(world, round_=None):
    folder = world.out / "checkpoints"
    if round_ is None:
        return checkpoints.load_newest(folder, run=world.run.run).tensors
    return checkpoints.load(folder / f"round-{round_:04d}.json").tensors


def trained(world, incoming, round_=1):
    """What the fake sites make of `incoming`, by site."""
    made = {}
    for site in world.sites:
        rng = site.step(round_)
        made[site.name] = {
            name: array * np.float32(0.9) + rng.normal(0, 0.01, array.shape).astype(np.float32)
            for name, array in incoming.items()
        }
    return made


def weighted_mean(world, updates):
    weights = {site.name: site.examples for site in world.sites if site.name in updates}
    names = next(iter(updates.values()))
    return {
        name: sum(np.float64(weights[site]) * updates[site][name] for site in updates) / sum(weights.values())
        for name in names
    }


@pytest.mark.parametrize("strategy", NAMES)
def test_every_strategy_runs_to_its_end(make_world, strategy):
    world = make_world(7)
    summary = world.federate(strategy=strategy, **({"most_share": 1.0} if strategy == "qfedavg" else {}))
    assert summary["status"] == "finished" and summary["rounds"] == 2
    assert set(summary["sites"]) == {site.name for site in world.sites}
    made = tensors_after(world)
    initial = initial_model(world.run).tensors
    assert {name: each.shape for name, each in made.items()} == {name: each.shape for name, each in initial.items()}
    assert all(each.dtype == np.float32 and np.isfinite(each).all() for each in made.values())
    moved = any(not np.array_equal(made[name], initial[name]) for name in made)
    assert moved == (strategy != "local-only")


def test_fedavg_is_the_mean_weighted_by_examples(make_world):
    world = make_world(4, rounds=1)
    world.federate()
    expected = weighted_mean(world, trained(world, initial_model(world.run).tensors))
    made = tensors_after(world)
    for name, array in expected.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-5, atol=1e-7)


def test_fedmedian_and_fedtrimmedavg_ignore_one_far_away_site(make_world):
    for strategy in ("fedmedian", "fedtrimmedavg"):
        world = make_world(7, rounds=1, out=strategy)
        world.site("site-4").spoil = lambda _, made: {name: array + np.float32(1.0) for name, array in made.items()}
        world.federate(strategy=strategy, max_norm=0, max_change=0)
        good = trained(world, initial_model(world.run).tensors)
        for name, array in tensors_after(world).items():
            highest = np.max([each[name] for each in good.values()], axis=0)
            assert (array <= highest + 1e-6).all()


def test_fedprox_tells_the_sites_its_mu(make_world):
    world = make_world(3, rounds=1)
    world.federate(strategy="fedprox", proximal_mu=0.25)
    config = world.sites[0].configs[0]
    assert config["proximal-mu"] == 0.25 and config["server-round"] == 1


@pytest.mark.parametrize("strategy", ["krum", "multikrum", "bulyan"])
def test_byzantine_rules_do_not_follow_a_malicious_site(make_world, strategy):
    world = make_world(7, rounds=1)
    world.site("site-1").spoil = lambda _, made: {name: array + np.float32(0.5) for name, array in made.items()}
    world.federate(strategy=strategy, malicious=1, max_norm=0, max_change=0)
    good = trained(world, initial_model(world.run).tensors)
    made = tensors_after(world)
    nearest = min(max(float(np.abs(made[name] - each[name]).max()) for name in made) for site, each in good.items())
    assert nearest < 0.1


def test_krum_chooses_by_distances_that_fp32_would_lose(make_world):
    world = make_world(7, rounds=1)
    initial = initial_model(world.run).tensors
    shifts = dict(zip([site.name for site in world.sites], [0.0, 9, 1, 3, 2, 4, -9], strict=True))
    for site in world.sites:
        shift = np.float32(1e-6 * shifts[site.name])
        site.spoil = lambda _, made, shift=shift: {name: array + shift for name, array in initial.items()}
    world.federate(strategy="krum", malicious=1)
    # The score is the sum of squared distances to the n - f - 2 = 4 nearest: 2 (site-5) has the lowest, 1 + 1 + 4 + 4.
    made, name = tensors_after(world), max(initial, key=lambda each: initial[each].size)
    np.testing.assert_allclose(np.median(made[name] - initial[name]), 2e-6, rtol=0.05)


def test_results_do_not_depend_on_the_order_of_arrival_or_on_node_ids(make_world):
    first = make_world(5, out="a")
    second = make_world(5, out="b", backwards=True, first_node=900)
    for world in (first, second):
        world.federate(fraction=0.6)
    one, other = tensors_after(first), tensors_after(second)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_fraction_of_the_sites_is_sampled_anew_each_round(make_world):
    world = make_world(7, rounds=6)
    world.federate(fraction=0.5)
    chosen = [
        {line["site"] for line in world.lines() if line["phase"] == "train" and line["round"] == r} - {"all"}
        for r in range(1, 7)
    ]
    assert all(len(each) == 3 for each in chosen)
    assert len({frozenset(each) for each in chosen}) > 1


def test_sampling_leaves_the_global_generator_alone(make_world):
    random.seed(5)
    expected = random.random()
    random.seed(5)
    make_world(3, rounds=1).federate(fraction=0.7)
    assert random.random() == expected


# -- wires ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["weights", "delta"])
def test_wires_carry_the_same_federation(make_world, wire, kind):
    world = make_world(4, rounds=1, wire=wire, kind=kind)
    world.federate()
    initial = initial_model(world.run).tensors
    received = decode(encode(initial, wire), wire)
    for site in world.sites:
        assert all(np.array_equal(site.received[0][2][name], received[name]) for name in received)
    expected = weighted_mean(world, trained(world, received))
    tolerance = 1e-6 if wire == "fp32" else 5e-3
    made = tensors_after(world)
    for name, array in expected.items():
        np.testing.assert_allclose(made[name], array, rtol=tolerance, atol=tolerance)


def test_a_delta_is_added_to_what_the_site_received_not_to_what_the_server_holds(make_world):
    world = make_world(3, rounds=1, wire="bf16", kind="delta")
    received = decode(encode(initial_model(world.run).tensors, "bf16"), "bf16")
    for site in world.sites:
        site.spoil = lambda _, made: dict(received)
    world.federate()
    made = tensors_after(world)
    assert all(np.array_equal(made[name], received[name]) for name in made)


def test_bf16_halves_the_bytes(make_world):
    totals = {}
    for wire in ("fp32", "bf16"):
        summary = make_world(3, rounds=1, out=wire, wire=wire).federate()
        totals[wire] = summary["bytes_up"]
    names = len(initial_model(make_world(1).run).tensors)
    headers = 3 * names * 128
    assert totals["bf16"] - headers == pytest.approx((totals["fp32"] - headers) / 2)


def test_fedadam_moves_the_full_precision_model_under_bf16(make_world):
    world = make_world(3, rounds=1, wire="bf16")
    initial = initial_model(world.run).tensors
    for site in world.sites:
        # Every site sends back what it got: the mean differs from the server's fp32 model by the rounding alone.
        site.spoil = lambda _, made, site=site: dict(site.received[-1][2])
    world.federate(strategy="fedadam", server_lr=1e-9)
    made = tensors_after(world)
    for name, array in initial.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-6, atol=1e-8)
    received = decode(encode(initial, "bf16"), "bf16")
    assert any(np.abs(made[name] - received[name]).max() > 1e-5 for name in made)


# -- bad updates ---------------------------------------------------------------------------------------------------


def nan(_, made):
    name = sorted(made)[0]
    return made | {name: np.full_like(made[name], np.nan)}


def shape(_, made):
    name = sorted(made)[0]
    return made | {name: np.zeros((3, 3), np.float32)}


def dtype(_, made):
    return {name: array.astype(np.float64) for name, array in made.items()}


def huge(_, made):
    return {name: array * np.float32(1000) for name, array in made.items()}


def overflowing(_, made):
    return {name: np.full_like(array, 3e38) for name, array in made.items()}


def missing(_, made):
    return {name: made[name] for name in sorted(made)[1:]}


def extra(_, made):
    return made | {"backdoor": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (nan, "not finite"),
        (shape, "has shape (3, 3), wanted"),
        (huge, "norm is"),
        (overflowing, "norm is"),
        (missing, "missing"),
        (extra, "not asked for, 'backdoor'"),
    ],
)
def test_a_bad_update_is_left_out_by_name_and_the_run_goes_on(make_world, spoil, reason):
    world, clean = make_world(4, rounds=1), make_world(4, rounds=1, out="clean")
    world.site("site-2").spoil = spoil
    summary = world.federate()
    assert summary["status"] == "finished"
    (left_out,) = world.manifest()["left_out"]
    assert left_out["site"] == "site-2" and left_out["round"] == 1 and reason in left_out["reason"]
    updates = trained(clean, initial_model(clean.run).tensors)
    del updates["site-2"]
    made = tensors_after(world)
    for name, array in weighted_mean(world, updates).items():
        np.testing.assert_allclose(made[name], array, rtol=1e-5, atol=1e-7)


def test_another_dtype_is_left_out_by_name(make_world):
    world = make_world(4, rounds=1)
    world.site("site-3").spoil = dtype
    world.site("site-3").raw = True
    world.federate()
    (left_out,) = world.manifest()["left_out"]
    assert left_out["site"] == "site-3" and "float64" in left_out["reason"]


def test_a_site_that_is_alone_may_train_far_in_one_round(make_world):
    world = make_world(1, rounds=1)
    world.site("site-1").spoil = huge
    world.federate()
    assert world.manifest()["left_out"] == []


def test_the_norm_check_can_be_switched_off(make_world):
    world = make_world(3, rounds=1)
    world.site("site-2").spoil = huge
    world.federate(max_norm=0, max_change=0)
    assert world.manifest()["left_out"] == []


@pytest.mark.parametrize("claims", [-5, 0.5, float("nan"), float("inf"), 10**15])
def test_a_count_of_images_that_is_none_leaves_its_site_out(make_world, claims):
    world = make_world(3, rounds=1)
    world.site("site-2").claims = claims
    world.federate()
    (left_out,) = world.manifest()["left_out"]
    assert left_out["site"] == "site-2" and "num-examples" in left_out["reason"]


def test_all_updates_bad_is_a_failure_with_every_reason(make_world):
    world = make_world(3)
    for site, spoil in zip(world.sites, (nan, huge, missing), strict=True):
        site.spoil = spoil
    with pytest.raises(FederationError) as caught:
        world.federate()
    text = str(caught.value)
    assert "round 1" in text and all(site.name in text for site in world.sites)
    assert "not finite" in text and "norm" in text and "missing" in text
    assert caught.value.exit_code == 5
    assert world.manifest()["status"] == "failed" and "site-2" in world.manifest()["error"]


def test_all_sites_failing_in_training_is_a_failure_with_every_reason(make_world, site_error):
    world = make_world(3)
    for site in world.sites:
        site.fails = lambda kind, _, name=site.name: (
            site_error(f"DataError: disk of {name}") if kind == "train" else None
        )
    with pytest.raises(FederationError, match=r"site-1: DataError: disk of site-1; site-2: .*; site-3: "):
        world.federate()


def test_one_site_failing_is_left_out_with_its_own_words(make_world, site_error):
    world = make_world(4)
    world.site("site-3").fails = lambda kind, r: site_error("StorageError: full") if (kind, r) == ("train", 2) else None
    assert world.federate()["status"] == "finished"
    assert world.manifest()["left_out"] == [{"round": 2, "site": "site-3", "reason": "StorageError: full"}]


def test_too_few_good_updates_for_a_rule_is_a_failure_with_the_formula(make_world):
    world = make_world(5)
    world.site("site-2").spoil = nan
    with pytest.raises(FederationError, match=r"'krum' needs n >= 2 f \+ 3 = 5 .* n = 4.*site-2: .*not finite"):
        world.federate(strategy="krum")


def test_min_updates_holds_in_a_round(make_world):
    world = make_world(3)
    world.site("site-2").spoil = nan
    says = (
        r"needs the updates of at least 3 sites a round \(the larger of server.min_updates and .*policy.least_sites\)"
    )
    with pytest.raises(FederationError, match=says + "; here n = 2; site-2: .*go on with 'medveil-server resume'"):
        world.federate(min_updates=3)


def test_an_empty_aggregate_is_a_failure(make_world, monkeypatch):
    monkeypatch.setattr(FedAvg, "aggregate_train", lambda *_: (None, None))
    with pytest.raises(FederationError, match="made no model"):
        make_world(3).federate()


def test_a_model_that_is_not_finite_is_a_failure(make_world, monkeypatch):
    real = FedAvg.aggregate_train

    def poisoned(self, server_round, replies):
        arrays, metrics = real(self, server_round, replies)
        name = next(iter(arrays))
        arrays[name] = type(arrays[name])(np.full(arrays[name].shape, np.inf, np.float32))
        return arrays, metrics

    monkeypatch.setattr(FedAvg, "aggregate_train", poisoned)
    with pytest.raises(FederationError, match="not finite"):
        make_world(3).federate()


# -- deadlines -----------------------------------------------------------------------------------------------------


def test_a_silent_site_closes_the_round_without_it_and_is_not_asked_again(make_world):
    world = make_world(4, rounds=3)
    world.site("site-2").silent = lambda kind, _: kind == "train"
    summary = world.federate(round_deadline=1.5)
    assert summary["status"] == "finished"
    assert "site-2" not in summary["sites"]
    assert world.manifest()["left_out"][0] == {"round": 1, "site": "site-2", "reason": "no reply within 1.5 s"}
    node = next(node for node, site in world.grid.sites.items() if site.name == "site-2")
    assert world.grid.sent.count(("train", node)) == 1


def test_a_late_reply_counts_for_no_round_but_its_site_comes_back(make_world):
    world = make_world(4, rounds=3)
    closed = []

    class Close(Watcher):
        def left_out(self, round_, site, reason):
            closed.append(round_)

    world.site("site-2").silent = lambda kind, round_: (kind, round_) == ("train", 1) and not closed
    summary = world.federate(round_deadline=1.5, watch=Close())
    assert closed == [1]
    assert "site-2" in summary["sites"]
    rounds = {line["round"] for line in world.lines() if line["site"] == "site-2" and line["phase"] == "train"}
    assert rounds == {2, 3}


def test_sites_that_go_away_are_named_when_too_few_are_left(make_world):
    world = make_world(5)
    for name in ("site-1", "site-4"):
        world.site(name).silent = lambda kind, _: kind == "train"
    says = "site-1: no reply.*site-4: no reply.*; mend that, then go on with 'medveil-server resume'"
    with pytest.raises(FederationError, match=says):
        world.federate(strategy="krum", round_deadline=1.5)


def test_a_site_that_is_offline_misses_the_round(make_world):
    world = make_world(5)

    class Unplug(Watcher):
        def phase(self, round_, phase, sites):
            if round_ == 1:
                world.grid.offline = {100}

    world.federate(watch=Unplug())
    trained_in_2 = {line["site"] for line in world.lines() if line["round"] == 2 and line["phase"] == "train"}
    assert trained_in_2 == {"site-2", "site-3", "site-4", "site-5", "all"}


def test_everyone_gone_before_a_round_is_a_failure_that_names_them(make_world):
    world = make_world(2)

    class Unplug(Watcher):
        def phase(self, round_, phase, sites):
            world.grid.offline = set(world.grid.sites)

    with pytest.raises(FederationError, match=r"round 2: .*away or still busy after 0.3 s: site-1, site-2"):
        world.federate(watch=Unplug())


def test_everyone_gone_before_the_evaluation_is_a_failure(make_world):
    world = make_world(2, rounds=1)

    class Unplug(Watcher):
        def phase(self, round_, phase, sites):
            world.grid.offline = set(world.grid.sites)

    with pytest.raises(
        FederationError, match=r"none of site-1, site-2 came back .*; start them again, then go on with"
    ):
        world.federate(watch=Unplug())


# -- what a run leaves ---------------------------------------------------------------------------------------------


def test_metrics_lines_have_one_schema_and_validation_belongs_to_the_round_before(make_world):
    world = make_world(3, rounds=2)
    world.federate()
    lines = world.lines()
    assert all(set(line) == LINE for line in lines)
    found = {(line["round"], line["phase"]) for line in lines}
    assert found == {(0, "validation"), (1, "train"), (1, "validation"), (2, "train"), (2, "validation"), (2, "test")}
    for key in found:
        sites = [line["site"] for line in lines if (line["round"], line["phase"]) == key]
        assert sorted(sites) == ["all", "site-1", "site-2", "site-3"]
    validation = {
        line["round"]: line["loss"] for line in lines if (line["site"], line["phase"]) == ("all", "validation")
    }
    assert validation == pytest.approx({0: 1.0, 1: 0.5, 2: 1 / 3})
    # What one reply brings of two rounds is told in the order in which it was measured.
    told = [(line["round"], line["phase"]) for line in lines if line["site"] == "all"]
    assert told == [(0, "validation"), (1, "train"), (1, "validation"), (2, "train"), (2, "validation"), (2, "test")]
    assert all(line["auroc"] is None for line in lines)


def test_the_line_of_all_sites_is_weighted_and_adds_up(make_world):
    world = make_world(3, rounds=1)
    world.federate()
    lines = [line for line in world.lines() if line["phase"] == "train"]
    together = next(line for line in lines if line["site"] == "all")
    alone = [line for line in lines if line["site"] != "all"]
    assert together["n"] == 10 + 20 + 30
    assert together["bytes_up"] == sum(line["bytes_up"] for line in alone) > 0
    assert together["bytes_down"] == sum(line["bytes_down"] for line in alone) > 0
    assert together["seconds"] > 0


def test_without_evaluate_first_validation_is_measured_at_the_end_only(make_world):
    world = make_world(3, rounds=2, evaluate_first=False)
    world.federate()
    assert {line["round"] for line in world.lines() if line["phase"] == "validation"} == {2}


def test_summary_schema(make_world):
    world = make_world(3, rounds=1)
    summary = world.federate()
    assert summary == json.loads((world.out / "summary.json").read_text())
    assert summary["format"] == "medveil-summary" and summary["version"] == 1
    assert summary["run"] == world.run.run and summary["rounds"] == 1
    measures = {"accuracy", "balanced_accuracy", "auroc", "loss", "n", "majority_rate"}
    assert measures <= set(summary)
    assert all(set(each) == measures for each in summary["sites"].values())
    assert summary["accuracy"] == pytest.approx(0.8) and summary["n"] == 30 and summary["auroc"] is None
    assert summary["majority_rate"] == pytest.approx(0.6)
    assert summary["intervals"] is None and summary["intervals_note"]
    thief = summary["thief"]
    assert thief["owner"] == {"accuracy": pytest.approx(0.8), "auroc": None}
    assert thief["wrong_key"] is None and "no key" in thief["notes"]["wrong_key"]
    assert thief["public_stem"] is None and "not applicable" in thief["notes"]["public_stem"]
    assert summary["seconds"] > 0 and summary["bytes_up"] > 0 and summary["bytes_down"] > 0


def test_summary_holds_what_sites_measured_of_a_thief(make_world):
    world = make_world(3, rounds=1)
    for index, site in enumerate(world.sites):
        real = site._evaluate

        def stolen(round_, only, real=real, index=index):
            content = real(round_, only)
            for phase in ("wrong-key", "public-stem"):
                content["metrics"][f"{phase}-n"] = 10.0
                content["metrics"][f"{phase}-accuracy"] = 0.1 * (index + 1)
                content["metrics"][f"{phase}-auroc"] = 0.5
            return content

        site._evaluate = stolen
    thief = world.federate()["thief"]
    assert thief["wrong_key"] == {"accuracy": pytest.approx(0.2), "auroc": pytest.approx(0.5)}
    assert thief["public_stem"]["accuracy"] == pytest.approx(0.2)


def test_a_run_of_sites_that_tell_no_measure_ends_as_any_other(make_world):
    world = make_world(3, rounds=2)
    for site in world.sites:
        train, evaluate = site._train, site._evaluate

        def silent(content):
            record = content["metrics"]
            for name in list(record):
                if name.startswith("train-"):
                    del record[name]
                elif name not in {"num-examples", "seconds"}:
                    record[name] = 0.0 if name.endswith("-n") else math.nan
            return content

        site._train = lambda *given, train=train: silent(train(*given))
        site._evaluate = lambda *given, evaluate=evaluate: silent(evaluate(*given))
    summary = world.federate(patience=1)
    assert summary["status"] == "finished"
    assert summary["rounds"] == 2
    assert summary["accuracy"] is None
    assert all(line["loss"] is None for line in world.lines())


def test_manifest_says_what_the_run_was(make_world):
    world = make_world(3)
    world.federate(strategy="fedmedian")
    manifest = world.manifest()
    assert manifest["format"] == "medveil-manifest" and manifest["version"] == 1
    assert manifest["run"] == world.run.run and manifest["status"] == "finished" and manifest["error"] is None
    assert manifest["run_config"]["classes"] == ["healthy", "ill"]
    assert manifest["server"]["strategy"] == "fedmedian"
    assert [row["site"] for row in manifest["sites"]] == ["site-1", "site-2", "site-3"]
    assert manifest["sites"][0]["n_train"] == 10
    assert manifest["started"] <= manifest["ended"]
    assert manifest["environment"]["flwr"] and manifest["device"]


def test_a_folder_that_holds_a_run_is_not_overwritten(make_world):
    world = make_world(3, rounds=1)
    world.federate()
    before = (world.out / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        world.federate()
    assert (world.out / "manifest.json").read_bytes() == before


def test_too_few_sites_is_refused_before_any_site_is_asked(make_world):
    world = make_world(4)
    with pytest.raises(ConfigError, match=r"'krum' needs n >= 2 f \+ 3 = 5 for f = 1 malicious sites; here n = 4"):
        world.federate(strategy="krum")
    assert world.grid.sent == []
    assert world.manifest()["error"].startswith("ConfigError: ")


def test_a_policy_that_would_publish_the_key_is_refused(make_world):
    world = make_world(2, keys="shared", stem_init="adapted", cipher={"scheme": "block-pixel", "block": 8})
    with pytest.raises(PolicyError, match="publishes the key"):
        world.federate()
    assert world.grid.sent == []


def test_only_what_travels_by_policy_is_sent(make_world):
    world = make_world(2, rounds=1, stem_train="local")
    world.federate()
    sent = set(world.sites[0].received[0][2])
    assert sent and not any(name.startswith(("patch_embed", "pos_embed")) for name in sent)


def test_an_interrupt_is_written_down_and_passed_on(make_world):
    world = make_world(3)
    world.site("site-2").fails = lambda kind, r: KeyboardInterrupt() if (kind, r) == ("train", 2) else None
    with pytest.raises(KeyboardInterrupt):
        world.federate()
    assert world.manifest()["status"] == "interrupted"


def test_a_defect_is_written_down_and_passed_on(make_world):
    world = make_world(3)
    world.site("site-2").fails = lambda kind, r: ZeroDivisionError("oops") if (kind, r) == ("train", 2) else None
    with pytest.raises(ZeroDivisionError):
        world.federate()
    assert world.manifest()["status"] == "failed" and world.manifest()["error"] == "ZeroDivisionError: oops"


def test_a_failed_evaluation_at_one_site_leaves_the_others(make_world, site_error):
    world = make_world(3, rounds=1)
    world.site("site-2").fails = lambda kind, _: site_error("DataError: gone") if kind == "evaluate" else None
    summary = world.federate()
    assert set(summary["sites"]) == {"site-1", "site-3"} and summary["n"] == 20


def test_a_failed_evaluation_everywhere_is_a_failure(make_world, site_error):
    world = make_world(2, rounds=1)
    for site in world.sites:
        site.fails = lambda kind, _: site_error("DataError: gone") if kind == "evaluate" else None
    with pytest.raises(FederationError, match="no site measured the final model; site-1: DataError: gone"):
        world.federate()
    assert not (world.out / "summary.json").exists()


def test_fedavgm_goes_on_in_the_direction_of_the_rounds_before(make_world):
    plain, moving = make_world(4, out="plain"), make_world(4, out="moving")
    plain.federate(most_share=1.0)
    moving.federate(strategy="fedavgm", momentum=0.5, most_share=1.0)
    first = tensors_after(moving, 1)
    start = initial_model(moving.run).tensors
    for name, mean in weighted_mean(moving, trained(moving, first, 2)).items():
        assert np.allclose(first[name], tensors_after(plain, 1)[name], atol=1e-6)
        expected = first[name] - (0.5 * (start[name] - first[name]) + (first[name] - mean))
        assert np.allclose(tensors_after(moving, 2)[name], expected, atol=1e-5)


def test_qfedavg_counts_all_alike_at_zero_and_the_worse_off_more_above_it(make_world):
    def told(loss):
        def answers(kind, round_, content):
            if kind == "train":
                content["metrics"]["train-loss"] = loss
            return content

        return answers

    found = {}
    for q in (0.0, 2.0):
        world = make_world(3, rounds=1, out=f"q{q:g}")
        world.site("site-1").answers = told(4.0)
        world.federate(strategy="qfedavg", q=q, client_lr=1.0, most_share=1.0)
        found[q] = tensors_after(world, 1)
    own = trained(world, initial_model(world.run).tensors)
    for name in own["site-1"]:
        mean = sum(own[site][name] for site in own) / 3
        assert np.allclose(found[0.0][name], mean, atol=1e-5)
    start = initial_model(world.run).tensors
    name = max(own["site-1"], key=lambda each: own["site-1"][each].size)
    towards = (own["site-1"][name] - sum(own[site][name] for site in own) / 3).ravel()
    moved = {q: ((found[q][name] - start[name]).ravel() @ towards) for q in found}
    assert moved[2.0] / np.linalg.norm(found[2.0][name] - start[name]) > moved[0.0] / np.linalg.norm(
        found[0.0][name] - start[name]
    )


@pytest.mark.parametrize("loss", [None, math.nan, -1.0, math.inf])
def test_who_tells_no_loss_has_no_part_in_qfedavg(make_world, loss):
    world = make_world(3, rounds=1)

    def answers(kind, round_, content):
        if kind == "train":
            del content["metrics"]["train-loss"]
            if loss is not None:
                content["metrics"]["train-loss"] = loss
        return content

    world.site("site-2").answers = answers
    world.federate(strategy="qfedavg", most_share=1.0)
    (left,) = world.manifest()["left_out"]
    assert (left["round"], left["site"]) == (1, "site-2")


def test_qfedavg_is_no_strategy_under_a_promise_of_privacy():
    from fl_server.runnable import check_unmeasured  # noqa: PLC0415

    run = SimpleNamespace(private=object())
    with pytest.raises(PolicyError, match="weighs sites by their training loss, and no noise covers that"):
        check_unmeasured(run, ServerConfig(strategy="qfedavg"))
