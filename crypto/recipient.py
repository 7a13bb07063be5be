"""Who can be given a shared key: an X25519 key pair (RFC 7748) under a name.

The private half is sealed with a passphrase like a key file. The public half, beside it as ``FILE.pub``, goes to
whoever shares a key. Anybody on its way could put another in its place, so its fingerprint, which covers the key and
the name, is compared over another channel before anything is shared with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from crypto.derivation import encode_fields
from crypto.documents import (
    BOUNDS,
    DAMAGED,
    DATE,
    FINGERPRINT,
    SITE,
    TEXT,
    bytes_of,
    check_fields,
    now,
    text_of,
    write_new,
)
from crypto.keys import check_site
from crypto.sealed_file import read_sealed, seal_document, shown_kdf, unseal_document
from medveil.errors import IntegrityError, KeyMaterialError
from medveil.shapes import read_chosen

FORMAT = "medveil-recipient"
PUBLIC_FORMAT = "medveil-recipient-public"
VERSION = 1
PUBLIC_SUFFIX = ".pub"
KEY_BYTES = 32

# Says what is digested, so that no digest of anything else is ever a recipient's fingerprint.
_FINGERPRINT_OF = ("medveil-recipient-fingerprint", "1")

_PUBLIC_FIELDS = {"name": SITE, "public_key": TEXT, "fingerprint": FINGERPRINT}
_FIELDS = {VERSION: {**_PUBLIC_FIELDS, "created": DATE}}


@dataclass(frozen=True)
class Recipient:
    """The public half: who receives.

    Parameters
    ----------
    name
        Whose it is; a name that could be a site's.
    public_key
        X25519, 32 bytes.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        check_site(self.name)

    @property
    def fingerprint(self) -> str:
        """32 hex digits of SHA-256 over name and key: fields as `crypto.derivation.encode_fields`, the key in hex."""
        named = encode_fields([*_FINGERPRINT_OF, self.name, self.public_key.hex()])
        return hashlib.sha256(named).hexdigest()[:32]


class RecipientKey:
    """Both halves. It does not print its private half, and is not pickled.

    Parameters
    ----------
    name
        Whose it is.
    private_key
        X25519; use `generate` for a fresh one.
    """

    def __init__(self, name: str, private_key: X25519PrivateKey) -> None:
        self.private_key = private_key
        self.public = Recipient(name, private_key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> RecipientKey:
        """Draw a fresh pair."""
        return cls(name, X25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"RecipientKey(name={self.public.name!r}, fingerprint={self.public.fingerprint!r})"

    def __reduce__(self) -> NoReturn:
        raise KeyMaterialError("a recipient's key cannot be pickled or copied", cure="save it in a sealed file")


def save_recipient(path: str | Path, key: RecipientKey, passphrase: str) -> Path:
    """Seal a pair in a new file that only its owner may read, and put its public half beside it.

    Returns
    -------
    Path
        The public half, ``FILE.pub``.

    Raises
    ------
    KeyMaterialError
        The passphrase is empty.
    StorageError
        One of the two is there already, or cannot be written; then neither is.
    """
    sealed = sealed_document(key, passphrase, created=now())
    public = Path(f"{path}{PUBLIC_SUFFIX}")
    write_new(path, sealed, mode=0o600)
    try:
        write_new(public, {"format": PUBLIC_FORMAT, "version": VERSION, **_shown(key.public)}, mode=0o644)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    return public


def sealed_document(key: RecipientKey, passphrase: str, *, created: str) -> dict[str, Any]:
    """The document of a sealed half, sealed anew (KeyMaterialError for an empty passphrase)."""
    header = {"format": FORMAT, "version": VERSION, **_shown(key.public), "created": created}
    return seal_document(header, key.private_key.private_bytes_raw(), passphrase)


def load_recipient_key(path: str | Path, passphrase: str) -> RecipientKey:
    """Open the sealed half.

    Raises
    ------
    StorageError, FormatError, IntegrityError, KeyMaterialError
        As `crypto.keyfile.load_keyring`.
    """
    document = _read_private(path)
    opened = unseal_document(document, passphrase, where=path)
    if len(opened) != KEY_BYTES:
        raise IntegrityError("holds a private key of the wrong length", where=path, cure=DAMAGED)
    key = RecipientKey(document["name"], X25519PrivateKey.from_private_bytes(opened))
    if _shown(key.public) != {name: document[name] for name in _PUBLIC_FIELDS}:
        raise IntegrityError("names another public key than its own", where=path, cure=DAMAGED)
    return key


def load_recipient(path: str | Path) -> Recipient:
    """Read a public half. It is consistent with itself; whose it is only its fingerprint can say.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    FormatError
        It is no public half, or of a newer version.
    IntegrityError
        It is cut short, damaged or edited.
    KeyMaterialError
        Its key is one that would let anybody open what is shared with it.
    """
    cure = "name the FILE.pub that medveil-crypto recipient wrote"
    document = read_chosen(path, name=PUBLIC_FORMAT, newest=VERSION, cure=cure, bounds=BOUNDS)
    check_fields(document, _PUBLIC_FIELDS, where=path)
    if set(document) - {"format", "version", *_PUBLIC_FIELDS}:
        raise IntegrityError(f"has fields that no {PUBLIC_FORMAT} file has", where=path, cure=DAMAGED)
    recipient = Recipient(document["name"], bytes_of(document, "public_key", KEY_BYTES, where=path))
    if recipient.fingerprint != document["fingerprint"]:
        problem = "is damaged or was edited: its fingerprint does not fit"
        raise IntegrityError(problem, where=path, cure="ask for it again")
    _check_point(recipient, path)
    return recipient


def inspect_recipient(path: str | Path) -> dict[str, Any]:
    """Read a public half: format, version, name, public_key and fingerprint. Errors as `load_recipient`."""
    return {"format": PUBLIC_FORMAT, "version": VERSION, **_shown(load_recipient(path))}


def inspect_recipient_key(path: str | Path) -> dict[str, Any]:
    """Read what a sealed half says openly: as `inspect_recipient`, created, and kdf (name, n, r, p).

    Raises
    ------
    StorageError, FormatError, IntegrityError
        As `load_recipient_key`.
    """
    document = _read_private(path)
    named = {name: document[name] for name in ("format", "version", *_PUBLIC_FIELDS, "created")}
    return {**named, "kdf": shown_kdf(document)}


def _shown(recipient: Recipient) -> dict[str, str]:
    return {
        "name": recipient.name,
        "public_key": text_of(recipient.public_key),
        "fingerprint": recipient.fingerprint,
    }


def _read_private(path: str | Path) -> dict[str, Any]:
    cure = "name the file that medveil-crypto recipient wrote, not its .pub"
    document = read_sealed(path, name=FORMAT, newest=VERSION, fields=_FIELDS, cure=cure)
    bytes_of(document, "public_key", KEY_BYTES, where=path)
    return document


def _check_point(recipient: Recipient, path: str | Path) -> None:
    """Refuse points of small order, with which the shared secret is zero for everybody (RFC 7748, section 6.1)."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(recipient.public_key))
    except ValueError:
        problem = "holds a public key with which anybody could open what is shared"
        raise KeyMaterialError(problem, where=path, cure="ask who made it for another") from None
