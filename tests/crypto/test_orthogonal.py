"""orthogonal against its formula, and what its rounding costs."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from crypto.base import Geometry, Reading
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.derivation import KeyStream, permutation
from crypto.keys import Key, SimulatedKey, SiteKey
from crypto.schemes.orthogonal import Orthogonal, orthogonal
from medveil.errors import ConfigError, DataError

SECRET = bytes(range(32))
KEY = SiteKey(SECRET, "mercy")


def cipher_for(images: np.ndarray, key: Key = KEY, *, block: int, bits: int = 8) -> Orthogonal:
    channels, height, width = images.shape[-3:]
    config = CipherConfig(scheme="orthogonal", block=block, derivation=1)
    made = make_cipher(config, key, channels=channels, height=height, width=width, bits=bits)
    assert isinstance(made, Orthogonal)
    return made


def random_images(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, shape).astype(np.uint8)


# --- the slow reading ------------------------------------------------------------------------------------------------


def slow_matrix(key: Key, length: int, shape: dict[str, int]) -> np.ndarray:
    """Gram-Schmidt on columns of normals by the inverse CDF, in plain Python floats for the draw."""
    data = Cipher(ChaCha20(key.subkey("rho", "orthogonal", **shape), bytes(16)), mode=None).encryptor()
    gaussian = np.empty((length, length))
    for place in np.ndindex(length, length):
        high, low = (int.from_bytes(data.update(bytes(4)), "little") for _ in range(2))
        gaussian[place] = statistics.NormalDist().inv_cdf(((high << 20 | low >> 12) + 0.5) / 2**52)
    columns: list[np.ndarray] = []
    for column in gaussian.T:
        left = column.copy()
        for _ in range(2):  # twice is enough (Giraud et al., 2005)
            for done in columns:
                left = left - (done @ left) * done
        columns.append(left / math.sqrt(float(left @ left)))
    return np.stack(columns, axis=1)


def slow_encrypt(key: Key, image: np.ndarray, *, block: int, bits: int = 8) -> np.ndarray:
    """One image of whole blocks: each block by hand, in float64, not rounded."""
    C, H, W = image.shape
    shape = {"B": block, "C": C, "H": H, "W": W, "bits": bits}
    length, blocks, across = C * block * block, H * W // block**2, W // block
    matrix = slow_matrix(key, length, shape)
    pi = permutation(KeyStream(key.subkey("pi", "orthogonal", **shape)), blocks)
    out = np.empty((C, H, W))
    for j in range(blocks):
        y, x = pi[j] // across * block, pi[j] % across * block
        z = [(2 * int(v) - (2**bits - 1)) / (2**bits - 1) for v in image[:, y : y + block, x : x + block].ravel()]
        turned = matrix @ np.array(z)
        y, x = j // across * block, j % across * block
        values = 65535 / 2 * (1 + turned / math.sqrt(length))
        out[:, y : y + block, x : x + block] = values.reshape(C, block, block)
    return out


@pytest.mark.parametrize(
    ("shape", "block", "bits"), [((1, 8, 8), 4, 8), ((3, 8, 12), 4, 8), ((2, 9, 6), 3, 5), ((1, 3, 5), 1, 8)]
)
def test_it_equals_the_formula_but_for_rounding(shape: tuple[int, int, int], block: int, bits: int) -> None:
    image = random_images(*shape, bits=bits)
    hidden = cipher_for(image, block=block, bits=bits).encrypt(image)
    assert hidden.dtype == np.uint16
    # Half a unit of rounding, and a hundredth for float32.
    assert np.abs(hidden - slow_encrypt(KEY, image, block=block, bits=bits)).max() < 0.51


# Made once by `slow_encrypt` under SECRET for (arange(3072) % 251).reshape(3, 32, 32), B = 4, rounded.
VECTOR: dict[str, Any] = {
    "first": [34185, 30741, 35013, 32194, 33581, 31062, 34706, 32402],
    "last": [33252, 41179, 33040, 40820, 27545, 37086, 32408, 36031],
    "mean": 32897.85,
}


def test_the_recorded_vector() -> None:
    image = (np.arange(3072) % 251).astype(np.uint8).reshape(3, 32, 32)
    hidden = cipher_for(image, block=4).encrypt(image).astype(int)
    np.testing.assert_allclose(hidden[0, 0, :8], VECTOR["first"], rtol=0, atol=1)
    np.testing.assert_allclose(hidden[2, 31, -8:], VECTOR["last"], rtol=0, atol=1)
    assert abs(hidden.mean() - VECTOR["mean"]) < 0.5


def test_the_matrix_is_orthogonal_unique_and_the_same_for_a_key() -> None:
    image = random_images(3, 8, 8)
    matrix, pi = cipher_for(image, block=4).stem_rotation()
    assert (matrix.dtype, pi.dtype) == (np.float64, np.int64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(48), atol=1e-12)
    np.testing.assert_allclose(cipher_for(image, block=4).stem_rotation().matrix, matrix, atol=1e-10)
    # The other solutions of G = Q R have signs of columns changed; R then has negative places on its diagonal.
    gaussian = np.random.default_rng(0).standard_normal((6, 6))
    q = orthogonal(gaussian)
    assert (np.diagonal(q.T @ gaussian) > 0).all()


def test_the_matrix_is_uniform_over_orthogonal_ones() -> None:
    # For L = 2 an orthogonal matrix is an angle and a sign, over keys uniform both.
    angles, signs = [], []
    for seed in range(500):
        image = np.zeros((2, 1, 1), np.uint8)
        matrix = cipher_for(image, SimulatedKey(seed, "a"), block=1).stem_rotation().matrix
        angles.append(math.atan2(matrix[1, 0], matrix[0, 0]) / (2 * math.pi) % 1)
        signs.append(np.linalg.det(matrix))
    assert kstest(angles, "uniform").pvalue > 1e-6
    assert 180 < sum(sign > 0 for sign in signs) < 320


def test_a_returned_rotation_cannot_change_the_cipher() -> None:
    image = random_images(1, 8, 8)
    cipher = cipher_for(image, block=4)
    before = cipher.encrypt(image)
    for part in cipher.stem_rotation():
        part[:] = 0
    np.testing.assert_array_equal(cipher.encrypt(image), before)


# --- round trips -----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    block=st.integers(1, 9),
    bits=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_decryption_inverts_encryption(shape: tuple[int, int, int], block: int, bits: int, seed: int) -> None:
    images = random_images(2, *shape, bits=bits, seed=seed)
    cipher = cipher_for(images, block=block, bits=bits)
    shown = cipher.decrypt(cipher.encrypt(images))
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, images)


@pytest.mark.parametrize(("channels", "block"), [(1, 16), (3, 16), (2, 32)])
def test_flat_images_neither_clip_nor_lose_a_value(channels: int, block: int) -> None:
    # All black or all white blocks are the longest vectors there are.
    values = np.array([0, 1, 127, 128, 254, 255], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (6, channels, 2 * block, 2 * block))
    cipher = cipher_for(images, block=block)
    hidden = cipher.encrypt(images)
    np.testing.assert_array_equal(cipher.decrypt(hidden), images)
    longest = math.sqrt(cipher.geometry.block_length)
    lengths = np.linalg.norm(cipher.geometry.cut((2 * hidden.astype(float) - 65535) / 65535 * longest), axis=2)
    wanted = np.abs(2 * values.astype(float) - 255) / 255 * longest
    np.testing.assert_allclose(lengths, np.broadcast_to(wanted[:, None], lengths.shape), atol=0.01)


def test_the_longest_block_along_an_axis_just_fits() -> None:
    # With Q the identity a black pixel is y = -1 of sqrt(L); the whole of sqrt(L) on one axis needs Q to turn all of
    # z there.
    image = np.zeros((1, 4, 4), np.uint8)
    cipher = cipher_for(image, block=4)
    towards = np.full(16, 0.25)
    reflection = np.eye(16) - 2 * np.outer(towards - np.eye(16)[0], towards - np.eye(16)[0]) / (2 - 0.5)
    cipher._matrix, cipher._single = reflection, reflection.astype(np.float32)
    hidden = cipher.encrypt(image)
    assert hidden[0, 0, 0] == 0
    np.testing.assert_array_equal(cipher.decrypt(hidden), image)
    np.testing.assert_array_equal(cipher.encrypt(255 - image)[0, 0, 0], 65535)


def test_errors_of_rounding_are_those_of_the_docstring() -> None:
    images = random_images(8, 3, 64, 64)
    cipher = cipher_for(images, block=16)
    hidden = cipher.encrypt(images)
    plain = cipher.geometry.cut(images)[:, cipher.stem_rotation().pi]
    off = cipher._returned(cipher.geometry.cut(hidden)) - plain
    assert off.std() == pytest.approx(0.001123 * math.sqrt(768), rel=0.03)


def test_an_image_that_would_not_come_back_is_refused() -> None:
    image = random_images(3, 16, 16)
    cipher = cipher_for(image, block=16)
    # No known image fails; a matrix that is not quite orthogonal stands for one.
    cipher._single = (cipher._matrix * 1.01).astype(np.float32)
    with pytest.raises(DataError, match="would come back from orthogonal"):
        cipher.encrypt(image)


def test_a_wrong_key_shows_noise() -> None:
    image = np.full((3, 32, 32), 40, np.uint8)
    hidden = cipher_for(image, block=8).encrypt(image)
    shown = cipher_for(image, SimulatedKey(1, "a"), block=8).decrypt(hidden)
    assert np.mean(np.abs(shown.astype(int) - 40) < 3) < 0.1


def test_images_are_hidden_alike_alone_and_in_any_company() -> None:
    images = random_images(5, 3, 32, 32)
    cipher = cipher_for(images, block=8)
    np.testing.assert_array_equal(cipher.encrypt(images), np.stack([cipher.encrypt(image) for image in images]))


# --- what is refused, and how it is read -----------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "block", "fits"), [(3, 27, 26), (1, 46, 45), (2, 33, 32), (2049, 1, None)])
def test_blocks_too_long_are_refused_with_a_size_that_fits(channels: int, block: int, fits: int | None) -> None:
    image = np.zeros((channels, 1, 1), np.uint8)
    wanted = f"a block of {fits} for {channels} channels" if fits else "at most 2048 channels"
    with pytest.raises(ConfigError, match=wanted):
        cipher_for(image, block=block)
    if fits:
        Orthogonal.check(Geometry(channels=channels, height=1, width=1, block=fits))


@pytest.mark.parametrize(("hiding", "dtype", "cure"), [(True, np.uint16, "uint8"), (False, np.uint8, "uint16")])
def test_other_types_are_refused_each_way(hiding: bool, dtype: type, cure: str) -> None:
    images = np.zeros((1, 1, 8, 8), dtype)
    cipher = cipher_for(images, block=4)
    with pytest.raises(DataError, match=f"of dtype {np.dtype(dtype)} for orthogonal.*{cure}"):
        (cipher.encrypt if hiding else cipher.decrypt)(images)


def test_a_model_reads_numbers_as_large_as_plain_ones() -> None:
    images = random_images(2, 3, 32, 32)
    cipher = cipher_for(images, block=8)
    bits, gain = cipher.reading
    assert cipher.reading == Reading(16, math.sqrt(192))
    hidden = cipher.encrypt(images).astype(float)
    read = gain * (2 * hidden - (2**bits - 1)) / (2**bits - 1)
    plain = (2 * images.astype(float) - 255) / 255
    matrix, pi = cipher.stem_rotation()
    wanted = cipher.geometry.cut(plain)[:, pi] @ matrix.T
    # sqrt(L)/65535: half a unit, as a model reads it.
    assert np.abs(cipher.geometry.cut(read) - wanted).max() < 1.02 * gain / 65535
    assert read.std() == pytest.approx(plain.std(), rel=0.02)
