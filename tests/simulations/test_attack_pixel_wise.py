"""leading-bit and min-difference: they open the cipher they were made for, and say so where they do not apply."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from crypto import cipher as registry
from crypto.base import Geometry, ImageCipher, Nonces, Pixels
from crypto.config import CipherConfig
from medveil.plugins import SCHEMES, Registry
from simulations.attacks.ciphertext.leading_bit import LeadingBit, leading_bit
from simulations.attacks.ciphertext.min_difference import MinDifference, minimum_difference
from simulations.attacks.study.attack import Target
from simulations.attacks.study.measure import measure

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("attack", [LeadingBit(), MinDifference()], ids=lambda each: each.name)


class _PixelWise(ImageCipher):
    """Negation and channel order of each pixel where it stands: the arithmetic of the scheme, with a key of ours."""

    scheme = "pixel-wise"

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        rng = np.random.default_rng(list(self._subkey("neg")))
        channels = batch.shape[1]
        mask = rng.random(batch.shape[1:]) < 0.5
        order = np.argsort(rng.random(batch.shape[1:]), axis=0)[None]
        moved = np.take_along_axis(batch, np.broadcast_to(order, batch.shape), axis=1) if channels > 1 else batch
        hidden: Pixels = np.where(mask, 255 - moved, moved).astype(batch.dtype)
        return hidden

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def target_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in where the scheme is not in the registry."""
    own = {"pixel-wise": _PixelWise, **registry.SCHEMES}
    monkeypatch.setattr(registry, "SCHEMES", Registry(SCHEMES, own, ImageCipher, named="scheme"))


@BOTH
@pytest.mark.parametrize("channels", [1, 3])
def test_they_open_their_own_target(attack_setting: Make, attack: LeadingBit, channels: int) -> None:
    result = measure(attack, attack_setting("pixel-wise", channels=channels, level=60, keys=3)).result
    edges = result.metrics["edges"]
    assert result.verdict == "succeeds"
    assert edges.target == edges.control > edges.chance + 0.3


@BOTH
@pytest.mark.parametrize(("scheme", "negate"), [("aes-ctr", False), ("block-pixel", True)])
def test_moved_or_random_pixels_score_chance(
    attack_setting: Make, attack: LeadingBit, scheme: str, negate: bool
) -> None:
    result = measure(attack, attack_setting(scheme, negate=negate)).result
    assert result.verdict == "at chance"
    assert abs(result.metrics["edges"].target) < 0.1


@BOTH
def test_a_scheme_without_negation_is_not_their_business(attack: LeadingBit) -> None:
    shape = Geometry(channels=1, height=32, width=32, block=16)
    for scheme in ("block-pixel", "per-block", "none", "orthogonal"):
        reason = attack.applies_to(Target(CipherConfig(scheme), shape))
        assert reason is not None and "negates none" in reason
    for config in (CipherConfig("block-pixel", negate=True), CipherConfig("etc"), CipherConfig("pixel-wise")):
        assert attack.applies_to(Target(config, shape)) is None


def test_the_leading_bit_is_cleared() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    slow = [v if v <= 127 else v ^ 255 for v in range(256)]
    assert leading_bit(values, largest=255).ravel().tolist() == slow


def _slow_scan(image: np.ndarray) -> np.ndarray:
    """The attack as it is told: 48 candidates a pixel, one pixel after another."""
    channels, height, width = image.shape
    orders = list(permutations(range(channels))) if channels == 3 else [tuple(range(channels))]
    made = np.zeros(image.shape, int)
    for y, x in product(range(height), range(width)):
        pixel = image[:, y, x].astype(int)
        if (y, x) == (0, 0):
            made[:, 0, 0] = [v if v <= 127 else 255 - v for v in pixel]
            continue
        neighbour = made[:, y - 1, x] if y else made[:, y, x - 1]
        candidates = [
            [255 - pixel[c] if flip else pixel[c] for c, flip in zip(order, flips, strict=True)]
            for order in orders
            for flips in product((False, True), repeat=channels)
        ]
        made[:, y, x] = min(candidates, key=lambda each: int(np.abs(np.array(each) - neighbour).sum()))
    return made


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_rows_at_once_are_pixels_one_by_one(channels: int) -> None:
    images = np.random.default_rng(channels).integers(0, 256, (2, channels, 7, 6), dtype=np.uint8)
    assert np.array_equal(minimum_difference(images, largest=255), [_slow_scan(image) for image in images])


def test_min_difference_restores_channel_orders_leading_bit_does_not() -> None:
    """A dark image of three clearly different channels comes back exactly."""
    rng = np.random.default_rng(0)
    base = np.array([10, 60, 110])[:, None, None]
    image = (base + rng.integers(-9, 10, (3, 20, 20))).astype(np.uint8)
    hidden = np.where(rng.random(image.shape) < 0.5, 255 - image, image)
    order = np.argsort(rng.random(image.shape), axis=0)
    order[:, 0, 0] = [0, 1, 2]
    hidden = np.take_along_axis(hidden, order, axis=0)[None]
    assert np.array_equal(minimum_difference(hidden, largest=255)[0], image)
    assert not np.array_equal(leading_bit(hidden, largest=255)[0], image)
