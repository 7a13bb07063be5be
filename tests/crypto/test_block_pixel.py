"""block-pixel against its formula, written as slowly and plainly as can be."""

from __future__ import annotations

import hashlib
import struct
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.cipher import ImageCipher, make_cipher
from crypto.config import CipherConfig
from crypto.keys import Key, SimulatedKey, SiteKey
from medveil.errors import DataError

SECRET = bytes(range(32))
KEY = SiteKey(SECRET, "mercy")


def stream(key: bytes, n: int, nonce: bytes = bytes(16)) -> bytes:
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(n))


def reference_permutation(key: bytes, n: int) -> list[int]:
    words = iter(struct.unpack(f"<{n + 50}I", stream(key, 4 * (n + 50))))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        b = i + 1
        u = next(word for word in words if word < 2**32 // b * b)
        order[i], order[u % b] = order[u % b], order[i]
    return order


def reference_encrypt(key: Key, image: np.ndarray, *, block: int, bits: int, negate: bool) -> np.ndarray:
    """One image by design section 2, a value at a time."""
    C, H, W = image.shape
    B, Hp, Wp = block, -(-H // block) * block, -(-W // block) * block
    shape = {"B": B, "C": C, "H": Hp, "W": Wp, "bits": bits}
    size = image.dtype.itemsize
    padded = np.zeros((C, Hp, Wp), dtype=np.int64)
    nonce = hashlib.sha256(np.ascontiguousarray(image).astype(image.dtype.newbyteorder("<")).tobytes()).digest()[:16]
    pad = stream(key.subkey("pad", "block-pixel", **shape), C * Hp * Wp * size, nonce)
    used = 0
    for c, y, x in product(range(C), range(Hp), range(Wp)):
        if y < H and x < W:
            padded[c, y, x] = image[c, y, x]
        else:
            padded[c, y, x] = int.from_bytes(pad[used : used + size], "little") % 2**bits
            used += size
    across = Wp // B
    L, N = C * B * B, (Hp // B) * across
    rho = reference_permutation(key.subkey("rho", "block-pixel", **shape), L)
    pi = reference_permutation(key.subkey("pi", "block-pixel", **shape), N)
    neg = stream(key.subkey("neg", "block-pixel", **shape), L)
    where = [(c, dy, dx) for c in range(C) for dy in range(B) for dx in range(B)]
    out = np.zeros_like(padded)
    for j, i in product(range(N), range(L)):
        c, dy, dx = where[rho[i]]
        v = padded[c, pi[j] // across * B + dy, pi[j] % across * B + dx]
        if negate and neg[i >> 3] >> (i & 7) & 1:
            v = 2**bits - 1 - v
        c, dy, dx = where[i]
        out[c, j // across * B + dy, j % across * B + dx] = v
    return out.astype(image.dtype)


def cipher_for(images: np.ndarray, key: Key = KEY, *, block: int, bits: int, negate: bool) -> ImageCipher:
    channels, height, width = images.shape[-3:]
    config = CipherConfig(block=block, negate=negate, derivation=1)
    return make_cipher(config, key, channels=channels, height=height, width=width, bits=bits)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    bits, dtype = draw(st.sampled_from([(8, "uint8"), (5, "uint8"), (12, "uint16"), (16, "uint16"), (8, "uint16")]))
    shape = tuple(draw(st.integers(low, high)) for low, high in ((0, 5), (1, 4), (1, 23), (1, 23)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = rng.integers(0, 2**bits, shape).astype(dtype)
    return images, {"block": draw(st.integers(1, 9)), "bits": bits, "negate": draw(st.booleans())}


@pytest.mark.parametrize(
    ("negate", "digest"),
    [
        (False, "0b2878cb35338f8253761740b4fe22ed03d757a6052f1eff3704f2e5d642cce5"),
        (True, "074c865e37aadfb589cf5151bfd66a9133b3f58fada2e4272236f403fb69beff"),
    ],
)
def test_the_published_vector(negate: bool, digest: str) -> None:
    image = (np.arange(3072) % 251).astype(np.uint8).reshape(3, 32, 32)
    hidden = cipher_for(image, block=4, bits=8, negate=negate).encrypt(image)
    assert hashlib.sha256(hidden.tobytes()).hexdigest() == digest


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_it_equals_the_formula(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    hidden = cipher_for(images, **how).encrypt(images)
    assert hidden.dtype == images.dtype
    for image, got in zip(images[:2], hidden, strict=False):
        np.testing.assert_array_equal(got, reference_encrypt(KEY, image, **how))


# Made once by `reference_encrypt` under SECRET; they hold the format against a change of formula and code together.
VECTORS = [
    ((1, 8, 8), 4, "uint8", 8, False, "34d3511211c04b87f2eb28b2aa5bc8aa975c45bcec0175ccfed6fe34c6adb1fb"),
    ((3, 50, 50), 25, "uint8", 8, False, "5c9d0c7d0796d78a2033fefc85c5638a5b56a9307cc4f0c5f41d4a839847a18a"),
    ((1, 13, 10), 4, "uint8", 8, True, "bd0d3803c6fce91fd50f5218d5fe49bd6bb36dd739d5ca59b0f36bfeb48793d4"),
    ((2, 9, 17), 8, "uint16", 12, True, "17362c38afa5bc08fc771940e98760501699cb4649ca3000246051ceacf9c15c"),
    ((1, 16, 16), 16, "uint16", 16, True, "d00675b77ee23944bf6ca4afeeaa97f1cc4255131d55d9e8b37f619803fb15eb"),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_recorded_vectors(vector: tuple[tuple[int, ...], int, str, int, bool, str]) -> None:
    shape, block, dtype, bits, negate, digest = vector
    image = (np.arange(np.prod(shape)) * 37 % 2**bits).astype(dtype).reshape(shape)
    hidden = cipher_for(image, block=block, bits=bits, negate=negate).encrypt(image)
    assert hashlib.sha256(hidden.astype(hidden.dtype.newbyteorder("<")).tobytes()).hexdigest() == digest


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_decryption_inverts_encryption(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    cipher = cipher_for(images, **how)
    hidden = cipher.encrypt(images)
    assert hidden.shape == (*images.shape[:2], *cipher.padded)
    assert hidden.max(initial=0) < 2 ** how["bits"]
    np.testing.assert_array_equal(cipher.decrypt(hidden), images)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_encryption_inverts_decryption_where_nothing_is_padded(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    grown = np.repeat(np.repeat(images, how["block"], axis=2), how["block"], axis=3)
    cipher = cipher_for(grown, **how)
    np.testing.assert_array_equal(cipher.encrypt(cipher.decrypt(grown)), grown)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_one_image_is_encrypted_as_in_a_batch(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    cipher = cipher_for(images, **how)
    hidden = cipher.encrypt(images)
    for image, expected in zip(images, hidden, strict=True):
        np.testing.assert_array_equal(cipher.encrypt(image), expected)
        np.testing.assert_array_equal(cipher.decrypt(expected), image)


def test_a_batch_larger_than_a_cache_group_is_encrypted_as_its_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, 3, 224, 224), dtype=np.uint8)
    cipher = cipher_for(images, block=16, bits=8, negate=True)
    np.testing.assert_array_equal(cipher.encrypt(images), np.stack([cipher.encrypt(image) for image in images]))


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_it_moves_every_value_to_a_place_of_its_own(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    _, how = case
    # Every padded pixel numbered: a bijection of places keeps the set of numbers, and block by block at that.
    shape = (2, how["block"] * 3, how["block"] * 2)
    numbered = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    cipher = cipher_for(numbered, block=how["block"], bits=16, negate=False)
    hidden = cipher.encrypt(numbered)
    assert not np.array_equal(hidden, numbered)
    np.testing.assert_array_equal(np.sort(hidden, axis=None), numbered.ravel())


def test_the_stem_permutation_says_what_encryption_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 12, 8), dtype=np.uint8)
    cipher = cipher_for(image, block=4, bits=8, negate=True)
    rho, pi, mask = cipher.stem_permutation()
    assert [part.dtype.name for part in (rho, pi, mask)] == ["int64", "int64", "bool"]

    def blocks(of: np.ndarray) -> np.ndarray:
        return of.reshape(3, 3, 4, 2, 4).transpose(1, 3, 0, 2, 4).reshape(6, 48)

    moved = blocks(image)[pi][:, rho]
    np.testing.assert_array_equal(blocks(cipher.encrypt(image)), np.where(mask, 255 - moved, moved))


def test_a_returned_stem_permutation_cannot_change_the_cipher() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    cipher = cipher_for(image, block=4, bits=8, negate=True)
    for part in cipher.stem_permutation():
        part[:] = 0
    np.testing.assert_array_equal(cipher.encrypt(image), reference_encrypt(KEY, image, block=4, bits=8, negate=True))


@settings(max_examples=30, deadline=None)
@given(bit=st.integers(0, 255), negate=st.booleans())
def test_one_bit_of_the_secret_changes_about_everything(bit: int, negate: bool) -> None:
    image = np.random.default_rng(bit).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    secret = bytearray(SECRET)
    secret[bit // 8] ^= 1 << bit % 8
    near = SiteKey(bytes(secret), "mercy")
    mine = cipher_for(image, block=8, bits=8, negate=negate)
    other = cipher_for(image, near, block=8, bits=8, negate=negate)
    # Uniform pixels agree by chance once in 256; 3072 of them more than 3 % with probability below 1e-9.
    assert np.mean(mine.encrypt(image) == other.encrypt(image)) < 0.03
    assert np.mean(other.decrypt(mine.encrypt(image)) == image) < 0.03


def test_another_size_or_block_has_unrelated_permutations() -> None:
    made = [
        make_cipher(CipherConfig(block=8), KEY, channels=1, height=size, width=size, bits=bits).stem_permutation()
        for size, bits in ((32, 8), (64, 8), (32, 7))
    ]
    assert len({tuple(stem.rho.tolist()) for stem in made}) == 3


def test_padding_depends_on_the_whole_image_and_repeats_for_the_same() -> None:
    one = np.zeros((1, 8, 9), np.uint8)
    other = one.copy()
    other[0, 0, 0] = 1
    cipher = cipher_for(one, block=8, bits=8, negate=False)
    np.testing.assert_array_equal(cipher.encrypt(one), cipher.encrypt(one))
    changed = np.count_nonzero(cipher.encrypt(one) != cipher.encrypt(other))
    assert changed > 40, "one pixel of the image should change nearly all 56 pixels of padding"


def test_padding_looks_uniform_within_the_bits() -> None:
    images = np.zeros((1, 1, 250, 1), np.uint16)
    hidden = cipher_for(images, block=250, bits=12, negate=False).encrypt(images)
    assert 0.48 < hidden.sum() / (4095 * (hidden.size - 250)) < 0.52
    assert hidden.max() > 4000


@pytest.mark.parametrize("hiding", [True, False])
@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 5), ("uint16", 12)])
def test_a_value_beyond_the_bits_is_refused(hiding: bool, dtype: str, bits: int) -> None:
    images = np.zeros((2, 1, 8, 8), dtype)
    images[1, 0, 3, 3] = 2**bits
    cipher = cipher_for(images, block=4, bits=bits, negate=True)
    with pytest.raises(DataError, match=f"pixel value {2**bits} in images of {bits} bits"):
        (cipher.encrypt if hiding else cipher.decrypt)(images)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 8, 9), "uint8", r"shape \(1, 8, 9\)"),
        ((3, 8, 8), "uint8", "shape"),
        ((8, 8), "uint8", "shape"),
        ((1, 1, 1, 8, 8), "uint8", "shape"),
        ((1, 8, 8), "float32", "dtype float32"),
        ((1, 8, 8), "int16", "dtype int16"),
        ((1, 8, 8), "uint32", "dtype uint32"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(shape: tuple[int, ...], dtype: str, message: str) -> None:
    cipher = make_cipher(CipherConfig(block=4, derivation=1), KEY, channels=1, height=8, width=8)
    with pytest.raises(DataError, match=message):
        cipher.encrypt(np.zeros(shape, dtype))


def test_eight_bit_pixels_are_refused_by_a_cipher_of_more_bits() -> None:
    cipher = make_cipher(CipherConfig(block=4), KEY, channels=1, height=8, width=8, bits=12)
    with pytest.raises(DataError, match="dtype uint8 for a cipher of 12 bits"):
        cipher.encrypt(np.zeros((1, 8, 8), np.uint8))


def test_views_memory_maps_and_read_only_arrays_are_taken(tmp_path: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    cipher = cipher_for(images, block=4, bits=8, negate=False)
    expected = cipher.encrypt(images)
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=images.shape)
    mapped[:] = images
    frozen = images.copy()
    frozen.flags.writeable = False
    for given_images in (np.asfortranarray(images), mapped, frozen, images[::-1][::-1]):
        np.testing.assert_array_equal(cipher.encrypt(given_images), expected)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_tensors_are_encrypted_as_arrays(device: str, case: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, how = case
    cipher = cipher_for(images, **how)
    expected = cipher.encrypt(images)
    tensor = torch.from_numpy(images).to(device)
    hidden = cipher.encrypt(tensor)
    assert (hidden.dtype, hidden.device) == (tensor.dtype, tensor.device)
    np.testing.assert_array_equal(hidden.cpu().numpy(), expected)
    np.testing.assert_array_equal(cipher.decrypt(hidden).cpu().numpy(), images)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_the_path_of_other_devices_equals_the_cpu_path(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    # CPU tensors take numpy's path; this drives the accelerator's own code, which runs on any device.
    images, how = case
    cipher = cipher_for(images, **how)
    expected = cipher.encrypt(images)
    size = images.shape[2:]
    hidden = cipher._apply_on_device(torch.from_numpy(images), None, size=size, hiding=True)
    np.testing.assert_array_equal(hidden.numpy(), expected)
    shown = cipher._apply_on_device(hidden, None, size=cipher.padded, hiding=False)
    np.testing.assert_array_equal(shown.numpy(), images)
    if len(images):
        one = cipher._apply_on_device(hidden[0], None, size=cipher.padded, hiding=False)
        np.testing.assert_array_equal(one.numpy(), images[0])


@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 5), ("uint16", 12), ("uint16", 15)])
def test_the_path_of_other_devices_refuses_a_value_beyond_the_bits(dtype: str, bits: int) -> None:
    images = np.full((1, 1, 8, 8), 2**bits, dtype)
    cipher = cipher_for(images, block=4, bits=bits, negate=True)
    with pytest.raises(DataError, match=f"pixel value {2**bits}"):
        cipher._apply_on_device(torch.from_numpy(images), None, size=(8, 8), hiding=True)


def test_a_simulated_key_hides_as_well_as_a_site_key() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    cipher = cipher_for(image, SimulatedKey(3, "a"), block=4, bits=8, negate=False)
    assert cipher.fingerprint.startswith("sim-")
    np.testing.assert_array_equal(cipher.decrypt(cipher.encrypt(image)), image)
