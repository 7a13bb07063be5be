"""Attacks on updates: each on its control, on what the policies send, and why it does not apply where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from fl_client.data.rng import generator
from models.policy import POLICIES
from simulations.attacks.chained.chain import Chain
from simulations.attacks.networks.autoencoder import Learning, learned
from simulations.attacks.registry import ATTACKS
from simulations.attacks.situations.situation import UpdateConfig
from simulations.attacks.situations.update_attack import UpdateAttack
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import Result
from simulations.attacks.updates.gradient_matching import GradientMatching
from simulations.attacks.updates.matched import Descent
from simulations.attacks.updates.prior_matching import PriorMatching

Make = Callable[..., Any]
ON_UPDATES = [name for name, attack in ATTACKS.items() if issubclass(attack, UpdateAttack)]
WANTS: dict[str, dict[str, Any]] = {
    "site-inference": {"sites": 2},
    "stolen-model": {"mode": "deployment"},
    "planted-within": {"sites": 2},
    "loki": {"sites": 2, "one_model": False},
    "peft-leak": {"server_weights": True},
}
"""What a situation must have for an attack to apply at all."""
ADAPTED = {"keys": "per-site", "stem_init": "adapted", "stem_train": "local"}


def result(name: str, setting: Any) -> Result:
    return measure(ATTACKS[name](), setting).result


def figure(found: Result, metric: str = "ssim", arm: str = "target") -> float:
    value = getattr(found.metrics[metric], arm)
    assert value is not None
    return float(value)


def test_the_stem_gives_one_image_away_exactly_and_two_mixed(update_setting: Make) -> None:
    one = result("stem-closed-form", update_setting())
    assert (one.verdict, figure(one), figure(one, arm="control")) == ("succeeds", 1.0, 1.0)
    two = result("stem-closed-form", update_setting(batch=2))
    assert two.verdict in {"at chance", "above chance"}
    assert (figure(two) < 0.5, figure(two, arm="control")) == (True, 1.0)


def test_under_a_shared_key_the_stem_gives_ciphertexts_away(update_setting: Make) -> None:
    found = result("stem-closed-form", update_setting("block-pixel", keys="shared"))
    assert figure(found, "ssim_read") > 0.99
    assert found.verdict == "at chance"
    assert found.target["situation"]["keys"] == "shared"
    assert any("Threat model A" in note for note in found.notes)


def test_ciphertexts_out_of_updates_are_laid_to_images(update_setting: Make) -> None:
    found = measure(Chain(images=8), update_setting("block-pixel", keys="shared", count=1, images=8)).result
    assert found.verdict == "succeeds"
    assert figure(found, "ssim_8") > 0.9
    plain = measure(Chain(images=8), update_setting(images=8)).result
    assert "nothing is hidden" in str(plain.reason)


def test_april_holds_where_it_was_published_and_not_on_a_stock_model(update_setting: Make) -> None:
    found = result("april", update_setting(width=96, init="mimetic"))
    assert figure(found, "ssim", "control") > 0.7
    assert found.verdict == "at chance"
    assert "64 numbers, and the model is 48 wide" in str(result("april", update_setting()).reason)


def test_the_span_tells_who_is_in_a_sum_whatever_key_the_stem_was_adapted_to(update_setting: Make) -> None:
    found = result("span", update_setting("block-pixel", sites=2, **ADAPTED))
    assert (found.verdict, figure(found, "auroc")) == ("succeeds", 1.0)


def test_a_core_of_more_rank_than_tokens_spans_them_too(update_setting: Make) -> None:
    found = result("span", update_setting("block-pixel", scope="lora-core", rank=40, **ADAPTED))
    assert (found.verdict, figure(found, "auroc")) == ("succeeds", 1.0)
    small = result("span", update_setting("block-pixel", scope="lora-core", **ADAPTED))
    assert "fewer than a core's rank (16): here 17 of 1 images" in str(small.reason)


def test_the_span_gives_an_image_away_whose_stem_stayed_home(update_setting: Make) -> None:
    found = result("span-inversion", update_setting("block-pixel", width=96, **ADAPTED))
    assert found.verdict == "succeeds"
    assert figure(found, "psnr") > 40


def test_the_span_ends_where_tokens_fill_the_width(update_setting: Make) -> None:
    assert "51 of 3 images, and 48" in str(result("span", update_setting(batch=3)).reason)
    deployed = result("span", update_setting(mode="deployment"))
    assert "needs an update that is one step" in str(deployed.reason)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are slower on two threads, on a busy machine by far."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small(update_setting: Make) -> Make:
    """Images of 16 patches of 16 pixels, before a model whose attention is not even at the start."""

    def make(scheme: str = "none", **told: Any) -> Any:
        sizes = {"size": 16, "block": 4, "width": 32, "depth": 1, "init": "mimetic"}
        return update_setting(scheme, count=1, images=1, **sizes, **told)

    return make


def test_matching_through_a_known_stem_ties_with_plaintext_and_through_a_secret_one_fails(small: Make) -> None:
    attack = GradientMatching(descent=Descent(iterations=150), updates=1)
    found = measure(attack, small(stem_train="local")).result
    assert found.verdict == "succeeds"

    def through(setting: Any) -> dict[str, float]:
        case = attack.case(setting, 0)
        rng = generator(setting.seed, "attack", attack.name, "target", 0)
        return attack.score(attack.recover(case.seen(attack.known_in(setting)), rng), case)

    adapted = through(small("block-pixel", **ADAPTED))
    assert adapted["ssim"] == pytest.approx(figure(found), abs=0.1)
    others = {**ADAPTED, "stem_init": "secret"}, {**ADAPTED, "knows_weights": False}
    for told in others:
        made = through(small("block-pixel", **told))
        assert made["ssim"] < adapted["ssim"] / 2
        assert made["matching_loss"] > 50 * adapted["matching_loss"]


def test_a_prior_of_public_images_finds_what_pixels_alone_do_not(small: Make) -> None:
    made = {}
    descent = Descent(iterations=60, variation=0.0, rate=0.2)
    for attack in (
        PriorMatching(learning=Learning(width=32, steps=20), descent=descent, updates=1),
        GradientMatching(descent=Descent(iterations=60), updates=1),
    ):
        setting = small("block-pixel", scope="bias", **ADAPTED)
        case = attack.case(setting, 0)
        rng = generator(setting.seed, "attack", attack.name, "target", 0)
        made[attack.name] = attack.score(attack.recover(case.seen(attack.known_in(setting)), rng), case)
    assert made["prior-matching"]["ssim"] > made["gradient-matching"]["ssim"] + 0.2


def test_a_prior_begins_as_principal_components() -> None:
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(3, 1, 4, 4)) / 8
    images = np.einsum("nk,kchw->nchw", rng.normal(size=(50, 3)), axes)
    decoder = learned(images, Learning(code=8, width=4, steps=0), rng)
    assert decoder.linear.in_features == 3
    weight = decoder.linear.weight.double().numpy()
    left = (images - images.mean(0)).reshape(50, 16).T
    inside = weight @ np.linalg.lstsq(weight, left, rcond=None)[0]
    np.testing.assert_allclose(inside, left, atol=1e-5)


def test_the_classifier_alone_tells_who_was_in_it(update_setting: Make) -> None:
    found = result("head-features", update_setting("block-pixel", scope="head", **ADAPTED))
    assert (found.verdict, figure(found, "nearest")) == ("succeeds", 1.0)
    unknown = result("head-features", update_setting("block-pixel", scope="head", knows_weights=False, **ADAPTED))
    assert "does not know the public initial weights" in str(unknown.reason)


@pytest.mark.parametrize("name", ON_UPDATES)
def test_every_cell_applies_or_says_why_not(update_setting: Make, name: str) -> None:
    attack, reasons, wants = ATTACKS[name](), set(), WANTS.get(name, {})
    # Their images are the same.
    made = {scheme: update_setting(scheme, width=96, **wants) for scheme in ("none", "block-pixel")}
    kept = {each.name for each in fields(UpdateConfig)} & wants.keys()
    for policy in POLICIES:
        told = {"keys": policy.keys, "stem_init": policy.init, "stem_train": policy.train}
        told = {name: value for name, value in told.items() if name not in kept}
        of_policy = made["none" if policy.keys == "none" else "block-pixel"]
        for scope in ("full", "head", "last-1-block", "bias", "lora-core"):
            for epsilon in (0.0, 8.0):
                update = replace(of_policy.update, epsilon=epsilon, **({"scope": scope} | told))
                reasons.add(attack.refusal(replace(of_policy, update=update)))
    assert all(reason is None or reason.partition(":")[0] for reason in reasons)
    assert None in reasons
    assert any("MedVeil refuses such a run" in str(each) for each in reasons)


@pytest.mark.parametrize("name", ON_UPDATES)
def test_no_attack_has_more_images_than_it_may(update_setting: Make, name: str) -> None:
    attack = ATTACKS[name]().within(5)
    batch = 1 if name == "site-inference" else 2
    setting = replace(update_setting(images=5, batch=batch, width=96, of_a_site=2, **WANTS.get(name, {})), at_most=5)
    assert 2 <= len(attack.case(setting, 0).targets.labels) <= 4
    few = replace(setting, at_most=1)
    assert attack.refusal(few) is not None


def test_noise_keeps_the_stem_from_giving_an_image_away(update_setting: Make) -> None:
    pytest.importorskip("opacus")
    found = result("stem-closed-form", update_setting(epsilon=1.0))
    assert found.verdict == "at chance"
    assert np.isfinite(figure(found))
