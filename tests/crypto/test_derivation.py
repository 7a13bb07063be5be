"""Derivation version 1: its published vector, an independent reading of it, and the fairness of its shuffle."""

from __future__ import annotations

import hashlib
import hmac
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crypto.derivation import (
    PURPOSES,
    KeyStream,
    encode_fields,
    fisher_yates,
    mask_bits,
    normals,
    permutation,
    permutations,
    subkey,
    uniforms,
)

SECRET = bytes(range(32))
SHAPE = {"B": 4, "C": 3, "H": 32, "W": 32, "bits": 8}


def reference_subkey(secret: bytes, fields: list[str]) -> bytes:
    """HKDF-SHA256 by hand (RFC 5869), one block of output."""
    info = b"".join(struct.pack(">H", len(field)) + field.encode() for field in fields)
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def reference_permutation(words: list[int], n: int, span: int) -> list[int]:
    """The design's shuffle, a word at a time."""
    order, source = list(range(n)), iter(words)
    for i in range(n - 1, 0, -1):
        b = i + 1
        limit = span // b * b
        u = next(source)
        while u >= limit:
            u = next(source)
        j = u % b
        order[i], order[j] = order[j], order[i]
    return order


def chacha_words(key: bytes, n: int) -> list[int]:
    data = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * n))
    return list(struct.unpack(f"<{n}I", data))


def test_the_published_vector() -> None:
    rho = permutation(KeyStream(subkey(SECRET, "rho", "block-pixel", **SHAPE)), 48)
    pi = permutation(KeyStream(subkey(SECRET, "pi", "block-pixel", **SHAPE)), 64)
    mask = mask_bits(KeyStream(subkey(SECRET, "neg", "block-pixel", **SHAPE)), 48)
    assert rho[:8].tolist() == [43, 13, 18, 45, 23, 4, 36, 44]
    assert pi[:8].tolist() == [30, 19, 28, 40, 35, 10, 55, 2]
    assert mask[:8].astype(int).tolist() == [1, 1, 1, 0, 0, 1, 0, 1]
    assert subkey(SECRET, "fingerprint").hex()[:32] == "4afe90568c169867276000a58b0307d2"


@pytest.mark.parametrize("purpose", PURPOSES)
def test_subkeys_equal_an_hkdf_written_by_hand(purpose: str) -> None:
    fields = ["medveil", "1", purpose, "block-pixel", "B=4", "C=3", "H=32", "W=32", "bits=8"]
    assert subkey(SECRET, purpose, "block-pixel", **SHAPE) == reference_subkey(SECRET, fields)
    assert subkey(SECRET, purpose) == reference_subkey(SECRET, ["medveil", "1", purpose, ""])


def test_the_order_of_parameters_is_ascii_whatever_the_caller_writes() -> None:
    assert subkey(SECRET, "rho", "x", bits=8, W=2, B=1) == subkey(SECRET, "rho", "x", B=1, W=2, bits=8)


def test_fields_cannot_run_into_each_other() -> None:
    assert encode_fields(["ab", "c"]) != encode_fields(["a", "bc"]) != encode_fields(["abc"])


def test_every_purpose_scheme_and_parameter_gives_another_subkey() -> None:
    made = [subkey(SECRET, purpose) for purpose in PURPOSES]
    made += [subkey(SECRET, "rho", scheme) for scheme in ("block-pixel", "aes-ctr")]
    made += [subkey(SECRET, "rho", "block-pixel", **{**SHAPE, name: 7}) for name in SHAPE]
    assert len(set(made)) == len(made)


def test_an_unknown_purpose_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no subkey has the purpose 'roh'"):
        subkey(SECRET, "roh")


@pytest.mark.parametrize("n", [0, 1, 2, 3, 48, 768, 1875])
def test_a_permutation_equals_the_shuffle_word_by_word(n: int) -> None:
    key = subkey(SECRET, "rho")
    assert permutation(KeyStream(key), n).tolist() == reference_permutation(chacha_words(key, n + 50), n, 2**32)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 200))
def test_refused_words_shift_the_rest_and_no_word_is_wasted(seed: int, n: int) -> None:
    # 8-bit words: up to half of them are refused, which 32-bit words do not show in a lifetime.
    words = np.random.default_rng(seed).integers(0, 256, 1000).tolist()
    taken = 0

    def draw(count: int) -> np.ndarray:
        nonlocal taken
        taken += count
        return np.array(words[taken - count : taken], dtype=np.uint8)

    assert fisher_yates(draw, n, span=256).tolist() == reference_permutation(words, n, 256)
    accepted, used = 0, 0
    while accepted < max(n - 1, 0):
        b = n - accepted
        accepted += words[used] < 256 // b * b
        used += 1
    assert taken == used


@settings(max_examples=60, deadline=None)
@given(key=st.binary(min_size=32, max_size=32), count=st.integers(0, 80), n=st.integers(0, 40))
def test_many_permutations_are_those_drawn_one_after_another(key: bytes, count: int, n: int) -> None:
    together, apart = KeyStream(key), KeyStream(key)
    found = permutations(together, count, n)
    assert found.shape == (count, n)
    assert found.dtype == np.int64
    for row in found:
        np.testing.assert_array_equal(row, permutation(apart, n))
    assert together.read(8) == apart.read(8)


def test_many_permutations_pass_over_refused_words_alike() -> None:
    together, apart = KeyStream(SECRET), KeyStream(SECRET)
    found = permutations(together, 64, 20_000)
    np.testing.assert_array_equal(found, [permutation(apart, 20_000) for _ in range(64)])
    following = together.read(8)
    assert following == apart.read(8)
    unrefused = KeyStream(SECRET)
    unrefused.words(64 * 19_999)
    assert following != unrefused.read(8), "the stream should hold a word that is refused"


def test_words_too_narrow_for_the_length_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot shuffle 257"):
        fisher_yates(lambda n: np.zeros(n, np.uint8), 257, span=256)


def shuffles(rule: str, n: int, count: int) -> np.ndarray:
    """`count` permutations of n from one stream of 8-bit words: by the unbiased rule, or by `u mod b` alone."""
    data = np.frombuffer(KeyStream(subkey(SECRET, "pi")).read(4 * count * n), dtype=np.uint8)
    position = 0

    def draw(k: int) -> np.ndarray:
        nonlocal position
        position += k
        return data[position - k : position]

    def biased() -> np.ndarray:
        order = list(range(n))
        for i, word in zip(range(n - 1, 0, -1), draw(n - 1).tolist(), strict=True):
            j = word % (i + 1)
            order[i], order[j] = order[j], order[i]
        return np.array(order)

    return np.stack([fisher_yates(draw, n, span=256) if rule == "unbiased" else biased() for _ in range(count)])


def uniformity(orders: np.ndarray) -> float:
    """p-value of a chi-square test that each value is equally likely at the last place, where the first draw lands."""
    return float(stats.chisquare(np.bincount(orders[:, -1], minlength=orders.shape[1])).pvalue)


def test_chi_square_accepts_the_unbiased_shuffle_and_rejects_one_with_modulo_bias() -> None:
    # 256 mod 100 = 56: `u mod 100` makes 0..55 half as likely again as 56..99.
    assert uniformity(shuffles("unbiased", 100, 4000)) > 0.001
    assert uniformity(shuffles("biased", 100, 4000)) < 1e-12


def test_all_permutations_of_four_are_equally_likely() -> None:
    stream = KeyStream(subkey(SECRET, "rho", "uniformity"))
    seen = [tuple(permutation(stream, 4).tolist()) for _ in range(12_000)]
    counts = np.unique([hash(order) for order in seen], return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 0.001


def test_every_place_of_a_long_permutation_is_uniform() -> None:
    stream = KeyStream(subkey(SECRET, "pi", "uniformity"))
    n, count = 16, 4000
    table = np.zeros((n, n))
    for _ in range(count):
        table[np.arange(n), permutation(stream, n)] += 1
    # Rows and columns of a sum of permutation matrices are fixed, which leaves (n - 1)**2 degrees of freedom and
    # shrinks the statistic by (n - 1) / n.
    statistic = ((table - count / n) ** 2 / (count / n)).sum() * (n - 1) / n
    assert stats.chi2.sf(statistic, (n - 1) ** 2) > 0.001


def test_mask_bits_are_least_significant_first() -> None:
    data = KeyStream(bytes(32)).read(3)
    assert mask_bits(KeyStream(bytes(32)), 20).tolist() == [bool(data[i >> 3] >> (i & 7) & 1) for i in range(20)]


def test_mask_bits_are_fair() -> None:
    ones = int(mask_bits(KeyStream(SECRET), 100_000).sum())
    assert stats.binomtest(ones, 100_000).pvalue > 0.001


def test_uniforms_keep_clear_of_zero_and_one_at_the_extremes() -> None:
    class Extreme(KeyStream):
        def words(self, n: int) -> np.ndarray:
            return np.array([0, 0, 2**32 - 1, 2**32 - 1], dtype=np.uint32)[:n]

    low, high = uniforms(Extreme(bytes(32)), 2).tolist()
    assert 0 < low < 2**-52
    assert 1 - 2**-52 < high < 1


def test_normals_are_normal_repeatable_and_a_prefix_of_longer_ones() -> None:
    drawn = normals(SECRET, 20_000)
    assert drawn.dtype == np.float64
    assert drawn.shape == (20_000,)
    assert stats.kstest(drawn, "norm").pvalue > 0.001
    assert np.array_equal(normals(SECRET, 7), drawn[:7])
    assert not np.array_equal(normals(bytes(32), 7), drawn[:7])


def test_normals_equal_the_inverse_cdf_of_the_stream() -> None:
    high, low, *_ = chacha_words(SECRET, 2)
    u = ((high << 20 | low >> 12) + 0.5) / 2**52
    assert normals(SECRET, 1)[0] == pytest.approx(stats.norm.ppf(u), abs=1e-12)
