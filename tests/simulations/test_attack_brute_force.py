"""brute-force: an integer is found and a secret is not; the sizes of key spaces are those of a slow count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crypto.base import Geometry
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey
from simulations.attacks.ciphertext.brute_force import BruteForce, small_secrets
from simulations.attacks.solvers.schemes import log2_arrangements
from simulations.attacks.study.attack import Target
from simulations.attacks.study.controls import BlockShuffle, IntegerSeeded, PixelShuffle, seeded
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]
TINY = BruteForce(space=300, seconds=30.0, secrets_seconds=0.05)


def test_the_integer_is_found_and_the_secret_is_not(attack_setting: Make) -> None:
    setting = attack_setting(keys=3)
    result = measure(TINY, setting).result
    metrics = result.metrics
    assert (metrics["key_found"].control, metrics["key_found"].target) == (1.0, 0.0)
    assert result.verdict == "at chance"
    assert result.control == "integer-seeded"
    assert metrics["effective_bits"].control == pytest.approx(math.log2(300))
    assert metrics["effective_bits"].target == 256.0
    assert metrics["nominal_bits"].target == metrics["nominal_bits"].control > 256
    # Found at its place: trial number seed + 1.
    seeds = [setting.under(TINY.control).cipher(key).seed for key in range(3)]
    assert metrics["trials"].values["control"] == [seed + 1 for seed in seeds]


def test_a_secret_that_is_a_small_number_is_found() -> None:
    """The search is a search: on a key within its reach it ends."""
    config = CipherConfig("block-pixel", 8, negate=True)
    shape = Geometry(channels=1, height=32, width=32, block=8)
    size = {"channels": 1, "height": 32, "width": 32}
    cipher = make_cipher(config, SiteKey((5).to_bytes(32, "big"), "lazy"), **size)
    plain = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)
    from simulations.attacks.study.cases import Hidden, Pairs  # noqa: PLC0415

    hidden = Hidden(cipher.encrypt(plain), None)
    tried = small_secrets(Pairs(plain[:1], Hidden(hidden.images[:1], None)), config, shape)
    answers = [next(tried) for _ in range(6)]
    assert answers[:5] == [None] * 5
    assert answers[5] is not None
    assert np.array_equal(answers[5](hidden), plain)


def test_a_flat_pair_is_still_searched(attack_setting: Make) -> None:
    """Without a block that stands out every key is compared in full: the first that fits explains the pair."""
    setting = attack_setting(keys=1).under(type("Small", (IntegerSeeded,), {"space": 8}))
    case = TINY.case(setting, 0)
    case.known.pixels[:] = 0
    found = TINY.recover(case.seen(TINY.knowledge), np.random.default_rng(0))
    assert found.trials == 1


def test_without_a_key_there_is_nothing_to_search() -> None:
    shape = Geometry(channels=1, height=32, width=32, block=8)
    assert "no key" in TINY.applies_to(Target(CipherConfig("none"), shape))


def test_numbers_of_arrangements() -> None:
    shape = Geometry(channels=3, height=6, width=4, block=2)
    inner, order = math.factorial(12), math.factorial(6)
    slow = {
        ("none", False): 1,
        ("block-pixel", False): inner * order,
        ("block-pixel", True): inner * order * 2**12,
        ("per-block", True): (inner * 2**12) ** 6 * order,
        ("etc", False): 96**6 * order,
        ("pixel-wise", False): 48**24,
    }
    for (scheme, negate), count in slow.items():
        assert log2_arrangements(scheme, shape, negate=negate) == pytest.approx(math.log2(count))
    assert log2_arrangements("orthogonal", shape, negate=False) is None


@pytest.mark.parametrize("kind", [BlockShuffle, PixelShuffle, IntegerSeeded])
def test_controls_are_invertible_and_follow_their_orders(attack_setting: Make, kind: type) -> None:
    cipher = attack_setting(kind).cipher(0)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)
    hidden = cipher.encrypt(images)
    assert np.array_equal(cipher.decrypt(hidden), images)
    key, places = cipher.stem_permutation(), cipher.geometry.block_positions()
    slow = np.empty((2, 1024), np.uint8)
    for j in range(16):
        slow[:, places[j]] = images.reshape(2, -1)[:, places[key.pi[j]][key.rho]]
    assert np.array_equal(hidden.reshape(2, -1), slow)
    assert not np.array_equal(hidden, images)


def test_the_integer_seeded_cipher_is_what_a_script_would_write() -> None:
    np.random.seed(11)  # noqa: NPY002 - the script
    assert np.array_equal(seeded(11, 20), np.random.permutation(20))  # noqa: NPY002
