"""The compiled gather beside numpy's, bit for bit, and when it is asked at all."""

from __future__ import annotations

import numpy as np
import pytest

from crypto import signed_permutation
from crypto.base import ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey
from crypto.signed_permutation import compiled, weaving

KEY = SiteKey.generate("woven")


def cipher(*, size: int = 24, channels: int = 1, negate: bool = True, bits: int = 8) -> ImageCipher:
    config = CipherConfig(scheme="block-pixel", block=4, negate=negate)
    return make_cipher(config, KEY, channels=channels, height=size, width=size, bits=bits)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the compiled pass was given."""
    pytest.importorskip("numba")
    gather, found = compiled(), []
    assert gather is not None

    def noted(images: np.ndarray, *others: object, out: np.ndarray) -> None:
        found.append(len(images))
        gather(images, *others, out=out)

    monkeypatch.setattr(signed_permutation, "compiled", lambda: noted)
    return found


@pytest.mark.parametrize("negate", [True, False])
@pytest.mark.parametrize(("images", "size", "taken"), [(16, 24, [16]), (13, 24, [8]), (7, 24, []), (9, 22, [8])])
def test_it_hides_as_numpy_does_to_the_bit(
    asked: list[int], negate: bool, images: int, size: int, taken: list[int]
) -> None:
    made = cipher(size=size, channels=3, negate=negate)
    plain = np.random.default_rng(0).integers(0, 256, (images, 3, size, size), dtype=np.uint8)
    with weaving(False):
        expected = made.encrypt(plain)
    assert asked == []
    with weaving(True):
        hidden = made.encrypt(plain)
        assert asked == taken
        shown = made.decrypt(hidden)
    np.testing.assert_array_equal(hidden, expected)
    np.testing.assert_array_equal(shown, plain)


def test_what_does_not_fit_is_numpys(asked: list[int]) -> None:
    deep = np.random.default_rng(0).integers(0, 2**12, (16, 1, 24, 24), dtype=np.uint16)
    with weaving(True):
        made = cipher(bits=12)
        np.testing.assert_array_equal(made.decrypt(made.encrypt(deep)), deep)
    assert asked == []


def test_it_is_asked_once_it_pays(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    made, images = cipher(), np.zeros((16, 1, 24, 24), np.uint8)
    monkeypatch.setattr(signed_permutation, "_PAYS_BYTES", 2.5 * images.nbytes)
    monkeypatch.setattr(signed_permutation, "_done", signed_permutation._Done())
    for _ in range(3):
        made.encrypt(images)
    assert asked == [16]
