"""What updates tell that is no image: labels, members, sites and keys. Each attack succeeds where nothing protects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crypto.base import Geometry
from models.config import ModelConfig
from models.rotary import ROWS
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig
from simulations.attacks.study.measure import measure
from simulations.attacks.theft.stolen_model import StolenModel
from simulations.attacks.updates.key_from_weights import WEIGHT, KeyFromWeights, matched
from simulations.attacks.updates.label_counts import LabelCounts
from simulations.attacks.updates.membership import Membership, MembershipWithKey
from simulations.attacks.updates.site_inference import SiteInference

Make = Callable[..., UpdateSetting]


@pytest.fixture(scope="module")
def setting(attack_setting: Callable[..., Any]) -> Make:
    """A tiny setting whose images train a tiny model."""

    def make(
        scheme: str = "none",
        *,
        under: int = 2,
        attacked: int = 4,
        trained: int | None = None,
        n: int = 240,
        **told: Any,
    ) -> UpdateSetting:
        plain = attack_setting(scheme, keys=under, images=attacked, n=n)
        config = UpdateConfig(model=ModelConfig(width=48, depth=1, heads=2), images=trained, **told)
        return UpdateSetting(plain.material, plain.config, keys=under, images=attacked, update=config)

    return make


def test_labels_are_read_from_one_image_and_counted_in_more(setting: Make) -> None:
    one = measure(LabelCounts(played=8), setting("block-pixel", under=2, attacked=8)).result
    assert (one.verdict, one.metrics["share"].target, one.metrics["share"].control) == ("succeeds", 1.0, 1.0)
    many = measure(LabelCounts(played=12), setting("block-pixel", mode=DEPLOYMENT, under=1, scope="head")).result
    assert many.metrics["share"].target > 0.85
    assert many.metrics["classes"].target == 1.0


def test_counts_of_a_sum_are_those_of_all_its_sites(setting: Make) -> None:
    result = measure(LabelCounts(played=4), setting("block-pixel", under=1, attacked=12, sites=3)).result
    assert result.reason is None
    assert np.isfinite(result.metrics["share"].target)
    assert "sums of 3 sites" in " ".join(result.notes)


def test_a_stem_that_follows_a_key_gives_it_away_where_it_is_sent(setting: Make) -> None:
    shared = {"mode": DEPLOYMENT, "keys": "shared", "stem_init": "public", "stem_train": "averaged"}
    here = setting("block-pixel", under=1, trained=48, rounds=4, **shared)
    result = measure(KeyFromWeights(), here).result
    assert result.reason is None
    assert result.metrics["key"].control == result.metrics["within_1"].control == 1.0
    assert result.metrics["within_1"].chance < 0.4
    # Of what a public stem learned in the domain of the key; pixels are placed, not named.
    assert result.metrics["within_1"].target > result.metrics["within_1"].chance + 0.2


def test_rows_of_a_rotary_table_are_the_order_of_blocks_as_it_stands() -> None:
    rng = np.random.default_rng(0)
    shape = Geometry(channels=1, height=32, width=32, block=8)
    weight, rho, pi = rng.normal(size=(48, 1, 8, 8)), rng.permutation(64), rng.permutation(16)
    moved = weight.reshape(48, 64)[:, rho].reshape(weight.shape)
    found = matched({WEIGHT: moved, ROWS: pi}, {WEIGHT: weight, ROWS: np.arange(16)}, shape)
    assert found.rho.tolist() == rho.tolist()
    assert found.pi is not None and found.pi.tolist() == pi.tolist()
    without = matched({WEIGHT: moved}, {WEIGHT: weight}, shape)
    assert without.pi is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"keys": "per-site", "stem_init": "adapted", "stem_train": "local"}, "the stem stays at the site"),
        ({"keys": "shared", "stem_init": "secret", "stem_train": "frozen"}, "the stem stays at the site"),
        ({"keys": "shared", "stem_init": "public", "stem_train": "averaged", "scope": "head"}, "scope head"),
    ],
)
def test_where_no_stem_is_sent_there_is_no_key_to_match(setting: Make, told: dict[str, Any], words: str) -> None:
    result = measure(KeyFromWeights(), setting("block-pixel", **told)).result
    assert (result.verdict, words in str(result.reason)) == ("not applicable", True)


ADAPTED = {"keys": "per-site", "stem_init": "adapted", "stem_train": "local"}


def test_members_are_told_where_a_run_remembers_and_by_cosines_where_an_update_is_one_image(setting: Make) -> None:
    result = measure(Membership(sites=3, references=2, others=40), setting("block-pixel", under=1, **ADAPTED)).result
    # One image, one step, no key: the update of a stem that followed the key is that of the plain image.
    assert result.metrics["auroc"].target > 0.9
    assert result.metrics["auroc"].control > 0.6
    assert result.verdict == "succeeds"
    assert result.metrics["tpr_1_rmia"].target is None


def test_a_key_tells_members_where_no_plain_image_is_read(setting: Make) -> None:
    shared = {"keys": "shared", "stem_init": "public", "stem_train": "averaged"}
    attack, here = MembershipWithKey(sites=3, references=2, others=40), setting("block-pixel", under=1, **shared)
    assert attack.no_wrong_key is None
    case, rng = attack.case(here, 0), np.random.default_rng(0)
    right, wrong = (attack.run(case, rng, wrong_key=each)["auroc"] for each in (False, True))
    # Tones of an image, which no permutation changes, tell something under any key.
    assert right > 0.9
    assert right >= wrong
    plain = measure(MembershipWithKey(), setting("none")).result
    assert plain.reason == "no key hides the images"


def test_a_sum_tells_which_of_two_updates_is_in_it(setting: Make) -> None:
    result = measure(SiteInference(played=4, trials=4), setting("block-pixel", under=1, sites=4)).result
    found = result.metrics
    assert result.verdict == "succeeds"
    assert found["right_2"].target == found["right_4"].target == found["right_2"].control == 1.0
    assert found["right_8"].target is None
    assert found["difference"].target > 0.5 > found["difference"].chance
    alone = measure(SiteInference(), setting("block-pixel")).result
    assert alone.reason is not None and "one site sends one update" in alone.reason


@pytest.mark.parametrize("attack", [Membership(), SiteInference(), StolenModel()], ids=lambda each: each.name)
def test_too_few_images_for_the_sites_are_said(setting: Make, attack: Any) -> None:
    few = setting("block-pixel", under=1, mode=DEPLOYMENT, trained=1, sites=2)
    few = replace(few, images=2, at_most=2)
    assert "may have 2" in str(measure(attack, few).result.reason)
