"""A planted layer that is within what sites take of a model under masks still reads patches of a sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from models.config import ModelConfig
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import UpdateConfig
from simulations.attacks.study.measure import measure
from simulations.attacks.updates.planted_within import PlantedWithin, answering, limit_of

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def summed(attack_setting: Make) -> Callable[..., UpdateSetting]:
    """Sums of two sites with one smooth image of 16 patches each."""

    def make(**told: Any) -> UpdateSetting:
        plain = attack_setting("block-pixel", keys=2, images=2, size=16, block=4)
        update = UpdateConfig(**{"model": ModelConfig(width=48, depth=2, heads=2), "sites": 2, **told})
        return UpdateSetting(plain.material, plain.config, keys=2, images=2, update=update)

    return make


def test_patches_of_a_sum_are_read_within_the_limit(summed: Callable[..., UpdateSetting]) -> None:
    found = measure(PlantedWithin(), summed(rounds=10)).result
    assert found.verdict == "succeeds"
    of_limit = found.metrics["of_limit"].target
    assert of_limit is not None and 0.5 < of_limit <= 1.0


def test_more_rounds_leave_room_for_more_rows(summed: Callable[..., UpdateSetting]) -> None:
    attack = PlantedWithin()
    cases = [attack.case(summed(rounds=rounds), 0).federation for rounds in (2, 10)]
    assert [limit_of(each) for each in cases] == [400.0, 3600.0]
    few, many = (answering(each.base) for each in cases)
    assert 3 <= few < many / 2


def test_where_no_sum_is_read_nothing_is_limited(summed: Callable[..., UpdateSetting]) -> None:
    found = measure(PlantedWithin(), summed(sites=1)).result
    assert (found.verdict, "one site sends one update" in str(found.reason)) == ("not applicable", True)
