"""A server that shows each site of a sum another planted layer reads whose patches are whose, where sites let it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl_client.start import reach
from medveil.secagg.config import SecAggConfig
from models.config import ModelConfig
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import UpdateConfig
from simulations.attacks.study.measure import measure
from simulations.attacks.updates.loki import Loki, apart, shares
from simulations.attacks.updates.planted_layer import FIRST

Make = Callable[..., Any]
SITES = 3


@pytest.fixture(scope="module")
def summed(attack_setting: Make) -> Callable[..., UpdateSetting]:
    """Sums of three sites, of a tiny model on smooth images of 16 patches."""

    def make(**told: Any) -> UpdateSetting:
        plain = attack_setting("block-pixel", keys=2, images=2 * SITES, size=16, block=4)
        update = UpdateConfig(model=ModelConfig(width=60, depth=2, heads=2), sites=SITES, images=2, batch=2, **told)
        return UpdateSetting(plain.material, plain.config, keys=2, images=2 * SITES, update=update)

    return make


@pytest.mark.parametrize(("width", "sites"), [(60, 3), (192, 2), (28, 5), (96, 7)])
def test_no_two_sites_reach_the_same_numbers(width: int, sites: int) -> None:
    reached = np.zeros((4 * width, width), np.int64)
    made = shares(4 * width, width, 16, sites)
    for part in made:
        reached[part.rows, part.columns] += 1
        assert len(np.arange(width)[part.columns]) >= 16 + 2
    assert (len(made), reached.max()) == (sites, 1)


def test_the_part_of_one_site_is_nothing_in_the_update_of_another(summed: Callable[..., UpdateSetting]) -> None:
    case = Loki().case(summed(one_model=False), 0)
    federation, sites = case.federation, case.hospitals[0]
    sent = [federation.decoded(each) for each in apart(federation, case)]
    rows, width = sent[0][f"{FIRST}.weight"].shape
    parts = shares(rows, width, case.geometry.block_length, SITES)
    for mine, (hospital, base) in enumerate(zip(sites, sent, strict=True)):
        change = federation.sent(hospital, base=base)[f"{FIRST}.weight"]
        apart_from = [float(np.abs(change[part.rows, part.columns]).max()) for part in parts]
        assert apart_from[mine] > 0
        assert max(each for at, each in enumerate(apart_from) if at != mine) == 0.0
    # What a site refuses under masks, even alone: it is further from the public model than sums can have moved it.
    public = {name: federation.bench.public[name].numpy() for name in federation.travelling}
    moved = np.sqrt(sum(float(((sent[0][name] - public[name]) ** 2).sum()) for name in public))
    assert moved > 200 * reach(SecAggConfig().clip, sum(each.size for each in public.values()), 1)


def test_a_sum_says_whose_part_is_whose_where_sites_do_not_ask_what_others_were_sent(
    summed: Callable[..., UpdateSetting],
) -> None:
    found = measure(Loki(), summed(one_model=False)).result
    assert found.verdict == "succeeds"
    figures = {name: each.target for name, each in found.metrics.items()}
    assert figures["patches"] is not None and figures["patches_of_others"] is not None
    assert figures["patches"] > 0.4
    assert figures["patches_of_others"] < figures["patches"] / 3


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "a site refuses the offers of sites that were sent another model"),
        ({"one_model": False, "scope": "lora-core"}, "sends a small core of the first block"),
    ],
)
def test_it_is_refused_by_name(summed: Callable[..., UpdateSetting], told: dict[str, Any], says: str) -> None:
    result = measure(Loki(), summed(**told)).result
    assert result.verdict == "not applicable"
    assert says in str(result.reason)
