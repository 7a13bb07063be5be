"""What a site has for itself: norms that stay at home, and a model beside the shared one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from planned_site import MakePlan, incoming, setup

from fl_client import work
from fl_client.personal import own_after, train_own
from fl_client.site import Site
from fl_client.site_model import model_after
from fl_client.training import predict
from medveil.contract import EPSILON, RunConfig
from medveil.errors import ConfigError
from medveil.training import TrainConfig
from models.light import norm_names
from models.travel import tensors

DITTO = ("train.personal=ditto", "train.personal_mu=0.1")
SLOWLY = ("train.optimizer=sgd", "train.lr=0.01", "train.epochs=3", "evaluate_first=false")
PRIVATE = ("privacy.unit=example", "privacy.epsilon=4", "privacy.delta=1e-3", "evaluate_first=false")


def equal(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def away(site: Site, plain: dict, round_: int) -> float:
    """How far the site's own model is from the shared one it was drawn to."""
    own = tensors(own_after(site, round_, plain), site.trainable)
    shared = tensors(model_after(site, round_ - 1, plain), site.trainable)
    return sum(float((own[name] - shared[name]).square().sum()) for name in own) ** 0.5


def test_ditto_sends_what_would_be_sent_without_it_and_answers_by_its_own(planned: MakePlan, tmp_path: Path) -> None:
    plain, own = planned(), planned(*DITTO)
    bare, site = Site(plain.run, setup(plain, tmp_path / "a")), Site(own.run, setup(own, tmp_path / "b"))
    sent = incoming(bare)
    assert site.travelling == bare.travelling
    outgoing = [work.train(each, 1, sent)[0] for each in (bare, site)]
    assert equal(*outgoing)
    assert site.personal is not None
    assert site.personal.rounds() == [0, 1]
    mine = tensors(own_after(site, 1, sent), site.trainable)
    assert mine["head.weight"].numpy().tobytes() not in (site.personal.folder / "round-0001.sealed").read_bytes()
    # A round that is repeated begins where it began, at another opening of the site too.
    again = Site(own.run, setup(own, tmp_path / "b"))
    assert equal(outgoing[0], work.train(again, 1, sent)[0])
    assert equal(mine, tensors(own_after(again, 1, sent), again.trainable))
    measured = work.evaluate(site, 1, sent)
    answers, part = np.load(tmp_path / "b" / "predictions.npz")["probabilities"], site.store.part("test")
    np.testing.assert_array_equal(answers, predict(own_after(site, 1, sent), part, site.train_config))
    assert not np.array_equal(answers, predict(model_after(site, 1, sent), part, site.train_config))
    assert measured["test-accuracy"] == pytest.approx((answers.argmax(1) == part.labels).mean())


def test_a_stronger_pull_keeps_the_own_model_nearer(planned: MakePlan, tmp_path: Path) -> None:
    far = []
    for mu in ("0.001", "100"):
        plan = planned("train.personal=ditto", f"train.personal_mu={mu}", *SLOWLY)
        site = Site(plan.run, setup(plan, tmp_path / mu))
        sent = incoming(site)
        train_own(site, work._plan(site, 1, site.train_config.personal_mu, 0), sent)
        far.append(away(site, sent, 1))
    assert far[1] < far[0] / 2, far


def test_under_privacy_nothing_is_told_of_the_own_model(planned: MakePlan, tmp_path: Path) -> None:
    pytest.importorskip("opacus")
    told = []
    for name, more in (("plain", ()), ("ditto", DITTO)):
        plan = planned(
            *PRIVATE, *more, "rounds=1", "train.scope=head", "stem.init=adapted", "stem.train=frozen", arm="plain"
        )
        plan.run.run = "one-run"
        site = Site(plan.run, setup(plan, tmp_path / name))
        sent = incoming(site)
        out = work.train(site, 1, sent)[0]
        told.append((out, work.evaluate(site, 1, out), np.load(tmp_path / name / "predictions.npz")))
    (plain, said, answers), (ditto, also_said, own_answers) = told
    assert equal(plain, ditto)
    measures = {name: value for name, value in said.items() if name != "seconds"}
    assert {name: also_said[name] for name in measures} == pytest.approx(measures, nan_ok=True)
    assert also_said[EPSILON] == said[EPSILON]
    assert not np.array_equal(answers["probabilities"], own_answers["probabilities"])


def test_norms_at_home_train_and_never_travel(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned("train.personal=norms")
    sites = [Site(plan.run, setup(plan, tmp_path / str(index), index=index)) for index in (0, 1)]
    norms = set(norm_names(sites[0].bench.model))
    assert "norm.weight" in norms
    assert "blocks.0.norm1.bias" in norms
    sent = incoming(sites[0])
    assert not norms & set(sent)
    kept = []
    for site in sites:
        out, _ = work.train(site, 1, sent)
        assert set(out) == set(sent)
        found = site.vault.load(before=2)
        assert found is not None
        assert norms <= set(found[1])
        kept.append(found[1])
        model = dict(model_after(site, 1, out).state_dict())
        assert all(torch.equal(model[name], found[1][name]) for name in norms)
    public = sites[0].bench.public
    assert all(any(not torch.equal(each[name], public[name]) for name in norms) for each in kept)
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in norms)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"personal": "fedbn"}, "'personal' is not known"),
        ({"personal": "norms", "scope": "head"}, "'scope' trains none"),
        ({"personal": "norms", "scope": "lora-core"}, "'scope' trains none"),
        ({"personal": "ditto", "minutes": 1.0}, "'minutes' are shared out for one"),
        ({"personal": "ditto", "personal_mu": 0.0}, "draws its model to nothing"),
        ({"personal_mu": -1.0}, "'personal_mu' is out of its range"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        TrainConfig(**changes).check()


@pytest.mark.parametrize("personal", ["norms", "ditto"])
def test_pre_training_leaves_one_trunk_for_all(personal: str) -> None:
    run = RunConfig(task="masked-autoencoding", train=dataclasses.asdict(TrainConfig(personal=personal)))
    with pytest.raises(ConfigError, match=f"'personal' is {personal}"):
        run.check_settings()
