from __future__ import annotations

import numpy as np
import pytest

from crypto.bench import bench_cipher, block_loop
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey


def test_the_loop_it_is_measured_against_does_the_same_work() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 48), dtype=np.uint8)
    config = CipherConfig(block=16, negate=True)
    cipher = make_cipher(config, SiteKey.generate("bench"), channels=3, height=32, width=48)
    rho, pi, mask = cipher.stem_permutation()
    looped = block_loop(images, rho, pi, mask.astype(np.uint8) * np.uint8(255), block=16)
    np.testing.assert_array_equal(looped, cipher.encrypt(images))


def test_its_figures_are_rates_and_their_ratios() -> None:
    found = bench_cipher(images=4, size=64, seconds=0.05)
    assert all(value > 0 for value in found.values())
    for rival in ("block_loop", "memcpy", "aes_gcm"):
        ratio = found["cipher_images_per_s"] / found[f"{rival}_images_per_s"]
        assert found[f"cipher_over_{rival}"] == pytest.approx(ratio)


def test_the_cipher_is_well_ahead_of_a_loop_over_blocks() -> None:
    # `medveil-sim bench` shows 8 times and more; this floor also holds on a busy machine.
    assert bench_cipher(images=16, size=224, seconds=0.3)["cipher_over_block_loop"] > 3
