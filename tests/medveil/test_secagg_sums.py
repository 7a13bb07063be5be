"""Measures as sums: means over images, withheld ones left out, and nothing that cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medveil.secagg.rounds import decode_sums, encode_sums
from medveil.secagg.sums import EVALUATE, PHASES, TRAIN, VALIDATE, count_of, means_of, summands
from medveil.summed_messages import about, number_of

MEASURES = st.one_of(st.just(math.nan), st.floats(0, 30))


def summed(kind: str, *sites: dict[str, float], clipped: tuple[bool, ...] = ()) -> list[float]:
    flags = clipped or (False,) * len(sites)
    each = [encode_sums(summands(kind, site, clipped=flag)) for site, flag in zip(sites, flags, strict=True)]
    return decode_sums(np.sum(np.stack(each), axis=0, dtype=np.uint64))


@given(st.lists(st.tuples(st.integers(1, 5000), MEASURES, MEASURES), min_size=1, max_size=6))
def test_a_mean_over_sites_is_weighted_by_their_images(drawn: list[tuple[int, float, float]]) -> None:
    sites = [{"validation-n": n, "validation-loss": loss, "validation-accuracy": rate} for n, loss, rate in drawn]
    found = means_of(VALIDATE, summed(VALIDATE, *sites)).metrics
    assert found["validation-n"] == sum(n for n, _, _ in drawn)
    for place, name in ((1, "validation-loss"), (2, "validation-accuracy")):
        known = [(each[0], each[place]) for each in drawn if math.isfinite(each[place])]
        images = sum(n for n, _ in known)
        wanted = sum(n * value for n, value in known) / images if known else None
        assert found[name] == (None if wanted is None else pytest.approx(wanted, abs=1e-4))
    assert found["validation-balanced-accuracy"] is None


def test_what_nobody_measured_is_no_phase_and_clips_are_counted() -> None:
    site = {"validation-n": 10.0, "validation-loss": 0.5, "validation-auroc": 0.9}
    found = means_of(TRAIN, summed(TRAIN, site, site, site, clipped=(True, False, True)))
    assert found.clipped == 2
    assert found.metrics["validation-loss"] == pytest.approx(0.5)
    assert not [name for name in found.metrics if name.startswith("train-") or "auroc" in name]


@pytest.mark.parametrize("odd", [math.inf, -math.inf, 1e30, -5e12])
def test_a_measure_that_does_not_fit_is_left_out_and_stops_no_update(odd: float) -> None:
    site = {"train-n": 100.0, "train-loss": odd, "train-accuracy": 0.75}
    found = means_of(TRAIN, summed(TRAIN, site)).metrics
    assert (found["train-loss"], found["train-accuracy"]) == (None, pytest.approx(0.75))
    assert means_of(TRAIN, summed(TRAIN, {"train-n": odd})).metrics == {}


def test_sums_are_as_many_as_are_said_and_numbered_by_what_they_are_of() -> None:
    for kind in PHASES:
        assert len(summands(kind, {}, clipped=False)) == count_of(kind) <= 64
    assert {about(number_of(kind, 7)) for kind in PHASES} == {(TRAIN, 7), (VALIDATE, 7), (EVALUATE, 7)}
