"""A site's keys on their way to another: wrapped to a recipient by HPKE (RFC 9180), base mode.

The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. What the file says openly (format, version, for whom,
which keys, when) enters HPKE's `info`, so that none of it can be edited. Base mode names no sender: anybody can wrap
some key to a recipient, and `open_shared` therefore wants the fingerprint of the key that was expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from crypto.derivation import encode_fields
from crypto.documents import (
    BOUNDS,
    DAMAGED,
    DATE,
    FINGERPRINT,
    FINGERPRINTS,
    SITE,
    TEXT,
    bytes_of,
    check_checksum,
    check_fields,
    checksum,
    now,
    text_of,
    write_new,
)
from crypto.keyring import Keyring, check_real, pack, unpack
from crypto.recipient import Recipient, RecipientKey
from medveil.errors import IntegrityError, KeyMaterialError
from medveil.shapes import read_chosen

FORMAT = "medveil-shared-key"
VERSION = 1

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_OPEN = {"name": SITE, "recipient": FINGERPRINT, "fingerprint": FINGERPRINT, "retired": FINGERPRINTS, "shared": DATE}
_FIELDS = {**_OPEN, "wrapped": TEXT, "checksum": TEXT}


def share_keyring(path: str | Path, ring: Keyring, to: Recipient, expected: str, *, with_retired: bool = False) -> None:
    """Wrap a site's keys to a recipient in a new file.

    Parameters
    ----------
    expected
        Fingerprint of the recipient, from another channel than the recipient's file.
    with_retired
        Also the retired keys, which open what was hidden before the last rotation.

    Raises
    ------
    KeyMaterialError
        The recipient is another than expected, or a key is a simulated one.
    StorageError
        The file is there already, or cannot be written.
    """
    if to.fingerprint != expected:
        problem = f"{to.name} has the fingerprint {to.fingerprint}, not {expected}"
        raise KeyMaterialError(problem, cure="ask them; somebody may have put another recipient in their place")
    check_real(ring, "shared")
    shared = ring if with_retired else ring.newest()
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": to.name,
        "recipient": to.fingerprint,
        "fingerprint": shared.current.fingerprint,
        "retired": [key.fingerprint for key in shared.retired],
        "shared": now(),
    }
    public = X25519PublicKey.from_public_bytes(to.public_key)
    document["wrapped"] = text_of(_SUITE.encrypt(pack(shared), public, info=hpke_info(document)))
    document["checksum"] = checksum(document)
    write_new(path, document, mode=0o600)


def open_shared(path: str | Path, key: RecipientKey, expected: str, *, site: str | None = None) -> Keyring:
    """Unwrap the keys of a shared file.

    Parameters
    ----------
    key
        The recipient it was shared with.
    expected
        Fingerprint of the current key, from another channel than the file.
    site
        The site that holds the keys from now on; None for the recipient's name.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    FormatError
        It is no shared key, or of a newer version.
    IntegrityError
        It is cut short, damaged or edited.
    KeyMaterialError
        It holds another key than expected, or was shared with another recipient.
    """
    document = _read(path)
    if document["fingerprint"] != expected:
        problem = f"holds the key {document['fingerprint']}, not {expected}"
        raise KeyMaterialError(
            problem, where=path, cure="ask who shared it; somebody may have put another in its place"
        )
    if document["recipient"] != key.public.fingerprint:
        problem = f"was shared with {document['name']} ({document['recipient']}), not with {key.public.fingerprint}"
        raise KeyMaterialError(problem, where=path, cure="give the recipient file it was shared with")
    wrapped = bytes_of(document, "wrapped", None, where=path)
    try:
        opened = _SUITE.decrypt(wrapped, key.private_key, info=hpke_info(document))
    except InvalidTag:
        raise IntegrityError("was edited after it was shared", where=path, cure="ask for it again") from None
    ring = unpack(opened, key.public.name if site is None else site, where=path)
    # HPKE binds the header, but whoever wrapped it may have lied there.
    if [each.fingerprint for each in ring] != [document["fingerprint"], *document["retired"]]:
        raise IntegrityError("names other keys than it holds", where=path, cure="do not use it; ask who shared it")
    return ring


def inspect_shared(path: str | Path) -> dict[str, Any]:
    """Read what a shared file says openly: for whom, and which keys. None of it is proven before `open_shared`.

    Returns
    -------
    dict
        format, version, name and recipient (fingerprint) of who can open it, fingerprint and retired of the keys,
        shared (when).

    Raises
    ------
    StorageError, FormatError, IntegrityError
        As `open_shared`.
    """
    document = _read(path)
    return {name: document[name] for name in ("format", "version", *_OPEN)}


def hpke_info(document: dict[str, Any]) -> bytes:
    """HPKE's `info` for a shared file: all that it says openly, each text with its length."""
    fixed = [document[name] for name in ("format", "recipient", "fingerprint", "name", "shared")]
    return encode_fields([fixed[0], str(document["version"]), *fixed[1:], *document["retired"]])


def _read(path: str | Path) -> dict[str, Any]:
    cure = "name the file that medveil-crypto share wrote"
    document = read_chosen(path, name=FORMAT, newest=VERSION, cure=cure, bounds=BOUNDS)
    check_fields(document, _FIELDS, where=path)
    if set(document) - {"format", "version", *_FIELDS}:
        raise IntegrityError(f"has fields that no {FORMAT} file has", where=path, cure=DAMAGED)
    check_checksum(document, where=path)
    return document
