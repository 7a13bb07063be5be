"""The one way in which several fields become bytes: for digests, for keys, for what is signed."""

from __future__ import annotations

import base64
import hashlib
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from medveil.audit import canonical
from medveil.signing import Signed, SigningKey, verified

KEY_BYTES = 32
VERSION = 1
"""Of all that is signed and derived here."""
Field: TypeAlias = "bytes | str | int"
_DOMAIN = f"medveil secagg {VERSION}".encode()


def digest(*fields: Field) -> bytes:
    """SHA-256 over the fields, each behind its length (u32, big endian): no two lists of fields are one text.

    Returns
    -------
    bytes
        32 bytes. A number is written in decimal digits, a text in UTF-8.
    """
    made = hashlib.sha256()
    for each in fields:
        data = each if isinstance(each, bytes) else str(each).encode()
        made.update(len(data).to_bytes(4, "big") + data)
    return made.digest()


def derive(secret: bytes, *info: Field) -> bytes:
    """A key of 32 bytes from a secret, by HKDF-SHA256 (RFC 5869) without a salt, for what `info` says and no other."""
    return HKDF(hashes.SHA256(), KEY_BYTES, None, _DOMAIN + digest(*info)).derive(secret)


def signature(key: SigningKey, domain: str, fields: dict[str, str | int]) -> bytes:
    """The 64 bytes by which a site signs what its readers can put together themselves (`check_signature`)."""
    return base64.b64decode(key.sign(domain, VERSION, fields).signature)


def check_signature(signed: bytes, public: str, domain: str, fields: dict[str, str | int]) -> None:
    """Refuse what was not signed by a key, for this domain and with these very fields (SignatureError).

    Parameters
    ----------
    signed
        64 bytes.
    public
        The key, as `SigningKey.public`.
    """
    statement = canonical({**fields, "domain": domain, "version": VERSION}).decode("ascii")
    encoded = base64.b64encode(signed).decode("ascii")
    verified(Signed(statement, encoded), public, domain=domain, newest=VERSION)
