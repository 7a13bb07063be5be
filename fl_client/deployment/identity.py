"""A site's identity at rest: the key that signs its replies, sealed with a passphrase as its image keys are.

It is of its own and not derived from an image key: that one is rotated, and the consortium knows a site by this for as
long as it takes part.
"""

from __future__ import annotations

from pathlib import Path

from crypto.documents import DAMAGED, DATE, SITE, Field, now, write_new
from crypto.sealed_file import read_sealed, seal_document, unseal_document
from medveil.errors import IntegrityError, KeyMaterialError
from medveil.signing import SECRET_BYTES, SigningKey, is_public

FORMAT = "medveil-identity"
VERSION = 1
_FIELDS = {VERSION: {"site": SITE, "created": DATE, "public": Field(str, is_public)}}


def save_identity(path: Path, key: SigningKey, *, site: str, passphrase: str) -> None:
    """Seal an identity in a new file that only its owner may read (mode 0600).

    Raises
    ------
    KeyMaterialError
        The passphrase is empty.
    StorageError
        The file is there already, or cannot be written.
    """
    header = {"format": FORMAT, "version": VERSION, "site": site, "created": now(), "public": key.public}
    write_new(path, seal_document(header, key.secret, passphrase), mode=0o600)


def load_identity(path: Path, passphrase: str, *, site: str) -> SigningKey:
    """Open a sealed identity.

    Parameters
    ----------
    site
        Whose it must be.

    Raises
    ------
    StorageError, FormatError, IntegrityError
        The file is missing, none of ours, or not whole.
    KeyMaterialError
        The passphrase is wrong or empty, or it is another site's.
    """
    cure = "name the file that medveil-site enroll wrote"
    document = read_sealed(path, name=FORMAT, newest=VERSION, fields=_FIELDS, cure=cure)
    if document["site"] != site:
        raise KeyMaterialError(f"is the identity of '{document['site']}'", where=path, cure=f"wanted that of '{site}'")
    secret = unseal_document(document, passphrase, where=path)
    if len(secret) != SECRET_BYTES or SigningKey.from_secret(secret).public != document["public"]:
        raise IntegrityError("names another public half than its key has", where=path, cure=DAMAGED)
    return SigningKey.from_secret(secret)
