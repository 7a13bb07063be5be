"""view-linkage: views are found again through a permutation and another key, and not through a keystream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simulations.attacks.ciphertext.view_linkage import ViewLinkage, distances, pair_auroc, signatures, top1
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


def test_views_are_linked_under_one_key_and_under_two(attack_setting: Make) -> None:
    result = measure(ViewLinkage(strength="light"), attack_setting(keys=4, images=12)).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["top1_same_key_both"].target == pytest.approx(metrics["top1_other_key_both"].target, abs=0.1)
    assert metrics["top1_other_key_both"].target > 3 * metrics["top1_other_key_both"].chance
    assert metrics["top1_other_key_both"].chance == pytest.approx(1 / 12)
    # Distances of values do not notice one key, and are lost between two.
    values = metrics["auroc_same_key_values"]
    assert values.target == pytest.approx(values.control)
    assert metrics["auroc_other_key_values"].target < values.target - 0.1
    assert "wrong_key" in result.reasons


def test_random_ciphertexts_score_chance(attack_setting: Make) -> None:
    result = measure(ViewLinkage(strength="light"), attack_setting("aes-ctr", keys=6, images=15)).result
    assert result.verdict == "at chance"
    for name, each in result.metrics.items():
        allowed = 0.1 if name.startswith("auroc") else 0.12
        assert abs(each.target - each.chance) < allowed, name


def test_views_are_in_random_order_and_hidden_under_both_keys(attack_setting: Make) -> None:
    attack = ViewLinkage(strength="light")
    case = attack.case(attack_setting(images=8), 1)
    given = case.seen(attack.knowledge).ciphertexts
    assert sorted(case.linked.tolist()) == list(range(8))
    assert case.linked.tolist() != list(range(8))
    views = case.cipher.decrypt(given.same_key.images)
    assert np.array_equal(views, case.other.decrypt(given.other_key.images))
    # A view is nearer to its own image than to the others, and is not the image.
    for view, true in zip(views.astype(float), case.linked, strict=True):
        off = np.abs(case.targets.pixels - view).mean(axis=(1, 2, 3))
        assert off[true] > 0
    assert not (views == case.targets.pixels[case.linked]).all(axis=(1, 2, 3)).any()


def test_scores_are_those_of_a_slow_reading() -> None:
    rng = np.random.default_rng(0)
    distance, true = rng.integers(0, 5, (6, 6)).astype(float), rng.permutation(6)
    shares = []
    for row, own in zip(distance, true, strict=True):
        nearest = [i for i in range(6) if row[i] == row.min()]
        shares.append((own in nearest) / len(nearest))
    assert top1(distance, true) == pytest.approx(np.mean(shares))
    wins = [
        float(np.sign(distance[j, k] - distance[i, true[i]])) / 2 + 0.5
        for i in range(6)
        for j in range(6)
        for k in range(6)
        if true[j] != k
    ]
    assert pair_auroc(distance, true) == pytest.approx(np.mean(wins))


def test_brightness_and_contrast_do_not_matter() -> None:
    images = np.random.default_rng(0).integers(20, 120, (5, 1, 16, 16)).astype(np.uint8)
    relit = images * 2 - 10
    first, second = signatures(images, 8, negate=False), signatures(relit, 8, negate=False)
    for name in first:
        # Of blocks, the length about the middle of the range is of the stored values; the other four are relit.
        each, other = (found[name][:, : 4 * 17] if name == "blocks" else found[name] for found in (first, second))
        assert np.allclose(each, other, atol=1e-5)
        assert distances(other, each).argmin(axis=1).tolist() == list(range(5))
