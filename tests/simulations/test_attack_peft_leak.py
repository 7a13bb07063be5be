"""A trunk that the server made prints patches into cores and biases; sites that hold their own are not attacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.config import ModelConfig
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig
from simulations.attacks.study.measure import measure
from simulations.attacks.updates.peft_leak import PeftLeak
from simulations.attacks.updates.planted_trunk import Sizes, gates, too_narrow

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def light(attack_setting: Make) -> Callable[..., UpdateSetting]:
    """Light updates of a tiny model, four blocks deep, on smooth images of 16 patches."""

    def make(**told: Any) -> UpdateSetting:
        plain = attack_setting("block-pixel", keys=2, images=2, size=16, block=4)
        model = ModelConfig(width=48, depth=4, heads=2)
        update = UpdateConfig(**{"model": model, "server_weights": True, **told})
        return UpdateSetting(plain.material, plain.config, keys=2, images=2, update=update)

    return make


def share(setting: UpdateSetting) -> float:
    """Of the patches of one key, behind a cipher whose stem follows the public one; the evaluator's own figure."""
    attack = PeftLeak()
    case = attack.case(setting, 0)
    found = attack.score(attack.recover(case.seen(attack.known_in(setting)), np.random.default_rng(0)), case)
    assert found["step"] < 0.1, "what is sent in the round is the model that all agreed on, as the wire rounds it"
    return found["patches"] / found["aimed"]


def test_rows_of_no_two_places_meet_and_a_place_has_numbers_enough() -> None:
    sizes = Sizes(depth=6, width=96, rows=384, rank=16, length=24, places=64)
    for scope, bins, most in (("lora-core", 1, 32), ("lora-core", 4, 8), ("bias", 1, 64)):
        made = gates(sizes, scope, bins=bins)
        met = [(at, row) for gate in made for at in gate.blocks for row in gate.rows]
        assert (len(made), len(met)) == (most, len(set(met)))
        assert max(at for at, _ in met) < sizes.depth - 1
        assert scope == "bias" or all(len(gate.blocks) * sizes.rank >= 24 + 2 for gate in made)
    assert gates(sizes._replace(rank=4), "lora-core", bins=1) == []
    assert too_narrow(40, 16, 20) is None
    assert "does not hold" in str(too_narrow(39, 16, 20))


def test_an_image_is_read_behind_an_adapted_stem_and_without_a_step_by_the_server(
    light: Callable[..., UpdateSetting],
) -> None:
    result = measure(PeftLeak(), replace(light(scope="bias"), images=1, at_most=1)).result
    assert result.verdict == "succeeds"
    figures = {name: each.target for name, each in result.metrics.items()}
    assert (figures["patches"], figures["step"]) == (1.0, 0.0)
    assert figures["patches_read"] is not None and figures["patches_read"] < 0.2, "plain patches, not what was hidden"
    assert share(light(scope="lora-core")) == 1.0


def test_adam_and_sixteen_bits_do_not_keep_it_off(light: Callable[..., UpdateSetting]) -> None:
    assert share(light(scope="bias", mode=DEPLOYMENT, images=1, batch=1)) > 0.9


def test_thresholds_part_a_batch_or_a_sum_in_cores_and_biases_tell_a_mean(
    light: Callable[..., UpdateSetting],
) -> None:
    assert share(light(scope="lora-core", batch=2)) > 0.7
    assert share(light(scope="lora-core", sites=2)) > 0.5
    assert share(light(scope="bias", batch=2)) < 0.5


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"scope": "lora-core", "server_weights": False}, "frozen weights are taken to be built"),
        ({"scope": "head"}, "not of biases or cores"),
        ({"scope": "bias", "stem_init": "secret"}, "the stem is secret"),
        ({"scope": "lora-core", "rank": 4}, "too few numbers of a token"),
    ],
)
def test_where_it_does_not_apply(light: Callable[..., UpdateSetting], told: dict[str, Any], says: str) -> None:
    result = measure(PeftLeak(), replace(light(**told), keys=1)).result
    assert result.verdict == "not applicable"
    assert says in str(result.reason)
