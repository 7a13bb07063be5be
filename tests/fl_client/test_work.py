"""What a server asks of a site, done there: rounds of training, and measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planned_site import MakePlan, incoming, setup

from crypto.keys import SimulatedKey
from fl_client import work
from fl_client.site import Site
from medveil.errors import (
    FederationError,
    IntegrityError,
)
from medveil.wire import Tensors
from models.stem import stem_names
from simulations.config import ExperimentConfig
from simulations.plan import make_plan

Tiny = Callable[..., ExperimentConfig]


def equal(a: Tensors, b: Tensors) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_what_a_site_says_of_itself(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned("data.partition.kind=dirichlet", "data.partition.alpha=0.3")
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    row = work.describe(site)
    truth = np.bincount(site.store.part("train").labels, minlength=2)
    assert row["counts"] == list(truth)
    assert row["classes"] == ["0", "1"] == plan.run.classes
    assert row["fingerprint"].startswith("sim-")
    assert (row["scheme"], row["block"], row["negate"]) == ("block-pixel", 4, True)
    assert len(row["model-hash"]) == 64
    document = json.loads((tmp_path / "a" / "site.json").read_text())
    assert document["parts"]["train"] == truth.sum()
    assert document["store"] == "built"
    assert Site(plan.run, setup(plan, tmp_path / "a")).store.built is False


def test_training_does_not_depend_on_who_trained_before_in_the_process(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned("train.mixup=0.2")
    alone = Site(plan.run, setup(plan, tmp_path / "alone"))
    sent = incoming(alone)
    first = [work.train(alone, round_, sent)[0] for round_ in (1, 2)]

    other = Site(plan.run, setup(plan, tmp_path / "other", index=1))
    late = Site(plan.run, setup(plan, tmp_path / "late"))
    assert other.bench is late.bench is alone.bench
    torch.manual_seed(99)
    second = []
    for round_ in (1, 2):
        work.train(other, round_, sent)
        work.evaluate(other, round_, sent)
        second.append(work.train(late, round_, sent)[0])
    assert equal(first[0], second[0])
    assert equal(first[1], second[1])
    assert not equal(first[0], work.train(other, 1, sent)[0])


def test_a_repeated_round_starts_from_the_stem_of_the_round_before(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    sent = incoming(site)
    work.train(site, 1, sent)
    second, _ = work.train(site, 2, sent)
    again, _ = work.train(site, 2, sent)
    assert equal(second, again)
    reopened = Site(plan.run, setup(plan, tmp_path / "a"))
    assert equal(second, work.train(reopened, 2, sent)[0])
    assert site.vault.rounds() == [0, 1, 2]


def test_a_frozen_stem_stays_and_a_local_one_moves(planned: MakePlan, tmp_path: Path, tiny: Tiny) -> None:
    for train, moves in (("local", True), ("frozen", False)):
        config = tiny(f"stem.train={train}", "stem.init=adapted")
        plan = make_plan(config, tmp_path / "run")
        site = Site(plan.run, setup(plan, tmp_path / train))
        work.train(site, 1, incoming(site))
        stems = [found[1] for before in (1, 2) if (found := site.vault.load(before=before))]
        assert set(stems[0]) == set(stem_names(site.bench.model))
        assert any(not torch.equal(stems[0][name], stems[1][name]) for name in stems[0]) is moves


def test_measures_of_the_incoming_and_the_final_model(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    sent = incoming(site)
    _, trained = work.train(site, 1, sent)
    n = len(site.store.part("train").labels)
    assert trained["num-examples"] == n
    assert trained["train-n"] == n
    assert trained["validation-n"] == len(site.store.part("validation").labels)
    measured = work.evaluate(site, 1, sent)
    for phase in ("validation", "test", "wrong-key", "public-stem"):
        assert {f"{phase}-accuracy", f"{phase}-auroc", f"{phase}-n"} <= set(measured)
    kept = np.load(tmp_path / "a" / "predictions.npz")
    assert kept["probabilities"].shape == (measured["test-n"], 2)
    assert (kept["probabilities"].argmax(1) == kept["labels"]).mean() == pytest.approx(measured["test-accuracy"])
    assert (tmp_path / "a" / "predictions.npz").stat().st_mode & 0o077 == 0
    plain = planned("evaluate_first=false", arm="plain")
    quiet = Site(plain.run, setup(plain, tmp_path / "b"))
    assert not any(key.startswith("validation") for key in work.train(quiet, 1, incoming(quiet))[1])
    assert not any(key.startswith(("wrong-key", "public-stem")) for key in work.evaluate(quiet, 1, incoming(quiet)))


def test_tensors_that_do_not_fit_are_refused(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    sent = incoming(site)
    missing = {name: array for name, array in sent.items() if name != "head.bias"}
    shaped = sent | {"head.bias": np.zeros(3, np.float32)}
    extra = sent | {"pos_embed": site.bench.public["pos_embed"].numpy()}
    for bad, name in ((missing, "head.bias"), (shaped, "head.bias"), (extra, "pos_embed")):
        with pytest.raises(FederationError, match=name):
            work.train(site, 1, bad)
    assert work.train(site, 1, sent)


def test_private_state_under_another_key_does_not_open(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    own = setup(plan, tmp_path / "a")
    site = Site(plan.run, own)
    work.train(site, 1, incoming(site))
    stranger = Site(plan.run, replace(own, key=SimulatedKey(7, "site-1")))
    with pytest.raises(IntegrityError, match="wrong key or changed file"):
        work.train(stranger, 2, incoming(stranger))


def test_moments_stay_at_home_sealed_and_a_repeated_round_begins_with_the_same(
    planned: MakePlan, tmp_path: Path
) -> None:
    plan = planned("train.state=kept", "train.optimizer=muon")
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    sent = incoming(site)
    first = work.train(site, 1, sent)[0]
    assert equal(first, work.train(site, 1, sent)[0]), "the first round begins without any"
    second = work.train(site, 2, sent)[0]
    reopened = Site(plan.run, setup(plan, tmp_path / "a"))
    assert equal(second, work.train(reopened, 2, sent)[0])
    assert set(second) == set(site.travelling)
    fresh = planned("train.optimizer=muon")
    forgetful = Site(fresh.run, setup(fresh, tmp_path / "b"))
    assert equal(first, work.train(forgetful, 1, sent)[0])
    assert not equal(second, work.train(forgetful, 2, sent)[0]), "the second round began without moments too"
    assert site.moments is not None
    assert site.moments.rounds() == [0, 1, 2]
    found = site.moments.load(before=3)
    assert found is not None
    assert any(name.startswith("exp_avg_sq/") for name in found[1])
    assert any(name.startswith("momentum_buffer/blocks.") for name in found[1])
    largest = max(found[1].values(), key=lambda tensor: tensor.numel()).numpy().tobytes()
    for file in site.moments.folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert largest[:64] not in file.read_bytes()
    # What was sealed as moments is no stem.
    (site.vault.folder / "round-0002.sealed").write_bytes((site.moments.folder / "round-0002.sealed").read_bytes())
    kept = site.vault.load(before=3)
    assert kept is not None
    assert kept[0] == 1
