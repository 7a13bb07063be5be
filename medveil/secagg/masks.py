"""Masks: keys that two sites agree on (X25519, RFC 7748), and the streams (ChaCha20, RFC 8439) that hide a vector.

What is shared among sites is an element of Shamir's field; the X25519 key and the self mask follow from it by HKDF.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from medveil.errors import FederationError
from medveil.secagg.encoding import KEY_BYTES, Field, derive, digest
from medveil.secagg.fixed import CHUNK, Residues
from medveil.secagg.shamir import to_bytes

UPDATE, SUMS = "update", "sums"
"""What a mask is for: the update, and the measures that are summed with it."""
_NONCE_BYTES = 12
_ZEROS = bytes(4 * CHUNK)
_PRIME = 2**255 - 19
_ANY = X25519PrivateKey.from_private_bytes(bytes(KEY_BYTES))


def private_key(element: int) -> X25519PrivateKey:
    """The key that a site's shared element stands for."""
    return X25519PrivateKey.from_private_bytes(derive(to_bytes(element), "x25519", "mask"))


def public_bytes(key: X25519PrivateKey) -> bytes:
    """The public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def commitment(element: int) -> bytes:
    """32 bytes that bind a site to its self mask and tell nothing of it."""
    return digest("self", to_bytes(element))


def pair_key(private: X25519PrivateKey, public: bytes, transcript: bytes, names: tuple[str, str], what: str) -> bytes:
    """The key of the mask two sites share in one transcript; the same at both.

    Parameters
    ----------
    private
        Of one of them.
    public
        Of the other, 32 bytes.
    transcript
        What all sites of the round have in common.
    names
        Both, in any order.
    what
        `UPDATE` or `SUMS`.

    Raises
    ------
    FederationError
        The public half is no key: it would give everybody the same.
    """
    return agreed_key(private, public, "mask", what, transcript, *sorted(names))


def self_key(element: int, transcript: bytes, what: str) -> bytes:
    """The key of a site's own mask in one transcript."""
    return derive(to_bytes(element), "self", what, transcript)


def agreed_key(private: X25519PrivateKey, public: bytes, *info: Field) -> bytes:
    """32 bytes that two keys agree on, for what `info` says (FederationError where `public` is no key)."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise FederationError("a public key is none") from None
    return derive(shared, *info)


def is_key(public: bytes) -> bool:
    """Whether 32 bytes are a public key that two can agree on, written as RFC 7748 writes it.

    A point of low order gives everybody the same, so that nobody takes it, and one site could stop all others by it;
    a second spelling of a key would be another site's under a new name.
    """
    if len(public) != KEY_BYTES or int.from_bytes(public, "little") >= _PRIME:
        return False
    try:
        agreed_key(_ANY, public)
    except FederationError:
        return False
    return True


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypt with ChaCha20-Poly1305, under a nonce of its own: 28 bytes longer."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """What `seal` sealed for this context (FederationError for anything else)."""
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        raise FederationError("the sealed shares do not open") from None


def mask(vector: Residues, *, plus: Iterable[bytes], minus: Iterable[bytes] = ()) -> None:
    """Add and subtract the streams of keys in place, modulo 2^32: words of 32 bits, least byte first.

    Parameters
    ----------
    vector
        (d,) uint32.
    plus, minus
        Keys of 32 bytes.
    """
    streams = _streams(plus, minus)
    buffer = bytearray(4 * CHUNK)
    words = np.frombuffer(buffer, "<u4")
    for start in range(0, len(vector), CHUNK):
        part = vector[start : start + CHUNK]
        for stream, apply in streams:
            stream.update_into(memoryview(_ZEROS)[: 4 * len(part)], buffer)
            apply(part, words[: len(part)], out=part)


def mask_wide(vector: npt.NDArray[np.uint64], *, plus: Iterable[bytes], minus: Iterable[bytes] = ()) -> None:
    """The same of (m,) uint64 modulo 2^64; short vectors."""
    for stream, apply in _streams(plus, minus):
        words = np.frombuffer(stream.update(bytes(8 * len(vector))), "<u8")
        apply(vector, words, out=vector)


def _streams(plus: Iterable[bytes], minus: Iterable[bytes]) -> list[tuple[CipherContext, np.ufunc]]:
    keyed = [(key, np.add) for key in plus] + [(key, np.subtract) for key in minus]
    return [(Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor(), apply) for key, apply in keyed]
