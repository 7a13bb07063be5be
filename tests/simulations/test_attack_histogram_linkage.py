"""histogram-linkage: originals are found without a key, and nothing is found behind random ciphertexts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simulations.attacks.ciphertext.histogram_linkage import (
    HistogramLinkage,
    histogram_distances,
    jaccard,
    multiset_hashes,
)
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]


@pytest.mark.parametrize("negate", [False, True])
def test_ciphertexts_are_linked_and_images_never_seen_are_opened(attack_setting: Make, negate: bool) -> None:
    setting = attack_setting(negate=negate, keys=3, images=6)
    result = measure(HistogramLinkage(decoys=20, used=3), setting).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    assert metrics["top1_image"].target == metrics["top1_block"].target == 1.0
    assert metrics["ssim_of_others"].target > 0.99 > metrics["ssim_of_others"].chance
    assert metrics["top1_image"].chance == pytest.approx(1 / 26)
    assert "wrong_key" in result.reasons
    assert result.n == 3 * 12


def test_random_ciphertexts_score_chance(attack_setting: Make) -> None:
    result = measure(HistogramLinkage(decoys=20, used=3), attack_setting("aes-ctr", images=10, keys=4)).result
    assert result.verdict == "at chance"
    assert result.metrics["top1_image"].target < 0.25


def test_no_candidate_there_is_no_link_to_be_right(attack_setting: Make) -> None:
    """What is scored are the ciphertexts that have a candidate; the others can only be opened through the key."""
    attack = HistogramLinkage(decoys=5, used=3)
    case = attack.case(attack_setting(images=4), 0)
    found = attack.recover(case.seen(attack.knowledge), np.random.default_rng(0))
    scored = attack.score(found, case)
    broken = found.by_image.copy()
    broken[4:] = 0
    assert attack.score(type(found)(broken, found.by_block, found.images), case) == scored
    broken[:2] = (case.linked[:2] + 1) % len(case.candidates)
    assert attack.score(type(found)(broken, found.by_block, found.images), case)["top1_image"] == 0.5


def _images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("negate", [False, True])
def test_signatures_are_those_of_a_slow_reading(negate: bool) -> None:
    first, second = _images(3, 0), _images(4, 1)
    fold = (lambda v: abs(2 * int(v) - 255)) if negate else int
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            counts = Counter(map(fold, one.ravel()))
            counts.subtract(Counter(map(fold, other.ravel())))
            slow = sum(abs(each) for each in counts.values())
            assert histogram_distances(first, second, largest=255, negate=negate)[i, j] == slow
    hashes = multiset_hashes(first, 4, 255, negate=negate)
    shuffled = first.copy()
    shuffled[:, :, :4, :4] = first[:, :, 3::-1, 3::-1]
    if negate:
        shuffled[:, :, 4:, 4:] = 255 - first[:, :, 4:, 4:]
    assert np.array_equal(multiset_hashes(shuffled, 4, 255, negate=negate), hashes)
    changed = first.copy()
    changed[0, 0, 0, 0] ^= 1
    assert (multiset_hashes(changed, 4, 255, negate=negate) != hashes).sum() == 1


def test_jaccard_is_that_of_sets() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 9, (4, 6)).astype(np.uint64) for _ in range(2))
    slow = [[len(set(a) & set(b)) / len(set(a) | set(b)) for b in second.tolist()] for a in first.tolist()]
    assert jaccard(first, second) == pytest.approx(np.array(slow))
