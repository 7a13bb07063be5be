"""What a real site draws in training nobody repeats without its key; simulations repeat, and resumed runs too."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planned_site import MakePlan, incoming, setup

from crypto.keys import SimulatedKey, SiteKey
from fl_client import work
from fl_client.batches import generator
from fl_client.site import Site
from medveil.secagg.config import SecAggConfig
from medveil.wire import Tensors, delta

FIRST, SECOND = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", "1f2c7cf0-5b6e-4a8c-9e1b-0123456789ab"


def equal(a: Tensors, b: Tensors) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("real", [True, False])
def test_two_runs_of_one_seed(planned: MakePlan, tmp_path: Path, real: bool) -> None:
    """Without the key's part all updates of the two were the same, to the bit."""
    plan = planned()
    key = SiteKey.generate("site-1") if real else SimulatedKey(0, "site-1")

    def update(run: str, folder: str) -> Tensors:
        site = Site(replace(plan.run, run=run), setup(plan, tmp_path / folder, key=key))
        return work.train(site, 1, incoming(site))[0]

    first = update(FIRST, "a")
    assert equal(first, update(SECOND, "b")) is not real
    assert equal(first, update(FIRST, "c")), "a round that is resumed repeats"


def test_under_masks_no_run_takes_all_images_at_once(planned: MakePlan, tmp_path: Path) -> None:
    """A step over all of them draws nothing: sums of two runs, one without a site, differed by its update."""
    plan = planned("train.batch_size=4096")
    key = SiteKey.generate("site-1")

    def updated(run: str, *, on: bool) -> dict[str, np.ndarray]:
        asked = replace(plan.run, run=run, kind="delta", secagg=SecAggConfig(on=on))
        site = Site(asked, setup(plan, tmp_path / f"{run}-{on}", key=key))
        start = incoming(site)
        return delta(work.train(site, 1, start)[0], start)

    def apart(on: bool) -> float:
        first, second = (updated(run, on=on) for run in (FIRST, SECOND))
        gap, whole = (
            math.sqrt(sum(float((each**2).sum()) for each in found))
            for found in ([first[name] - second[name] for name in first], first.values())
        )
        return gap / whole

    assert apart(False) < 1e-3, "what the server reads anyway is trained as the run says"
    assert apart(True) > 0.1


def test_a_round_of_the_same_sites_that_is_opened_twice(planned: MakePlan, tmp_path: Path) -> None:
    """Two sums over one set: all others repeated theirs to the bit, so that of one whose stem the server had changed in
    between, by asking it alone for the round before, they told the difference to 2e-8.
    """
    plan = planned("train.batch_size=64")
    asked = replace(plan.run, run=FIRST, kind="delta", secagg=SecAggConfig(on=True))
    site = Site(asked, setup(plan, tmp_path, key=SiteKey.generate("site-1")))
    first, second = (work.train(site, 1, incoming(site), attempt=attempt)[0] for attempt in (0, 1))
    assert not any(np.array_equal(first[name], second[name]) for name in first)


def drawn(site: Site, *where: str | int, attempt: int = 0) -> list[int]:
    return site.drawing(*where, attempt=attempt).integers(2**63, size=4).tolist()


def test_what_is_drawn_is_of_one_key_run_purpose_and_round(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    keys = [SiteKey(bytes([i]) * 32, "site-1") for i in (1, 2)]
    site = Site(replace(plan.run, run=FIRST), setup(plan, tmp_path / "a", key=keys[0]))
    known = drawn(site, "train", 1)
    assert known == drawn(site, "train", 1)
    others = [
        drawn(site, "train", 2),
        drawn(site, "torch", 1),
        drawn(site, "warmup"),
        drawn(site, "train", 1, attempt=1),
    ]
    for run, key in ((SECOND, keys[0]), (FIRST, keys[1])):
        site.run, site.setup = replace(site.run, run=run), replace(site.setup, key=key)
        others.append(drawn(site, "train", 1))
    assert len({tuple(each) for each in [known, *others]}) == 7
    guessed = generator(plan.run.seed, "train", "site-1", 1).integers(2**63, size=4).tolist()
    assert guessed not in [known, *others]


def test_a_simulated_site_draws_as_it_always_did(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    for asked, said in ((("train", 3), ("train", "site-1", 3)), (("warmup",), ("warmup", "site-1"))):
        wanted = generator(plan.run.seed, *said).integers(2**63, size=4).tolist()
        assert drawn(site, *asked) == drawn(site, *asked, attempt=1) == wanted
