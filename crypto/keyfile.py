"""A site's keys at rest: a file sealed with a passphrase (`crypto.sealed_file`).

The file says openly which site's keys it holds, the fingerprint of the current one and of the retired ones, and when
the current one was drawn. Version 1, which held one key and no retired ones, is still read; rotation makes version 2
of it.
"""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path
from typing import Any

from crypto.derivation import SECRET_BYTES
from crypto.documents import DAMAGED, DATE, FINGERPRINT, FINGERPRINTS, SITE, now, write_new
from crypto.keyring import KeyDates, Keyring, check_real, pack, unpack
from crypto.keys import SiteKey
from crypto.sealed_file import read_sealed, seal_document, shown_kdf, unseal_document
from medveil.errors import IntegrityError, StorageError
from medveil.files import locked, storage_error, write_json

FORMAT = "medveil-key"
VERSION = 2
_SINGLE_KEY = 1
# What `tempfile` puts between a name and its suffix, and no more: a.key is not to sweep a.key.old's.
_RANDOM = "[a-z0-9_]" * 8
_FIRST = {"site": SITE, "fingerprint": FINGERPRINT, "created": DATE}
_FIELDS = {_SINGLE_KEY: _FIRST, VERSION: {**_FIRST, "retired": FINGERPRINTS}}


def save_key(path: str | Path, key: SiteKey, passphrase: str) -> None:
    """Seal a key drawn just now in a new file that only its owner may read (mode 0600). Errors as `save_keyring`."""
    save_keyring(path, Keyring(key, dates={key.fingerprint: KeyDates(created=now())}), passphrase)


def save_keyring(path: str | Path, ring: Keyring, passphrase: str) -> None:
    """Seal a site's keys in a new file that only its owner may read (mode 0600).

    Raises
    ------
    KeyMaterialError
        The passphrase is empty, or a key is a simulated one.
    StorageError
        The file is there already, or cannot be written.
    """
    write_new(path, sealed_document(ring, passphrase), mode=0o600)


def load_key(path: str | Path, passphrase: str) -> SiteKey:
    """Open a sealed key file for its current key. Errors as `load_keyring`."""
    return load_keyring(path, passphrase).current


def load_keyring(path: str | Path, passphrase: str) -> Keyring:
    """Open a sealed key file.

    Raises
    ------
    StorageError
        The file is missing or unreadable, or there is not enough memory for its scrypt cost.
    FormatError
        It is no key file, of a newer version, or asks for a scrypt cost out of bounds.
    IntegrityError
        It is cut short, damaged or edited.
    KeyMaterialError
        The passphrase is wrong or empty.
    """
    document = _read(path)
    opened = unseal_document(document, passphrase, where=path)
    if document["version"] == _SINGLE_KEY:
        ring = _single(opened, document, path)
    else:
        ring = unpack(opened, document["site"], where=path)
    if [key.fingerprint for key in ring] != [document["fingerprint"], *_retired(document)]:
        raise IntegrityError("names another fingerprint than its key has", where=path, cure=DAMAGED)
    return ring


def rotate_key(path: str | Path, passphrase: str, *, new_passphrase: str | None = None) -> Keyring:
    """Draw a fresh key in place of the current one, which stays in the file to open what it hid.

    The file is replaced as a whole: whatever ends the process, it holds either the old keys or all of the new ones.

    Parameters
    ----------
    new_passphrase
        Seals the file from now on; None leaves the passphrase as it is.

    Returns
    -------
    Keyring
        The new keys, as they are in the file.

    Raises
    ------
    StorageError, FormatError, IntegrityError, KeyMaterialError
        As `load_keyring`; also when another process rotates the same file, or the disk refuses. The file is untouched.
    """
    # Through a link the file itself is replaced, and not the link.
    real = Path(path).resolve()
    _read(real)
    mode = mode_of(real)
    with locked(real, wait=False):
        ring = load_keyring(real, passphrase).rotated(now())
        sweep(real)
        document = sealed_document(ring, passphrase if new_passphrase is None else new_passphrase)
        write_json(real, document, mode=mode)
    return ring


def inspect_key(path: str | Path) -> dict[str, Any]:
    """Read what a key file says openly; no passphrase is needed, and none of it is proven before `load_keyring`.

    Returns
    -------
    dict
        format, version, site, fingerprint, created, retired (fingerprints, newest first) and kdf (name, n, r, p).

    Raises
    ------
    StorageError, FormatError, IntegrityError
        As `load_keyring`.
    """
    document = _read(path)
    named = {name: document[name] for name in ("format", "version", "site", "fingerprint", "created")}
    return {**named, "retired": _retired(document), "kdf": shown_kdf(document)}


def sealed_document(ring: Keyring, passphrase: str) -> dict[str, Any]:
    """A key file's document, sealed anew (KeyMaterialError for an empty passphrase or a simulated key)."""
    check_real(ring, "saved")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "site": ring.current.site,
        "fingerprint": ring.current.fingerprint,
        "created": ring.dates_of(ring.current).created,
        "retired": [key.fingerprint for key in ring.retired],
    }
    return seal_document(header, pack(ring), passphrase)


def _read(path: str | Path) -> dict[str, Any]:
    cure = "name the file that medveil-crypto keygen wrote"
    return read_sealed(path, name=FORMAT, newest=VERSION, fields=_FIELDS, cure=cure)


def _retired(document: dict[str, Any]) -> list[str]:
    """Fingerprints of the retired keys. A field of this name in a file of version 1 is none of ours, and unchecked."""
    return [] if document["version"] == _SINGLE_KEY else list(document["retired"])


def _single(secret: bytes, document: dict[str, Any], path: str | Path) -> Keyring:
    """The ring of a file of version 1, which sealed the bare secret."""
    if len(secret) != SECRET_BYTES:
        raise IntegrityError("holds a secret of the wrong length", where=path, cure=DAMAGED)
    key = SiteKey(secret, document["site"])
    return Keyring(key, dates={key.fingerprint: KeyDates(created=document["created"])})


def mode_of(path: Path) -> int:
    """The file's permissions, which its owner may have widened for a service; only the owner may replace it."""
    try:
        found = path.stat()
    except OSError as error:
        raise storage_error(error, path, "read the file") from error
    if found.st_uid != os.geteuid():
        problem = "belongs to another user, who could not read what you put in its place"
        raise StorageError(problem, where=path, cure="run this as its owner")
    return stat.S_IMODE(found.st_mode)


def sweep(path: Path) -> None:
    """Remove what a killed rotation left beside the file; the lock says that none is under way."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_RANDOM}.part"):
        try:
            left.unlink()
        except OSError as error:
            raise StorageError("cannot be removed", where=left, cure="remove it by hand") from error
