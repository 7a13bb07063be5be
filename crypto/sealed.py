"""Bytes sealed under a subkey: AES-256-GCM with a fresh nonce, for stems and other private state at rest.

Layout: ``MVSEAL``, a version byte, a 12-byte nonce, ciphertext and tag. Random nonces keep AES-GCM sound for some
2**32 seals under one subkey (NIST SP 800-38D), far above what a site seals.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from medveil.errors import DataError, FormatError, IntegrityError

MAGIC = b"MVSEAL"
VERSION = 1
NONCE_BYTES = 12
TAG_BYTES = 16
LARGEST = 2**31 - 1
_START = len(MAGIC) + 1


def seal(subkey: bytes, plaintext: bytes, *, associated: bytes) -> bytes:
    """Encrypt and authenticate bytes.

    Parameters
    ----------
    subkey
        32 bytes, for example ``key.subkey("state")``.
    plaintext
        What to hide, below 2 GiB.
    associated
        What the sealed bytes belong to (run, round, name); `unseal` must be given the same.

    Raises
    ------
    DataError
        The plaintext is too large.
    """
    if len(plaintext) > LARGEST:
        raise DataError(f"{len(plaintext)} bytes are too many to seal at once", cure=f"at most {LARGEST}")
    head = MAGIC + bytes([VERSION])
    nonce = os.urandom(NONCE_BYTES)
    return head + nonce + AESGCM(subkey).encrypt(nonce, plaintext, head + associated)


def unseal(subkey: bytes, sealed: bytes, *, associated: bytes) -> bytes:
    """Return what `seal` was given.

    Raises
    ------
    FormatError
        These are not sealed bytes, or of a newer version.
    IntegrityError
        They are cut or changed, belong to something else, or were sealed under another key: authenticated
        encryption cannot tell which.
    """
    if sealed[: len(MAGIC)] != MAGIC[: len(sealed)]:
        raise FormatError("is not sealed data")
    if len(sealed) < _START + NONCE_BYTES + TAG_BYTES:
        raise IntegrityError("sealed data is cut short", cure="restore it from a copy")
    version = sealed[len(MAGIC)]
    if version != VERSION:
        problem = f"is sealed data of version {version}; this MedVeil reads up to {VERSION}"
        raise FormatError(problem, cure="upgrade MedVeil")
    nonce = sealed[_START : _START + NONCE_BYTES]
    try:
        return AESGCM(subkey).decrypt(nonce, sealed[_START + NONCE_BYTES :], sealed[:_START] + associated)
    except InvalidTag:
        cure = "use the key it was sealed under, or restore it from a copy"
        raise IntegrityError("wrong key or changed file", cure=cure) from None
