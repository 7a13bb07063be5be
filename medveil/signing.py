"""Signatures between server and sites: Ed25519 (RFC 8032) over statements, from `cryptography`.

A statement is canonical JSON (`medveil.audit.canonical`) that begins with what it is for: a *domain* and a version. So
nothing that was signed as one thing can be shown as another. It travels as the very text that was signed, is verified
first and read afterwards: what no key of ours signed is never parsed.

The server's key signs its messages; a site's *identity* signs its replies and stays the same for all runs of a
consortium. Neither encrypts anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from medveil.audit import canonical
from medveil.certificates import refuse_open_key
from medveil.errors import FormatError, SignatureError
from medveil.files import read_bytes, write_bytes

SECRET_BYTES, SIGNATURE_BYTES = 32, 64
LONGEST = 4096
"""Characters of a statement: the longest of ours has some 900."""
_DOMAIN, _VERSION = "domain", "version"
_PRIME = 2**255 - 19
_EIGHTH = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL = frozenset({0, 1, _PRIME - 1, _EIGHTH, _PRIME - _EIGHTH})
"""The y of the eight points of small order: under such a key anybody makes signatures that hold."""


@dataclass(frozen=True)
class Signed:
    """A statement as it was signed, and the signature, base64."""

    statement: str
    signature: str

    @property
    def digest(self) -> str:
        """SHA-256 of both: names this statement and no other, 64 hex digits."""
        return hashlib.sha256(f"{self.statement}\n{self.signature}".encode()).hexdigest()


class SigningKey:
    """The private half of a key that signs.

    Parameters
    ----------
    key
        The key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")
        """The public half, base64."""

    @classmethod
    def generate(cls) -> SigningKey:
        """Draw a fresh key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: bytes) -> SigningKey:
        """The key of a secret of 32 bytes (ValueError for any other length)."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    @property
    def secret(self) -> bytes:
        """The 32 bytes it is made of: key material."""
        return self._key.private_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """What the public half is known by."""
        return fingerprint(self.public)

    def sign(self, domain: str, version: int, fields: dict[str, Any]) -> Signed:
        """Sign a statement.

        Parameters
        ----------
        domain, version
            What it is for, and how its fields are to be read.
        fields
            Plain data.
        """
        statement = canonical({**fields, _DOMAIN: domain, _VERSION: version})
        return Signed(statement.decode("ascii"), base64.b64encode(self._key.sign(statement)).decode("ascii"))

    def save(self, path: Path) -> None:
        """Write the key unsealed, for its owner alone: a server's, which starts without a person (StorageError)."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_bytes(path, pem, mode=0o600)


def load_signing_key(path: Path) -> SigningKey:
    """Read what `SigningKey.save` wrote.

    Raises
    ------
    StorageError
        It is missing, or others than its owner may read it.
    FormatError
        It is something else.
    """
    refuse_open_key(path)
    try:
        key = serialization.load_pem_private_key(read_bytes(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FormatError("is not a signing key", where=path, cure="restore it from a copy") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise FormatError("is not an Ed25519 key", where=path, cure="restore it from a copy")
    return SigningKey(key)


def fingerprint(public: str) -> str:
    """What people and logs know a public key by: ``SHA256:...``, in the manner of OpenSSH."""
    digest = hashlib.sha256(base64.b64decode(public)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def is_public(text: object) -> bool:
    """Whether a text is a public key, in the one way it is written; one that signs for anybody is none."""
    data = _bytes(text, SECRET_BYTES) if isinstance(text, str) else None
    if data is None:
        return False
    # The top bit is the sign of x.
    y = int.from_bytes(data, "little") & (2**255 - 1)
    return y < _PRIME and y not in _SMALL


def verified(signed: Signed, public: str, *, domain: str, newest: int) -> dict[str, Any]:
    """The fields of a statement, once it is proven who signed it.

    Parameters
    ----------
    signed
        What came.
    public
        The key it must be signed by, as `SigningKey.public`.
    domain, newest
        What it must be for, and the newest version read here.

    Raises
    ------
    SignatureError
        It was not signed by that key, or is for something else.
    """
    signature = _bytes(signed.signature, SIGNATURE_BYTES)
    if signature is None or len(signed.statement) > LONGEST or not signed.statement.isascii():
        raise SignatureError("bears no signature", reason="unsigned")
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(signature, signed.statement.encode())
    except InvalidSignature:
        raise SignatureError("was not signed by the key it should be signed by", reason="forged") from None
    # From here on it is what a holder of the key wrote, who may still have written something else.
    try:
        fields = json.loads(signed.statement)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.pop(_DOMAIN, None) != domain:
        raise SignatureError("was signed as something else", reason="domain")
    version = fields.pop(_VERSION, None)
    if type(version) is not int or not 1 <= version <= newest:
        problem = f"is signed in version {str(version)[:20]!a}, and this MedVeil reads up to {newest}"
        raise SignatureError(problem, reason="version", cure="server and site need the same MedVeil")
    return fields


def _bytes(text: str, count: int) -> bytes | None:
    """So many bytes from base64, in the one way they are written; None where it is something else."""
    if len(text) > LONGEST:
        # It may be as long as a message: no copy of it is made.
        return None
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None
    return data if len(data) == count and base64.b64encode(data).decode("ascii") == text else None
