"""Derivations 1 and 2: their vectors, an independent reading of both, and the fairness of the shuffle."""

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

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.derivation import (
    HIDING,
    PURPOSES,
    USES,
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
from crypto.keys import SiteKey

SECRET = bytes(range(32))
VECTORS_2 = {
    "training": (
        [34, 6, 17, 40, 43, 15, 10, 27],
        [55, 59, 28, 22, 43, 14, 50, 9],
        [0, 1, 1, 0, 0, 0, 0, 1],
        "ffb94afb71a4c3e6809697313fb4e0d11b26a95e8b5f1a00062c93b85eabe55b",
        "6b08f43065d9698a2808379a54e467493a69ed3ff9a3c7d72896a9f6c8618764",
    ),
    "archive": (
        [15, 19, 30, 42, 38, 4, 9, 21],
        [20, 10, 41, 63, 40, 45, 15, 17],
        [1, 1, 1, 0, 1, 1, 0, 1],
        "ed1eebc00dffad844e2d4d229b7e1d424445855b1a86df1a3b3cca230e653195",
        "5b71aaaeacdd46a8cd0d7396f0e23375671685758783e976c4fa394ddb34cb03",
    ),
    "store": (
        [11, 42, 40, 37, 5, 1, 13, 25],
        [45, 8, 50, 33, 24, 21, 34, 7],
        [1, 1, 1, 0, 1, 1, 0, 0],
        "fc0908f5ed10a2decd42fb7a2afae5df6d1cea57943b081e1c9e01632dc57c8a",
        "2cd84ccd4e2926b5fd56c3e5edce8ea5a4ff4e49f482230f76df4c5796a59a13",
    ),
}
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


@pytest.mark.parametrize("purpose", HIDING)
@pytest.mark.parametrize("use", USES)
def test_what_hides_images_is_told_apart_by_its_use(purpose: str, use: str) -> None:
    fields = ["medveil", "2", use, purpose, "block-pixel", "B=4", "C=3", "H=32", "W=32", "bits=8"]
    assert subkey(SECRET, purpose, "block-pixel", use=use, **SHAPE) == reference_subkey(SECRET, fields)


def test_no_two_uses_and_no_two_derivations_share_a_subkey() -> None:
    found = {subkey(SECRET, purpose, "x", use=use) for purpose in HIDING for use in ("", *USES)}
    assert len(found) == len(HIDING) * 4


@pytest.mark.parametrize(("purpose", "use"), [("mac", "store"), ("fingerprint", "training"), ("rho", "elsewhere")])
def test_other_subkeys_have_no_use(purpose: str, use: str) -> None:
    with pytest.raises(ValueError, match="no subkey of purpose"):
        subkey(SECRET, purpose, use=use)


@pytest.mark.parametrize("use", USES)
def test_the_vectors_of_derivation_2(use: str) -> None:
    """Made by the slow readings in this file from the written formula, and recorded."""
    start = ["medveil", "2", use]
    shape = ["block-pixel", "B=4", "C=3", "H=32", "W=32", "bits=8"]
    keys = {purpose: reference_subkey(SECRET, [*start, purpose, *shape]) for purpose in ("rho", "pi", "neg")}
    rho = reference_permutation(chacha_words(keys["rho"], 200), 48, 2**32)
    pi = reference_permutation(chacha_words(keys["pi"], 200), 64, 2**32)
    stream = struct.pack("<2I", *chacha_words(keys["neg"], 2))
    mask = [stream[i >> 3] >> (i & 7) & 1 for i in range(48)]
    x = [value % 251 for value in range(3072)]
    hidden = {negate: bytearray(3072) for negate in (False, True)}
    for j in range(64):
        for i in range(48):
            c, dy, dx = rho[i] // 16, rho[i] // 4 % 4, rho[i] % 4
            value = x[c * 1024 + (pi[j] // 8 * 4 + dy) * 32 + pi[j] % 8 * 4 + dx]
            at = i // 16 * 1024 + (j // 8 * 4 + i // 4 % 4) * 32 + j % 8 * 4 + i % 4
            hidden[False][at], hidden[True][at] = value, 255 - value if mask[i] else value
    digests = {negate: hashlib.sha256(data).hexdigest() for negate, data in hidden.items()}
    assert (rho[:8], pi[:8], mask[:8], digests[False], digests[True]) == VECTORS_2[use]
    image = np.array(x, np.uint8).reshape(3, 32, 32)
    for negate, data in hidden.items():
        config = CipherConfig(block=4, negate=negate)
        cipher = make_cipher(config, SiteKey(SECRET, "mercy"), channels=3, height=32, width=32, use=use)
        assert cipher.encrypt(image).tobytes() == bytes(data)


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


@settings(max_examples=80, deadline=None)
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


@settings(max_examples=30, deadline=None)
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
