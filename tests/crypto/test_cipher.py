"""What every cipher has in common, the controls `none` and `aes-ctr`, and choosing a cipher by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.base import Geometry, ImageCipher
from crypto.cipher import SCHEMES, make_cipher
from crypto.config import CipherConfig, resolve
from crypto.keys import Key, SimulatedKey, SiteKey
from medveil.config import from_mapping
from medveil.errors import ConfigError, DataError, KeyMaterialError

SECRET = bytes(range(32))
KEY = SiteKey(SECRET, "mercy")
SIMULATED = SimulatedKey(1, "site-1")


def make(
    scheme: str,
    key: Key | None = KEY,
    *,
    size: int = 12,
    block: int = 4,
    bits: int = 8,
    channels: int = 1,
    negate: bool = False,
) -> ImageCipher:
    config = CipherConfig(scheme=scheme, block=block, negate=negate)
    return make_cipher(config, key, channels=channels, height=size, width=size, bits=bits)


def random_images(n: int, *, size: int = 12, bits: int = 8, channels: int = 1) -> np.ndarray:
    values = np.random.default_rng(n).integers(0, 2**bits, (n, channels, size, size))
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


KEYED = [scheme for scheme in SCHEMES if scheme != "none"]


def bits_of(scheme: str, bits: int) -> int:
    return min(bits, SCHEMES[scheme].largest_bits)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_says_which_block_lies_where(scheme: str) -> None:
    cipher = make(scheme, None if scheme == "none" else KEY, channels=3, negate=SCHEMES[scheme].may_negate)
    order = cipher.block_order()
    assert order is not None
    nonces = np.zeros((1, 16), np.uint8)
    image = random_images(1, channels=3)
    hidden = cipher.geometry.cut(cipher.encrypt(image, nonces))[0]
    for k in range(cipher.geometry.blocks):
        blocks = cipher.geometry.cut(image).copy()
        blocks[0, k] ^= 255
        changed = cipher.geometry.cut(cipher.encrypt(cipher.geometry.join(blocks), nonces))[0]
        (places,) = np.nonzero((changed != hidden).any(axis=1))
        assert order[places].tolist() == [k]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [5, 8, 12, 16])
@pytest.mark.parametrize(("size", "channels"), [(12, 1), (13, 3)])
def test_every_scheme_inverts_keeps_its_input_and_says_its_type_bits_and_size(
    scheme: str, bits: int, size: int, channels: int
) -> None:
    bits = bits_of(scheme, bits)
    images = random_images(3, size=size, bits=bits, channels=channels)
    cipher = make(scheme, size=size, bits=bits, channels=channels)
    nonces = cipher.fresh_nonces(3) if cipher.per_image else None
    before = images.copy()
    hidden = cipher.encrypt(images, nonces)
    assert hidden.shape == (3, channels, *cipher.padded)
    assert cipher.padded == ((size + 3) // 4 * 4,) * 2 if cipher.pads else (size, size)
    assert hidden.dtype == cipher.hidden_dtype(images.dtype)
    assert hidden.max() < 2**cipher.reading.bits
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(hidden, images)
    shown = cipher.decrypt(hidden, nonces)
    assert shown.dtype == images.dtype
    np.testing.assert_array_equal(shown, images)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_takes_no_images_and_one(scheme: str) -> None:
    cipher, images = make(scheme), random_images(2)
    nonces = cipher.fresh_nonces(2)
    none = cipher.encrypt(images[:0], nonces[:0])
    assert none.shape == (0, 1, 12, 12)
    assert cipher.decrypt(none, nonces[:0]).shape == (0, 1, 12, 12)
    hidden = cipher.encrypt(images, nonces)
    one = cipher.encrypt(images[1], nonces[1])
    np.testing.assert_array_equal(one, hidden[1])
    np.testing.assert_array_equal(cipher.decrypt(one, nonces[1]), images[1])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_takes_tensors_and_gives_tensors(scheme: str) -> None:
    bits = bits_of(scheme, 12)
    images = random_images(2, bits=bits)
    cipher = make(scheme, bits=bits)
    nonces = cipher.fresh_nonces(2)
    tensor = torch.from_numpy(images)
    hidden = cipher.encrypt(tensor, nonces)
    assert hidden.dtype == torch.uint16
    np.testing.assert_array_equal(hidden.numpy(), cipher.encrypt(images, nonces))
    assert torch.equal(cipher.decrypt(hidden, nonces), tensor)
    by_way_of_cpu = ImageCipher._apply_on_device(cipher, tensor, nonces, size=(12, 12), hiding=True)
    assert torch.equal(by_way_of_cpu, hidden)


@pytest.mark.parametrize("scheme", KEYED)
@settings(max_examples=15, deadline=None)
@given(bit=st.integers(0, 255), negate=st.booleans())
def test_one_bit_of_the_secret_makes_it_another_cipher(scheme: str, bit: int, negate: bool) -> None:
    images = random_images(1, size=32, channels=3)
    secret = bytearray(SECRET)
    secret[bit // 8] ^= 1 << bit % 8
    mine, other = (make(scheme, key, size=32, channels=3, negate=negate) for key in (KEY, SiteKey(bytes(secret), "m")))
    nonces = mine.fresh_nonces(1)
    hidden = mine.encrypt(images, nonces)
    # Of 3072 uniform values one in 256 agrees by chance; under pixel-wise one in six has the same place and sign.
    most = 0.25 if SCHEMES[scheme].target else 0.06
    assert np.mean(hidden == other.encrypt(images, nonces)) < most
    assert np.mean(other.decrypt(hidden, nonces) == images) < most


@pytest.mark.parametrize("scheme", KEYED)
def test_the_setting_negate_changes_what_a_scheme_says_it_does(scheme: str) -> None:
    images, nonces = random_images(1, channels=3), np.zeros((1, 16), np.uint8)
    plain, negated = (make(scheme, channels=3, negate=negate).encrypt(images, nonces) for negate in (False, True))
    assert np.array_equal(plain, negated) != SCHEMES[scheme].may_negate


@pytest.mark.parametrize("scheme", KEYED)
def test_geometry_is_part_of_the_key(scheme: str) -> None:
    # The same top left block or pixel of the same image, under three geometries of one key.
    images = random_images(1, size=24)
    nonces = np.zeros((1, 16), np.uint8)
    ciphers = [make(scheme, size=12), make(scheme, size=24), make(scheme, size=12, bits=7)]
    subkeys = {cipher._subkey(purpose) for cipher in ciphers for purpose in ("rho", "pi", "neg")}
    assert len(subkeys) == 9
    small, large = ciphers[0].encrypt(images[:, :, :12, :12], nonces), ciphers[1].encrypt(images, nonces)
    assert np.mean(small == large[:, :, :12, :12]) < 0.7


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bits_beyond_a_scheme_are_refused(scheme: str) -> None:
    most = SCHEMES[scheme].largest_bits
    make(scheme, bits=most)
    with pytest.raises(ConfigError, match=f"{most + 1}"):
        make(scheme, bits=most + 1)


@pytest.mark.parametrize("scheme", KEYED)
def test_a_scheme_with_a_key_refuses_to_go_without(scheme: str) -> None:
    with pytest.raises(KeyMaterialError, match=f"{scheme} needs a key"):
        make(scheme, None)


def test_declarations() -> None:
    declared = {name: (kind.per_image, kind.stem_rule, kind.pads, kind.target) for name, kind in SCHEMES.items()}
    assert declared == {
        "block-pixel": (False, "signed-permutation", True, False),
        "per-block": (False, None, True, False),
        "etc": (False, None, True, False),
        "orthogonal": (False, "orthogonal", True, False),
        "aes-ctr": (True, None, False, False),
        "none": (False, "identity", False, False),
        "pixel-wise": (False, None, False, True),
        "pixel-wise-fresh": (True, None, False, True),
    }
    assert make("block-pixel").fingerprint == KEY.fingerprint
    assert make("none").fingerprint == ""


def test_a_cipher_shows_no_key_material() -> None:
    for scheme in KEYED:
        assert KEY.subkey("rho").hex() not in repr(make(scheme))
        assert KEY.fingerprint in repr(make(scheme))


def test_none_is_the_identity_and_so_is_its_stem() -> None:
    images = random_images(2)
    cipher = make("none", None)
    np.testing.assert_array_equal(cipher.encrypt(images), images)
    rho, pi, mask = cipher.stem_permutation()
    assert (rho.tolist(), pi.tolist(), bool(mask.any())) == (list(range(16)), list(range(9)), False)


def test_none_pads_nothing_and_says_so_when_a_stem_needs_whole_blocks() -> None:
    cipher = make("none", None, size=13)
    assert cipher.padded == (13, 13)
    with pytest.raises(ConfigError, match="not whole blocks of 4"):
        cipher.stem_permutation()


# --- aes-ctr ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(bits=st.sampled_from([5, 8, 12, 16]), seed=st.integers(0, 2**32))
def test_aes_ctr_is_an_xor_with_the_key_stream_of_its_nonce(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 2**bits, (2, 5, 7)).astype(np.uint8 if bits <= 8 else np.uint16)
    nonce = rng.integers(0, 256, 16, dtype=np.uint8)
    config = CipherConfig(scheme="aes-ctr", block=4, derivation=1)
    hidden = make_cipher(config, KEY, channels=2, height=5, width=7, bits=bits).encrypt(image, nonce)
    subkey = KEY.subkey("neg", "aes-ctr", B=4, C=2, H=8, W=8, bits=bits)
    stream = Cipher(AES(subkey), CTR(nonce.tobytes())).encryptor().update(bytes(image.nbytes))
    step = image.itemsize
    for position, (plain, got) in enumerate(zip(image.ravel().tolist(), hidden.ravel().tolist(), strict=True)):
        word = int.from_bytes(stream[position * step : (position + 1) * step], "little")
        assert got == plain ^ (word % 2**bits)


def test_aes_ctr_hides_equal_images_differently() -> None:
    images = np.zeros((50, 1, 12, 12), np.uint8)
    cipher = make("aes-ctr")
    hidden = cipher.encrypt(images, cipher.fresh_nonces(50))
    assert len(np.unique(hidden.reshape(50, -1), axis=0)) == 50
    # 7200 fair bytes: mean 127.5, standard error 0.87.
    assert abs(hidden.mean() - 127.5) < 5


def test_aes_ctr_with_another_nonce_or_key_shows_noise() -> None:
    images = random_images(1)
    cipher = make("aes-ctr")
    nonces = cipher.fresh_nonces(1)
    hidden = cipher.encrypt(images, nonces)
    assert np.mean(cipher.decrypt(hidden, nonces ^ np.uint8(1)) == images) < 0.1
    assert np.mean(make("aes-ctr", SiteKey.generate("other")).decrypt(hidden, nonces) == images) < 0.1


@pytest.mark.parametrize("way", ["encrypt", "decrypt"])
def test_aes_ctr_wants_one_nonce_for_each_image(way: str) -> None:
    cipher = make("aes-ctr")
    images = random_images(2)
    with pytest.raises(KeyMaterialError, match="needs a nonce for each image"):
        getattr(cipher, way)(images)
    for wrong in (cipher.fresh_nonces(1), np.zeros((2, 12), np.uint8), np.zeros((2, 16), np.int64)):
        with pytest.raises(DataError, match="for 2 images"):
            getattr(cipher, way)(images, wrong)


@pytest.mark.parametrize("scheme", [name for name, kind in SCHEMES.items() if kind.stem_rule is None])
def test_a_scheme_without_stem_rule_refuses_both_ways_to_ask_for_it(scheme: str) -> None:
    for ask in (make(scheme).stem_permutation, make(scheme).stem_rotation):
        with pytest.raises(ConfigError, match=f"the cipher {scheme} has no stem rule"):
            ask()


def test_the_other_stem_rule_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="block-pixel has no orthogonal stem"):
        make("block-pixel").stem_rotation()
    with pytest.raises(ConfigError, match="orthogonal has no signed-permutation stem"):
        make("orthogonal").stem_permutation()


# --- nonces ----------------------------------------------------------------------------------------------------------


def test_fresh_nonces_never_repeat() -> None:
    cipher = make("aes-ctr")
    drawn = np.concatenate([cipher.fresh_nonces(500), cipher.fresh_nonces(500)])
    assert drawn.shape == (1000, 16)
    assert drawn.dtype == np.uint8
    assert len(np.unique(drawn, axis=0)) == 1000


def test_derived_nonces_repeat_and_do_not_depend_on_how_they_are_asked_for() -> None:
    cipher = make("aes-ctr", SIMULATED)
    drawn = cipher.derived_nonces(0, 1000)
    assert len(np.unique(drawn, axis=0)) == 1000
    np.testing.assert_array_equal(make("aes-ctr", SIMULATED).derived_nonces(990, 10), drawn[990:])
    other = make("aes-ctr", SimulatedKey(2, "site-1")).derived_nonces(0, 1000)
    assert len(np.unique(np.concatenate([drawn, other]), axis=0)) == 2000
    assert cipher.derived_nonces(0, 0).shape == (0, 16)
    # A site counts its views in the upper bits.
    np.testing.assert_array_equal(cipher.derived_nonces(2**40, 3)[1:2], cipher.derived_nonces(2**40 + 1, 1))
    assert cipher.derived_nonces(2**64 - 1, 1).shape == (1, 16)
    for first, n in ((2**64, 1), (2**64 - 1, 2), (-1, 1), (0, -1), (0, 2**40)):
        with pytest.raises(ConfigError, match="nonces: "):
            cipher.derived_nonces(first, n)


def test_derived_nonces_are_refused_for_a_real_key() -> None:
    with pytest.raises(KeyMaterialError, match="in simulations only"):
        make("aes-ctr").derived_nonces(0, 1)


# --- by name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "guess"),
    [("block_pixel", "block-pixel"), ("aes", "aes-ctr"), ("seedpaper", "seed-paper"), ("nome", "none")],
)
def test_an_unknown_scheme_is_refused_with_the_nearest_name(name: str, guess: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is no cipher.*did you mean .*{guess}"):
        make(name)


def test_a_name_like_nothing_is_refused_with_all_names() -> None:
    with pytest.raises(ConfigError, match=f"known: {', '.join(SCHEMES)}, seed-paper"):
        make("rot13")


def test_the_seed_paper_preset_is_sixty_four_blocks_of_25() -> None:
    config = CipherConfig(scheme="seed-paper")
    assert resolve(config) == CipherConfig(scheme="block-pixel", block=25, negate=False)
    cipher = make_cipher(config, KEY, channels=3, height=200, width=200)
    rho, pi, mask = cipher.stem_permutation()
    assert (cipher.scheme, len(rho), len(pi), bool(mask.any())) == ("block-pixel", 25 * 25 * 3, 64, False)


@pytest.mark.parametrize("asked", [{"block": 8}, {"negate": True}])
def test_a_preset_is_not_contradicted(asked: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="preset seed-paper has block 25 and no negation"):
        resolve(CipherConfig(scheme="seed-paper", **asked))


def test_resolving_gives_a_copy() -> None:
    config = CipherConfig()
    resolve(config).block = 99
    resolve(CipherConfig(scheme="seed-paper")).block = 99
    assert config.block == 16
    assert resolve(CipherConfig(scheme="seed-paper")).block == 25


def test_the_configuration_loads_from_data() -> None:
    assert from_mapping(CipherConfig, {"block": 8, "negate": True}, where="test") == CipherConfig(
        "block-pixel", 8, True
    )
    with pytest.raises(ConfigError, match="blok"):
        from_mapping(CipherConfig, {"blok": 8}, where="test")


@pytest.mark.parametrize("field", ["channels", "height", "width", "block", "bits"])
def test_a_size_below_one_is_refused_by_name(field: str) -> None:
    sizes = {"channels": 1, "height": 8, "width": 8, "block": 4, "bits": 8}
    with pytest.raises(ConfigError, match=f"'{field}' is 0"):
        Geometry(**{**sizes, field: 0})
    with pytest.raises(ConfigError, match="'bits' is 17"):
        Geometry(**{**sizes, "bits": 17})
