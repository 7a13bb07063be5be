"""per-block, etc and pixel-wise against their formulas, written as slowly and plainly as can be."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from crypto.base import ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import Key, SimulatedKey, SiteKey

SECRET = bytes(range(32))
KEY = SiteKey(SECRET, "mercy")
SCHEMES = ("per-block", "etc", "pixel-wise", "pixel-wise-fresh")
NONCE = np.arange(16, dtype=np.uint8) * 11

# --- the slow reading ------------------------------------------------------------------------------------------------


def stream(key: bytes, n: int, nonce: bytes = bytes(16)) -> bytes:
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(n))


def words_of(key: bytes, nonce: bytes = bytes(16)) -> Iterator[int]:
    encryptor = Cipher(ChaCha20(key, nonce), mode=None).encryptor()
    while True:
        yield int.from_bytes(encryptor.update(bytes(4)), "little")


def next_permutation(words: Iterator[int], n: int) -> list[int]:
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        b = i + 1
        u = next(word for word in words if word < 2**32 // b * b)
        order[i], order[u % b] = order[u % b], order[i]
    return order


def bit(data: bytes, i: int) -> int:
    return data[i >> 3] >> (i & 7) & 1


def pad(image: np.ndarray, subkey: bytes, block: int, bits: int) -> np.ndarray:
    C, H, W = image.shape
    size = image.dtype.itemsize
    padded = np.zeros((C, -(-H // block) * block, -(-W // block) * block), image.dtype)
    digest = hashlib.sha256(image.astype(image.dtype.newbyteorder("<")).tobytes()).digest()
    noise = stream(subkey, padded.size * size, digest[:16])
    used = 0
    for place in np.ndindex(padded.shape):
        if place[1] < H and place[2] < W:
            padded[place] = image[place]
        else:
            padded[place] = int.from_bytes(noise[used : used + size], "little") % 2**bits
            used += size
    return padded


def block_of(image: np.ndarray, j: int, block: int) -> np.ndarray:
    across = image.shape[2] // block
    y, x = j // across * block, j % across * block
    return image[:, y : y + block, x : x + block]


class Slow:
    """One image under one key, a block and a pixel at a time."""

    def __init__(self, key: Key, scheme: str, image: np.ndarray, *, block: int, bits: int, negate: bool) -> None:
        C, H, W = image.shape
        self.block, self.top, self.negate = block, 2**bits - 1, negate
        shape = {"B": block, "C": C, "H": -(-H // block) * block, "W": -(-W // block) * block, "bits": bits}
        self.subkeys = {name: key.subkey(name, scheme, **shape) for name in ("rho", "pi", "neg", "pad")}
        self.image = image if scheme.startswith("pixel") else pad(image, self.subkeys["pad"], block, bits)
        self.blocks = self.image.shape[1] * self.image.shape[2] // block**2

    def per_block(self) -> np.ndarray:
        out = np.zeros_like(self.image)
        rho, pi = words_of(self.subkeys["rho"]), next_permutation(words_of(self.subkeys["pi"]), self.blocks)
        length = self.image.shape[0] * self.block**2
        mask = stream(self.subkeys["neg"], self.blocks * length)
        for j in range(self.blocks):
            order = next_permutation(rho, length)
            values = [int(block_of(self.image, pi[j], self.block).flat[order[i]]) for i in range(length)]
            if self.negate:
                values = [self.top - v if bit(mask, j * length + i) else v for i, v in enumerate(values)]
            target = block_of(out, j, self.block)
            target[:] = np.array(values).reshape(target.shape)
        return out

    def etc(self) -> np.ndarray:
        out = np.zeros_like(self.image)
        rho, pi = words_of(self.subkeys["rho"]), next_permutation(words_of(self.subkeys["pi"]), self.blocks)
        turns = [next(rho) % 8 for _ in range(self.blocks)]
        negative = stream(self.subkeys["neg"], self.blocks)
        for j in range(self.blocks):
            order = next_permutation(rho, len(self.image))
            target = block_of(out, j, self.block)
            for c, source in enumerate(order):
                square = block_of(self.image, pi[j], self.block)[source].tolist()
                if turns[j] >= 4:
                    square = [row[::-1] for row in square]
                for _ in range(turns[j] % 4):
                    # A quarter anticlockwise: the right-hand column becomes the top row.
                    square = [[row[-1 - y] for row in square] for y in range(self.block)]
                values = np.array(square)
                target[c] = self.top - values if bit(negative, j) else values
        return out

    def pixel_wise(self, nonce: bytes = bytes(16)) -> np.ndarray:
        out = np.zeros_like(self.image)
        C, H, W = out.shape
        rho, mask = words_of(self.subkeys["rho"], nonce), stream(self.subkeys["neg"], out.size, nonce)
        for y in range(H):
            for x in range(W):
                order = next_permutation(rho, C)
                for c in range(C):
                    v = int(self.image[order[c], y, x])
                    out[c, y, x] = self.top - v if bit(mask, (c * H + y) * W + x) else v
        return out


def slow_encrypt(key: Key, scheme: str, image: np.ndarray, **how: Any) -> np.ndarray:
    slow = Slow(key, scheme, image, **how)
    if scheme == "pixel-wise-fresh":
        return slow.pixel_wise(NONCE.tobytes())
    return {"per-block": slow.per_block, "etc": slow.etc, "pixel-wise": slow.pixel_wise}[scheme]()


# --- the schemes against it ------------------------------------------------------------------------------------------


def cipher_for(scheme: str, images: np.ndarray, key: Key = KEY, *, block: int, bits: int, negate: bool) -> ImageCipher:
    channels, height, width = images.shape[-3:]
    config = CipherConfig(scheme=scheme, block=block, negate=negate, derivation=1)
    return make_cipher(config, key, channels=channels, height=height, width=width, bits=bits)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    bits, dtype = draw(st.sampled_from([(8, "uint8"), (5, "uint8"), (12, "uint16"), (16, "uint16"), (8, "uint16")]))
    shape = tuple(draw(st.integers(low, high)) for low, high in ((1, 3), (1, 4), (1, 17), (1, 17)))
    images = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 2**bits, shape).astype(dtype)
    return images, {"block": draw(st.integers(1, 7)), "bits": bits, "negate": draw(st.booleans())}


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_it_equals_the_formula(scheme: str, case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    nonces = np.tile(NONCE, (len(images), 1))
    hidden = cipher_for(scheme, images, **how).encrypt(images, nonces)
    for image, got in zip(images[:2], hidden, strict=False):
        np.testing.assert_array_equal(got, slow_encrypt(KEY, scheme, image, **how))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_decryption_inverts_encryption_and_tensors_go_the_same_way(
    scheme: str, case: tuple[np.ndarray, dict[str, Any]]
) -> None:
    images, how = case
    cipher = cipher_for(scheme, images, **how)
    nonces = cipher.fresh_nonces(len(images))
    hidden = cipher.encrypt(images, nonces)
    np.testing.assert_array_equal(cipher.decrypt(hidden, nonces), images)
    torch = pytest.importorskip("torch")
    for way in (cipher.encrypt, lambda x, y: cipher._apply_on_device(x, y, size=images.shape[2:], hiding=True)):
        np.testing.assert_array_equal(way(torch.from_numpy(images), nonces).numpy(), hidden)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=20, deadline=None)
@given(case=cases())
def test_it_is_a_bijection_where_nothing_is_padded(scheme: str, case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    grown = np.repeat(np.repeat(images, how["block"], axis=2), how["block"], axis=3)
    cipher = cipher_for(scheme, grown, **how)
    nonces = cipher.fresh_nonces(len(images))
    np.testing.assert_array_equal(cipher.encrypt(cipher.decrypt(grown, nonces), nonces), grown)


# Made once by `slow_encrypt` under SECRET, and NONCE where one is needed; they hold the format against a change of
# formula and code together.
VECTORS = [
    (
        "per-block",
        (3, 32, 32),
        4,
        "uint8",
        8,
        False,
        "506b09f7ce859a302d3db8302b30d5c7d5c6b0b5b959a941dd9b2b56ba62ddf5",
    ),
    ("per-block", (3, 32, 32), 4, "uint8", 8, True, "2d7bcc9d09476c03fd8a730d0f3c0d936e1cfb48c9de1a7dd67a84c5744dec13"),
    (
        "per-block",
        (1, 13, 10),
        4,
        "uint16",
        12,
        True,
        "ee99259cd4d936a50a6e64afe9feadbb7dc7a961a75983e9ef2733fb74444ce6",
    ),
    ("etc", (3, 32, 32), 4, "uint8", 8, False, "d6b7fbf309c3e19e6e1ac9212ae617328dbd3f319d86e7f48b166bad6d26d6e6"),
    ("etc", (1, 50, 50), 25, "uint8", 8, False, "2fe9a779bdfc0915440fd3cbffa49033e19a07a1a6b567b0527c1980718ded6c"),
    ("etc", (2, 9, 17), 8, "uint16", 12, False, "77724c82783f72143119bfbffaa21f3ab352b92c4dad239995929035d4db06f4"),
    (
        "pixel-wise",
        (3, 32, 32),
        4,
        "uint8",
        8,
        False,
        "abf04efe133a806c52571526daa3d4c264e180d40544032aebe1faca54cfee46",
    ),
    (
        "pixel-wise",
        (1, 13, 10),
        16,
        "uint16",
        16,
        False,
        "3eb9214ce456fb865d9edf2d852beb740a080c3b61647924956a13a9f6aebb77",
    ),
    (
        "pixel-wise-fresh",
        (3, 32, 32),
        4,
        "uint8",
        8,
        False,
        "b7c76dc5e233d03f4a9fbbfcc63c3cc444a45c7d6b01364d5e5d9ba995e5a9e0",
    ),
    (
        "pixel-wise-fresh",
        (1, 13, 10),
        16,
        "uint16",
        12,
        False,
        "65a37d628ffa92e5fbe08d0c14e0ebc13fe4bd257130cd61aeacba220cdee191",
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector[0]}-{vector[1]}-{vector[5]}")
def test_recorded_vectors(vector: tuple[str, tuple[int, ...], int, str, int, bool, str]) -> None:
    scheme, shape, block, dtype, bits, negate, digest = vector
    image = (np.arange(np.prod(shape)) % 251 * 37 % 2**bits).astype(dtype).reshape(shape)
    hidden = cipher_for(scheme, image, block=block, bits=bits, negate=negate).encrypt(image, NONCE)
    assert hashlib.sha256(hidden.astype(hidden.dtype.newbyteorder("<")).tobytes()).hexdigest() == digest


# --- what each of them is --------------------------------------------------------------------------------------------


def test_per_block_gives_every_block_a_permutation_and_a_mask_of_its_own() -> None:
    image = np.tile(np.arange(48, dtype=np.uint8).reshape(3, 4, 4), (1, 8, 8))
    plain = cipher_for("per-block", image, block=4, bits=8, negate=False)
    blocks = plain.geometry.cut(plain.encrypt(image))[0]
    assert len(np.unique(blocks, axis=0)) == 64
    np.testing.assert_array_equal(np.sort(blocks, axis=1), np.tile(np.arange(48), (64, 1)))
    negated = cipher_for("per-block", image, block=4, bits=8, negate=True).encrypt(image)
    masks = plain.geometry.cut(negated)[0] > 127
    assert len(np.unique(masks, axis=0)) == 64
    assert 0.45 < masks.mean() < 0.55


def test_etc_always_negates_and_keeps_what_is_inside_a_block_together() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)
    ciphers = [cipher_for("etc", image, block=6, bits=8, negate=negate) for negate in (False, True)]
    np.testing.assert_array_equal(ciphers[0].encrypt(image), ciphers[1].encrypt(image))
    cut = ciphers[0].geometry.cut
    folded = [np.minimum(blocks, 255 - blocks) for blocks in (cut(image), cut(ciphers[0].encrypt(image)))]
    multisets = [Counter(tuple(sorted(block)) for block in blocks[0].tolist()) for blocks in folded]
    assert multisets[0] == multisets[1]


def test_pixel_wise_moves_no_pixel_and_fresh_nonces_make_another_key() -> None:
    image = np.zeros((1, 3, 9, 7), np.uint8)
    image[0, :, 4, 2] = 10, 20, 30
    cipher = cipher_for("pixel-wise", image[0], block=4, bits=8, negate=False)
    assert cipher.padded == (9, 7)
    hidden = cipher.encrypt(image)[0]
    folded = np.minimum(hidden, 255 - hidden)
    assert sorted(folded[:, 4, 2].tolist()) == [10, 20, 30]
    folded[:, 4, 2] = 0
    assert not folded.any()
    fresh = cipher_for("pixel-wise-fresh", image[0], block=4, bits=8, negate=False)
    hidden = fresh.encrypt(np.repeat(image, 2, axis=0), fresh.fresh_nonces(2))
    assert not np.array_equal(hidden[0], hidden[1])


# --- chance ----------------------------------------------------------------------------------------------------------

ALPHA = 1e-6


def uniform(counts: list[int]) -> bool:
    return bool(chisquare(counts).pvalue > ALPHA)


def test_block_permutations_are_uniform_over_blocks_of_one_key() -> None:
    # 4 values a block, 40,000 blocks: all 24 orders equally often.
    image = np.tile(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), (1, 200, 200))
    cipher = cipher_for("per-block", image, block=2, bits=8, negate=False)
    blocks = cipher.geometry.cut(cipher.encrypt(image))[0]
    found = Counter(map(tuple, blocks.tolist()))
    assert len(found) == 24
    assert uniform(list(found.values()))


def test_symmetries_negations_and_channel_orders_are_uniform_and_independent() -> None:
    block = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    image = np.tile(block, (1, 200, 200))
    cipher = cipher_for("etc", image, block=2, bits=8, negate=False)
    blocks = cipher.geometry.cut(cipher.encrypt(image))[0]
    found = Counter(map(tuple, blocks.tolist()))
    assert len(found) == 8 * 2 * 6
    assert uniform(list(found.values()))


@pytest.mark.parametrize("scheme", ["pixel-wise", "pixel-wise-fresh"])
def test_orders_and_flips_of_pixels_are_uniform_and_independent(scheme: str) -> None:
    image = np.broadcast_to(np.array([1, 2, 3], np.uint8)[:, None, None], (3, 200, 200))
    hidden = cipher_for(scheme, image, block=2, bits=8, negate=False).encrypt(image, NONCE)
    found = Counter(map(tuple, hidden.reshape(3, -1).T.tolist()))
    assert len(found) == 48
    assert uniform(list(found.values()))


@pytest.mark.parametrize("scheme", ["per-block", "etc"])
def test_a_block_goes_anywhere_equally_often_over_keys(scheme: str) -> None:
    image = np.zeros((1, 6, 6), np.uint8)
    image[0, :2, :2] = 100
    places = []
    for seed in range(1800):
        cipher = cipher_for(scheme, image, SimulatedKey(seed, "a"), block=2, bits=8, negate=False)
        hidden = cipher.geometry.cut(cipher.encrypt(image))[0]
        places.append(int(np.isin(hidden, (100, 155)).all(axis=1).argmax()))
    assert uniform(np.bincount(places, minlength=9).tolist())
