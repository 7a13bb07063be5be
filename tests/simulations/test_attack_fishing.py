"""A server that sets the classifier alone reads one image out of a batch or a sum, in every scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fl_client.data.rng import generator
from models.config import ModelConfig
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import UpdateConfig
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import Result
from simulations.attacks.updates.fishing import Fishing, FishingImages, catch, fished
from simulations.attacks.updates.head_features import HeadFeatures
from simulations.attacks.updates.matched import Descent

Make = Callable[..., Any]
ADAPTED = {"keys": "per-site", "stem_init": "adapted", "stem_train": "local"}


@pytest.fixture
def fishing_setting(attack_setting: Make) -> Make:
    """Small images whose classes are uneven in each batch, before a tiny model."""

    def make(scheme: str = "none", *, images: int = 14, **told: Any) -> UpdateSetting:
        plain = attack_setting(scheme, keys=2, images=images, size=16, block=4)
        update = UpdateConfig(model=ModelConfig(width=32, depth=1, heads=2, init="mimetic"), **told)
        return UpdateSetting(plain.material, plain.config, keys=2, images=images, update=update)

    return make


def figure(found: Result, metric: str) -> float:
    value = found.metrics[metric].target
    assert value is not None
    return float(value)


@pytest.mark.parametrize("scope", ["full", "bias", "lora-core", "head"])
def test_one_class_of_a_batch_is_read_in_every_scope_behind_an_adapted_stem(fishing_setting: Make, scope: str) -> None:
    setting = fishing_setting("block-pixel", scope=scope, batch=7, **ADAPTED)
    honest, fished_for = measure(HeadFeatures(), setting).result, measure(Fishing(), setting).result
    assert fished_for.verdict == "succeeds"
    assert figure(fished_for, "auroc") > figure(honest, "auroc") + 0.1
    assert figure(fished_for, "images") < 3.5
    assert 0 < figure(fished_for, "step") < 100, "far below what a site has a word for in its log"


def test_it_goes_through_a_sum_and_needs_a_model_that_gives_the_same_features(fishing_setting: Make) -> None:
    summed = measure(Fishing(), fishing_setting(batch=5, images=10, sites=2)).result
    assert summed.verdict == "succeeds"
    secret = measure(Fishing(), fishing_setting("block-pixel", keys="per-site", stem_init="secret")).result
    assert "the stem is secret" in str(secret.reason)


def test_other_images_leave_nothing_in_row_and_model(fishing_setting: Make) -> None:
    setting = fishing_setting(batch=7)
    case = Fishing().case(setting, 0)
    federation, sites = case.federation, case.hospitals[0]
    sent = federation.decoded(fished(federation, sites))
    chosen = int(sent["head.bias"].argmin())
    of_all = federation.update(sites, base=sent).change
    only = catch(case).hospitals[0]
    alone = federation.update(only, base=sent).change
    share = len(only[0].images.labels) / len(sites[0].images.labels)
    assert set(only[0].images.labels.tolist()) == {chosen}
    for name in ("blocks.0.attn.qkv.weight", "pos_embed"):
        scale = np.abs(alone[name]).max()
        np.testing.assert_allclose(of_all[name], share * alone[name], atol=1e-3 * scale)
    row = of_all["head.weight"][chosen]
    np.testing.assert_allclose(row, share * alone["head.weight"][chosen], atol=1e-4 * np.abs(row).max())


def test_an_image_of_the_class_is_searched_for(fishing_setting: Make) -> None:
    attack = FishingImages(descent=Descent(iterations=150), updates=1)
    setting = replace(fishing_setting(images=1), keys=1)
    case, rng = attack.case(setting, 0), generator(setting.seed, "attack", attack.name, "target", 0)
    found = attack.score(attack.recover(case.seen(attack.known_in(setting)), rng), case)
    assert (found["images"], found["ssim"] > 0.5) == (1.0, True)
    case = attack.case(replace(fishing_setting(batch=7, images=7, scope="bias"), keys=1), 0)
    caught = catch(case)
    labels = case.targets.labels.tolist()
    assert set(caught.targets.labels.tolist()) == {min(set(labels), key=labels.count)}
    guess = next(iter(attack.guesses(case, np.random.default_rng(0))))
    assert guess["images"] == len(caught.targets.labels) < len(labels) / 2
