"""A site of a run with privacy: what it charges, what it tells, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_site import evaluated
from planned_site import MakePlan, incoming, setup

from crypto import sealed_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client import work
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.own_keys import OwnKeys
from fl_client.deployment.promises import check_epsilon, check_promise
from fl_client.deployment.running import said_of_privacy
from fl_client.export.held import MODELS
from fl_client.export.kept import open_kept
from fl_client.export.model_card import model_card
from fl_client.leaving import Leaving
from fl_client.privacy import accountant
from fl_client.privacy.budget import members_of
from fl_client.privacy.ledger import FILE, Ledger
from fl_client.site import Site
from medveil.contract import EPSILON, RunConfig, measure_key
from medveil.errors import ConfigError, FederationError, PolicyError
from medveil.privacy import PrivacyConfig
from medveil.wire import Tensors

KEYS = OwnKeys(Keyring(SiteKey.generate("st-anna")))
PROMISED = ("privacy.unit=example", "privacy.epsilon=4", "privacy.delta=1e-3", "evaluate_first=false")
REAL: dict[str, Any] = {
    "privacy": {"unit": "patient", "epsilon": 4.0, "delta": 1e-3, "clip": 1.0},
    "stem_train": "frozen",
    "evaluate_first": False,
}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_phantoms(folder, PhantomConfig(sites=1, images=60, classes=2, size=32))
    return folder


def simulated(planned: MakePlan, folder: Path, *more: str) -> Site:
    plan = planned(*PROMISED, "rounds=2", *more, arm="plain")
    return Site(plan.run, setup(plan, folder))


def same(a: Tensors, b: Tensors) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_a_site_tells_what_a_run_came_to_and_no_loss_of_a_batch(planned: MakePlan, tmp_path: Path) -> None:
    site = simulated(planned, tmp_path)
    sent, first = work.train(site, 1, incoming(site))
    # A server that skips rounds, or a site's own least noise: what came of that tells its images to the last one.
    told = replace(site.setup, leaving=Leaving(10))
    site.setup, given = told, site.setup
    assert work.evaluate(site, 2, sent)[EPSILON] == 4.0
    site.setup = given
    sent, _ = work.train(site, 2, sent)
    assert not [name for name in first if name.startswith(("train-", "validation-"))]
    metrics = work.evaluate(site, 2, sent)
    assert metrics[EPSILON] == pytest.approx(4.0, abs=0.05)
    assert metrics[EPSILON] <= 4.0
    assert measure_key("test", "auroc") in metrics
    spent = Ledger(tmp_path / FILE).spent()
    assert spent is not None and (spent.unit, spent.runs, spent.without) == ("example", 1, 0)
    for measure in (work.validate, work.evaluate):
        with pytest.raises(FederationError, match="measures no model but its last"):
            measure(site, 1, sent)
    with pytest.raises(FederationError, match="measures no model but its last"):
        work.validate(site, 2, sent)


@pytest.mark.slow
def test_a_simulation_that_is_made_again_is_the_same_and_a_real_site_draws_anew(
    planned: MakePlan, images: Path, tmp_path: Path
) -> None:
    site = simulated(planned, tmp_path / "simulated")
    sent = work.train(site, 1, incoming(site))[0]
    assert same(work.train(site, 1, incoming(site))[0], sent)
    assert same(work.train(simulated(planned, tmp_path / "again"), 1, incoming(site))[0], sent)

    real = evaluated(tmp_path / "real", images, KEYS, train={"scope": "head"}, **REAL)
    start = incoming(real)
    assert not same(work.train(real, 1, start)[0], work.train(real, 1, start)[0])
    assert len(real.ledger.of(real.run.run)) == 3, "each of the three was charged"


def test_a_model_card_says_what_noise_bounds_and_what_it_does_not(images: Path, tmp_path: Path) -> None:
    """Runs without noise on the same images are told beside the number: none covers them."""
    evaluated(tmp_path, images, KEYS, train={"scope": "head"})
    site = evaluated(tmp_path, images, KEYS, train={"scope": "head"}, **REAL, run="b" * 36)
    facts = open_kept(tmp_path / MODELS / f"{'b' * 36}.sealed", KEYS.own).facts
    assert site.budget is not None
    assert site.ledger.spent() is not None
    with pytest.raises(FederationError, match="its last model alone, and another was measured before"):
        work.evaluate(site, 1, incoming(site))
    card = model_card(facts, domain="plain")
    assert f"What one patient of this site could change in it is bounded: epsilon {site.budget.spent:.2f}" in card
    assert "at delta 0.001, with or without that patient (DP-SGD, norm 1 a patient" in card
    assert "1 more trained without noise, which no number covers." in card
    assert "Images for validation and test are not covered" in card
    assert "The server read this site's own updates." in card
    masked = {**facts, "run_config": {**facts["run_config"], "secagg": {"on": True}}}
    assert "The server opened sums of all sites' updates under masks" in model_card(masked, domain="plain")
    old = {name: value for name, value in facts.items() if name != "privacy"}
    assert "is bounded" not in model_card(old, domain="plain"), "of a model that an older MedVeil kept"


def test_patients_are_counted_where_something_tells_them_apart(planned: MakePlan, images: Path, tmp_path: Path) -> None:
    site = evaluated(tmp_path / "real", images, KEYS, train={"scope": "head"}, **REAL)
    assert site.budget is not None
    part = site.store.part("train")
    patients = {site.source.items[index].group for index in part.indices}
    members = site.budget._members
    assert len(members) == len(patients) < len(part)
    assert sorted(np.concatenate(members).tolist()) == list(range(len(part)))
    for rows in members:
        assert len({site.source.items[part.indices[row]].group for row in rows}) == 1
    site.source.items = (*(each._replace(group=None) for each in site.source.items[:1]), *site.source.items[1:])
    with pytest.raises(ConfigError, match="nothing says whose some of this site's images are"):
        members_of(site.source, np.arange(len(site.source)), ("",), site.budget.privacy)
    with pytest.raises(ConfigError, match="'unit' is patient, and nothing tells this site's patients apart"):
        simulated(planned, tmp_path / "npz", "privacy.unit=patient")
    with pytest.raises(ConfigError, match="'delta' is not below one over this site's number of units"):
        simulated(planned, tmp_path / "delta", "privacy.delta=0.05")


def test_the_smallest_delta_that_is_refused_does_not_tell_how_many_units_there_are() -> None:
    """A server chooses delta, run after run: by halves it found the number of patients, which nobody tells it."""

    source: Any = None  # Of examples nothing else is asked.

    def refused(units: int, delta: float, step: int) -> bool:
        try:
            promise = PrivacyConfig("example", delta=delta)
            return not members_of(source, np.arange(units), ("",) * units, promise, step=step)
        except ConfigError:
            return True

    assert [refused(units, 1 / 103.5, 1) for units in (101, 104)] == [False, True]
    for bound in (99.5, 100.5, 103.5, 109.5, 110.5):
        assert len({refused(units, 1 / bound, 10) for units in range(101, 111)}) == 1


def test_images_whose_scale_all_of_them_made_are_refused(planned: MakePlan, tmp_path: Path, tiny_npz: Path) -> None:
    """One image brighter than the rest makes all others darker: each gradient changes, and clipping bounds one."""
    with np.load(tiny_npz) as given:
        np.savez(tmp_path / "measured.npz", images=given["images"] * 3.7, labels=given["labels"])
    path = f"data.path={tmp_path / 'measured.npz'}"
    with pytest.raises(PolicyError, match="found by looking at all of them") as error:
        simulated(planned, tmp_path / "own", path)
    assert error.value.cure == "data.window at the site, or images of 8 bit"
    simulated(planned, tmp_path / "window", path, "data.window=[470,940]")


def test_without_what_counts_epsilon_a_run_is_refused(
    planned: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accountant, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="opacus is not installed"):
        simulated(planned, tmp_path)


# -- what would be void ------------------------------------------------------------------------------------------------


def contract(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "a",
        "classes": ["no", "yes"],
        "keys": "per-site",
        "stem_init": "adapted",
        **REAL,
    }
    return RunConfig(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stem_train": "local"}, "'stem.train' is local: that stem trains at home without noise"),
        ({"stem_warmup": 2}, "'stem.warmup' fits the stem to the site's images without noise"),
        ({"train": {"mixup": 0.2}}, "'train.mixup' mixes two images into one"),
        ({"train": {"class_weights": "balanced"}}, "'train.class_weights' are made of the site's own counts"),
        ({"train": {"logit_adjustment": 1.0}}, "'train.logit_adjustment' is made of the site's own counts"),
        ({"train": {"minutes": 3.0}}, "'train.minutes' ends rounds by the clock"),
        ({"evaluate_first": True}, "'evaluate_first' measures the model of every round"),
        (
            {"task": "masked-autoencoding", "pretrain": {}, "classes": []},
            "'task' is masked-autoencoding, whose last layer trains at home without noise",
        ),
    ],
)
def test_a_promise_that_would_be_void_is_refused_with_the_reason(changes: dict[str, Any], why: str) -> None:
    contract().check()
    with pytest.raises(PolicyError, match="'privacy' would promise what does not hold") as error:
        contract(**changes).check()
    assert why in str(error.value)
    assert error.value.cure
    contract(**{**changes, "privacy": {}}).check()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"unit": "image"}, "unit"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": 1e6}, "epsilon"),
        ({"epsilon": 0.015, "delta": 1e-5}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 0.5}, "delta"),
        ({"clip": 0.0}, "clip"),
        ({"clip": float("inf")}, "clip"),
        ({"clip": 1e-40}, "clip"),
    ],
)
def test_a_promise_out_of_its_range_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' "):
        contract(privacy={**REAL["privacy"], **changes}).check()


@pytest.mark.parametrize(
    ("limits", "changes", "says"),
    [
        ({"epsilon": 8.0}, {"privacy": {}}, "limits.epsilon: this site agrees to epsilon 8 in all, and the run has no"),
        ({"epsilon": 2.0}, {}, "limits.epsilon: this site agrees to epsilon 2 in all, and the run asks for more"),
        ({"delta": 1e-5}, {}, "limits.delta: this site agrees to delta 1e-05 in all, and the run asks for more"),
        ({"smallest_count": 1}, {}, "this site tells measures exactly, and no noise covers them"),
    ],
)
def test_a_site_refuses_what_promises_too_little(limits: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    allowed = LimitsConfig(**{"delta": 1e-2, **limits})
    allowed.check(where="site.yaml")
    with pytest.raises(ConfigError) as error:
        check_promise(contract(**changes), allowed)
    assert says in str(error.value)
    check_promise(contract(), LimitsConfig(delta=1e-2))


def test_a_site_refuses_the_round_that_would_be_one_too_many() -> None:
    limits = LimitsConfig(epsilon=2.0, delta=1e-4)
    check_epsilon(lambda delta: 2.0 if delta == 1e-4 else 9.0, limits)
    check_epsilon(lambda delta: 9.0, replace(limits, epsilon=None))
    with pytest.raises(PolicyError, match="more than epsilon 2 in all runs"):
        check_epsilon(lambda delta: 2.001, limits)


def test_status_says_it_in_a_line() -> None:
    found = {"unit": "patient", "epsilon": 2.344, "delta": 1e-5, "runs": 1, "without": 0, "limit": None}
    assert said_of_privacy(found) == "1 run cost each patient epsilon 2.34 at delta 1e-05"
    more = said_of_privacy({**found, "runs": 2, "limit": 8.0, "without": 3})
    assert more.startswith("2 runs cost each patient epsilon 2.34 of 8 at delta 1e-05; 3 more without noise")


def test_promises_are_of_the_contract_and_older_ones_have_none() -> None:
    run = contract()
    assert RunConfig.from_json(run.to_json()).private == PrivacyConfig("patient", 4.0, 1e-3, 1.0)
    assert RunConfig(run="a", classes=["no", "yes"]).private is None
