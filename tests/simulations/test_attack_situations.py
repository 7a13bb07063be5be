"""Situations of attacks on updates: what they give, why a cell is not applicable; updates are real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medveil.errors import ConfigError
from models.policy import POLICIES
from simulations.attacks.situations.capabilities import MODELS, Capability, model_of
from simulations.attacks.situations.lacking import lacking_in
from simulations.attacks.situations.making import summed
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig, situation_of
from simulations.attacks.study.cases import Knowledge

Make = Callable[..., UpdateSetting]


def here(scheme: str = "block-pixel", **told: Any) -> Any:
    return situation_of(UpdateConfig(**told), scheme=scheme)


def test_letters_are_those_of_the_literature() -> None:
    assert model_of({Capability.UPDATES, Capability.STEM_UPDATE}) == "A"
    assert model_of({Capability.UPDATES, Capability.BASICS, Capability.WHOLE_MODEL}) == "B"
    assert model_of({Capability.TRAINING}) == "C"
    assert model_of({Capability.SURROGATE}) == "D"
    assert model_of({Capability.DISTRIBUTION}) == "E"
    assert model_of({Capability.MANIPULATION}) == "F"
    assert model_of({Capability.MANIPULATION, Capability.SURROGATE}) == "G"
    assert model_of({Capability.SELECTION}) == "H"
    assert "".join(MODELS) == "ABCDEFGH"


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_every_policy_says_what_it_holds_back(policy: Any) -> None:
    scheme = "none" if policy.keys == "none" else "block-pixel"
    told = {"keys": policy.keys, "stem_init": policy.init, "stem_train": policy.train}
    for knows in (True, False):
        lacks = lacking_in(here(scheme, **told, knows_weights=knows))
        assert (Capability.STEM_UPDATE in lacks) == (policy.train != "averaged")
        assert (Capability.WHOLE_MODEL in lacks) == (
            policy.init == "secret" or (policy.train != "averaged" and not knows)
        )
        assert Capability.BLOCK_UPDATE not in lacks


@pytest.mark.parametrize(
    ("told", "what", "words"),
    [
        ({"sites": 3}, Capability.SINGLE_SITE, "sums of 3 sites"),
        ({"scope": "head"}, Capability.BLOCK_UPDATE, "no matrix of the first block"),
        ({"scope": "lora-core"}, Capability.BLOCK_UPDATE, "a small core of the first block"),
        ({"scope": "last-2-blocks"}, Capability.BLOCK_UPDATE, "does not reach the first block"),
        ({"scope": "bias", "keys": "shared", "stem_init": "public"}, Capability.STEM_UPDATE, "scope bias"),
        ({"batch": 4}, Capability.ONE_IMAGE, "4 images"),
        ({"images": 3}, Capability.ONE_STEP, "3 steps"),
        ({"mode": DEPLOYMENT}, Capability.LINEAR, "adamw"),
        (
            {"keys": "shared", "stem_init": "public"},
            Capability.PLAIN_CANDIDATES,
            "a key that the attacker does not have",
        ),
    ],
)
def test_what_is_lacking_has_a_reason(told: dict[str, Any], what: Capability, words: str) -> None:
    assert words in lacking_in(here(**told))[what]


def test_a_run_that_medveil_refuses_is_refused_here() -> None:
    assert "privacy" in str(here(epsilon=8.0).refused())
    assert here(epsilon=8.0, keys="shared", stem_init="public").refused() is None
    assert "no stem can follow" in str(here("etc").refused())
    assert "masked-autoencoding" in str(here(task="masked-autoencoding").refused())


@pytest.mark.parametrize("told", [{"mode": "both"}, {"wire": "int8"}, {"kind": "sum"}, {"sites": 0}, {"images": 0}])
def test_what_cannot_be_is_refused_by_name(told: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(told))):
        here(**told)


def made(setting: UpdateSetting, *, updates: int = 1) -> UpdateCase:
    return update_case(setting, 0, setting.situation, updates=updates)


def test_an_adapted_stem_at_home_sends_what_the_plain_twin_sends(update_setting: Make) -> None:
    told = {"stem_train": "local", "kind": "delta"}
    plain = made(update_setting(**told)).extra[Knowledge.WEIGHTS][0].change
    hidden = made(update_setting("block-pixel", **told)).extra[Knowledge.WEIGHTS][0].change
    assert plain.keys() == hidden.keys()
    assert "pos_embed" not in plain
    largest = max(np.abs(each).max() for each in plain.values())
    assert all(np.allclose(plain[name], hidden[name], atol=1e-4 * largest) for name in plain)


def test_a_sum_is_the_mean_of_its_sites_to_the_step_of_fixed_point(update_setting: Make) -> None:
    case = made(update_setting(sites=3))
    update = case.extra[Knowledge.WEIGHTS][0]
    assert (update.sites, update.images) == (3, 3)
    single = [case.federation.sent(each) for each in case.hospitals[0]]
    clipped = [_scaled(each) for each in single]
    for name, each in update.change.items():
        mean = np.mean([one[name] for one in clipped], axis=0)
        assert np.abs(each - mean).max() < 1e-7
    assert np.array_equal(summed(single)["head.bias"], update.change["head.bias"])


def _scaled(change: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    norm = float(np.sqrt(sum(float((each.astype(np.float64) ** 2).sum()) for each in change.values())))
    return {name: each * min(1.0, 4.0 / norm) for name, each in change.items()}


def test_noise_is_in_what_a_private_round_sends(update_setting: Make) -> None:
    pytest.importorskip("opacus")
    quiet, noisy = (
        made(update_setting(scope="head", epsilon=epsilon)).extra[Knowledge.WEIGHTS][0].change for epsilon in (0.0, 1.0)
    )
    off = np.abs(noisy["head.weight"] - quiet["head.weight"]).mean()
    assert off > np.abs(quiet["head.weight"]).mean()


def test_whoever_does_not_know_the_weights_guesses_others(update_setting: Make) -> None:
    for knows in (True, False):
        case = made(update_setting("block-pixel", knows_weights=knows))
        exchange = case.extra[Knowledge.UPDATES]
        theirs, public = exchange.model(), case.federation.public()
        sent = [name for name, _ in public.named_parameters() if name in exchange.travelling]
        kept = [name for name, _ in public.named_parameters() if name not in exchange.travelling]
        assert kept and all(_same(theirs, public, name) for name in sent)
        assert all(_same(theirs, public, name) for name in kept if "weight" in name) == knows


def _same(one: Any, other: Any, name: str) -> bool:
    return bool((one.state_dict()[name] == other.state_dict()[name]).all())


def test_the_control_hides_and_holds_back_nothing(update_setting: Make) -> None:
    setting = update_setting("block-pixel", mode=DEPLOYMENT, scope="head", sites=2, knows_weights=False)
    control = setting.under("none")
    assert control.unprotected and not replace(setting).unprotected
    here = setting.situation.unprotected()
    assert (here.images, here.sites, here.epsilon, here.train.optimizer) == (1, 1, 0.0, "sgd")
    assert not {Capability.STEM_UPDATE, Capability.WHOLE_MODEL, Capability.ONE_IMAGE} & lacking_in(here).keys()
