"""A server that plants weights reads patches from an update; what is pinned, summed or rounded leaves of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl_client.start import reach
from medveil.secagg.config import SecAggConfig
from models.config import ModelConfig
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig
from simulations.attacks.solvers.imprint import between_neighbours, patches_of
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import Result
from simulations.attacks.updates import planted_layer
from simulations.attacks.updates.planted_layer import PlantedLayer

Make = Callable[..., Any]


@pytest.fixture
def attacked(attack_setting: Make) -> Callable[..., Result]:
    """Attack updates of a tiny model on smooth images of 32 pixels in 16 patches."""

    def attack(scheme: str = "none", *, n: int = 8, **told: Any) -> Result:
        plain = attack_setting(scheme, keys=2, images=n)
        update = UpdateConfig(model=ModelConfig(width=96, depth=2, heads=2), **told)
        setting = UpdateSetting(plain.material, plain.config, keys=2, images=n, update=update)
        return measure(PlantedLayer(), setting).result

    return attack


def test_what_a_layer_norm_left_gives_patch_and_place_up_to_nothing() -> None:
    rng = np.random.default_rng(0)
    embedding, offsets = rng.normal(size=(24, 16)), rng.normal(size=(5, 24))
    patches, places = rng.uniform(-1, 1, size=(6, 16)), np.array([0, 1, 2, 3, 4, 0])
    tokens = patches @ embedding.T + offsets[places]
    normal = (tokens - tokens.mean(axis=1, keepdims=True)) / tokens.std(axis=1, keepdims=True)
    factors = rng.choice([-1, 1], size=(6, 1)) * rng.uniform(0.1, 9, size=(6, 1))
    found = patches_of(normal * factors, embedding, offsets)
    assert found.places.tolist() == places.tolist()
    np.testing.assert_allclose(found.values, patches, atol=1e-8)
    mixed = patches_of((normal[:1] + normal[1:2]) / 2, embedding, offsets)
    assert found.residuals.max() < 1e-8
    assert mixed.residuals[0] > 0.02, "a sum of two is no token"


def test_neighbours_differ_by_what_lies_between() -> None:
    tokens = np.random.default_rng(0).normal(size=(3, 4))
    rows = np.cumsum([tokens[0], tokens[1], np.zeros(4), tokens[2]], axis=0)[::-1]
    np.testing.assert_allclose(between_neighbours(rows), tokens[::-1])


def test_patches_of_a_batch_are_read_through_a_cipher_whose_stem_follows_the_public_one(
    attacked: Callable[..., Result],
) -> None:
    plain, hidden = attacked(batch=8), attacked("block-pixel", batch=8)
    assert (plain.verdict, hidden.verdict) == ("succeeds", "succeeds")
    for result in (plain, hidden):
        assert result.metrics["patches"].target is not None
        assert result.metrics["patches"].target > 0.5
    read = hidden.metrics["patches_read"]
    assert read.target is not None and read.target < 0.2, "it is the plain patches, and not what was hidden"


@pytest.mark.slow
def test_adam_and_clipping_do_not_keep_it_off_and_sixteen_bits_leave_less(attacked: Callable[..., Result]) -> None:
    told = {"mode": DEPLOYMENT, "images": 8, "batch": 8}
    fine, coarse = attacked(**told, wire="fp32"), attacked(**told, wire="bf16")
    shares = [result.metrics["patches"].target for result in (fine, coarse)]
    assert shares[0] is not None and shares[1] is not None
    assert shares[0] > 0.2
    assert shares[1] < shares[0] / 2


def test_a_sum_of_sites_leaves_less_of_a_model_that_sites_refuse_under_masks(
    attacked: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, far = planted_layer.step_of, []

    def told(case: UpdateCase) -> float:
        federation = case.federation
        moved = {name: federation.base[name] - federation.bench.public[name].numpy() for name in federation.travelling}
        most = reach(SecAggConfig().clip, sum(each.size for each in moved.values()), 1)
        far.append(planted_layer.length(moved) / most)
        return step(case)

    monkeypatch.setattr(planted_layer, "step_of", told)
    shares = [attacked(batch=4, n=4 * sites, images=4, sites=sites).metrics["patches"].target for sites in (1, 4)]
    assert shares[1] is not None and shares[0] is not None
    assert shares[1] < 0.75 * shares[0]
    # A server that plants less was not tried.
    assert min(far) > 200


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"stem_init": "secret"}, "the stem is secret"),
        ({"scope": "bias"}, "sends no matrix of the first block"),
        ({"scope": "lora-core"}, "sends a small core of the first block"),
        ({"scope": "head"}, "sends no matrix of the first block"),
    ],
)
def test_what_is_not_sent_cannot_be_planted(attacked: Callable[..., Result], told: dict[str, Any], says: str) -> None:
    result = attacked("block-pixel", **told)
    assert result.verdict == "not applicable"
    assert says in str(result.reason)
