"""A site's key at rest: a JSON file sealed with a passphrase (scrypt, RFC 7914, and AES-256-GCM).

The file says openly which site's key it holds, its fingerprint, and how it is sealed; everything but the ciphertext
and the checksum is authenticated with it. Three fields tell one failure from another:

- `checksum`, a plain SHA-256 of the rest, finds a file that is damaged or edited before any passphrase is asked;
- `check`, derived by HKDF from the same scrypt output as the sealing key, finds a wrong passphrase. It costs nothing:
  the two derived values are independent, so it says nothing of the sealing key, and a guesser who holds the file could
  already test each guess against the tag of the ciphertext at the same price, one scrypt;
- the tag of AES-GCM finds a header edited by someone who also remade the checksum.

Only an edit of salt, cost or check with a remade checksum looks like a wrong passphrase; either way the key stays shut.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from crypto.derivation import SECRET_BYTES, encode_fields, hkdf
from crypto.keys import Key, SiteKey, check_site
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, StorageError
from medveil.files import check_format, read_bytes, storage_error, write_json

FORMAT = "medveil-key"
VERSION = 1
SCRYPT_N = 2**17
SCRYPT_R = 8
SCRYPT_P = 1
LARGEST_N = 2**20
LARGEST_R = 16
LARGEST_P = 4
LARGEST_TEXT = 128
LARGEST_FILE = 2**16
SALT_BYTES = 16
NONCE_BYTES = 12
CHECK_BYTES = 16

_DAMAGED = "restore it from a copy"
_OUTSIDE_HEADER = frozenset({"ciphertext", "checksum"})
_TEXTS = ("site", "fingerprint", "created", "nonce", "check", "ciphertext", "checksum")


def save_key(path: str | Path, key: Key, passphrase: str) -> None:
    """Seal a key in a new file that only its owner may read (mode 0600).

    Raises
    ------
    KeyMaterialError
        The passphrase is empty, or the key is a simulated one.
    StorageError
        The file is there already, or cannot be written.
    """
    if not isinstance(key, SiteKey):
        problem = f"a {type(key).__name__} cannot be saved: it is made from an integer anyone can guess"
        raise KeyMaterialError(problem, cure="generate a SiteKey")
    document = _sealed_document(key, passphrase)
    _reserve(path)
    try:
        write_json(path, document, mode=0o600)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def load_key(path: str | Path, passphrase: str) -> SiteKey:
    """Open a sealed key file.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    FormatError
        It is no key file, of a newer version, or asks for a scrypt cost out of bounds.
    IntegrityError
        It is cut short, damaged or edited.
    KeyMaterialError
        The passphrase is wrong or empty.
    """
    document = _read(path)
    kdf = document["kdf"]
    salt = _bytes_of(kdf, "salt", SALT_BYTES, path)
    nonce = _bytes_of(document, "nonce", NONCE_BYTES, path)
    ciphertext = _bytes_of(document, "ciphertext", None, path)
    sealing, check = _keys_from(passphrase, salt, n=kdf["n"], r=kdf["r"], p=kdf["p"])
    if not hmac.compare_digest(check, _bytes_of(document, "check", CHECK_BYTES, path)):
        raise KeyMaterialError("wrong passphrase", where=path, cure="give the passphrase the key was sealed with")
    try:
        secret = AESGCM(sealing).decrypt(nonce, ciphertext, _header(document))
    except InvalidTag:
        raise IntegrityError("its header or ciphertext was edited after sealing", where=path, cure=_DAMAGED) from None
    return _checked_key(secret, document, path)


def inspect_key(path: str | Path) -> dict[str, Any]:
    """Read what a key file says openly; no passphrase is needed, and none of it is proven before `load_key`.

    Returns
    -------
    dict
        format, version, site, fingerprint, created and kdf (name, n, r, p).

    Raises
    ------
    StorageError, FormatError, IntegrityError
        As `load_key`.
    """
    document = _read(path)
    kdf = {name: value for name, value in document["kdf"].items() if name != "salt"}
    return {name: document[name] for name in ("format", "version", "site", "fingerprint", "created")} | {"kdf": kdf}


def _sealed_document(key: SiteKey, passphrase: str) -> dict[str, Any]:
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    sealing, check = _keys_from(passphrase, salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "site": key.site,
        "fingerprint": key.fingerprint,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "kdf": {"name": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": _text_of(salt)},
        "nonce": _text_of(nonce),
        "check": _text_of(check),
    }
    document["ciphertext"] = _text_of(AESGCM(sealing).encrypt(nonce, key.secret, _header(document)))
    document["checksum"] = _checksum(document)
    return document


def _keys_from(passphrase: str, salt: bytes, *, n: int, r: int, p: int) -> tuple[bytes, bytes]:
    """Stretch a passphrase into the sealing key and the check value."""
    if not passphrase:
        raise KeyMaterialError("the passphrase is empty", cure="choose one of five words or more")
    # One passphrase typed on two systems can differ in how accents are composed; NFC makes them one again.
    typed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    stretched = Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(typed)
    sealing = hkdf(stretched, encode_fields([FORMAT, str(VERSION), "seal"]))
    return sealing, hkdf(stretched, encode_fields([FORMAT, str(VERSION), "check"]), CHECK_BYTES)


def _reserve(path: str | Path) -> None:
    """Take the name, so that no key that is there already is ever replaced."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        problem = "is there already, and a key that is replaced is lost"
        raise StorageError(problem, where=path, cure="choose another name or move the file away") from None
    except FileNotFoundError:
        raise StorageError("its folder does not exist", where=path, cure="make the folder first") from None
    except OSError as error:
        raise storage_error(error, path, "write the file") from error


def _read(path: str | Path) -> dict[str, Any]:
    document = _parse(read_bytes(path), path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    _check_fields(document, path)
    if document["checksum"] != _checksum(document):
        raise IntegrityError("is damaged or was edited: its checksum does not fit", where=path, cure=_DAMAGED)
    _check_cost(document["kdf"], path)
    return document


def _parse(data: bytes, path: str | Path) -> dict[str, Any]:
    if not data:
        raise IntegrityError("is empty", where=path, cure=_DAMAGED)
    try:
        document = json.loads(data) if len(data) <= LARGEST_FILE else None
    except (ValueError, RecursionError):
        if data[:1] == b"{" and f'"{FORMAT}"'.encode() in data[:128]:
            raise IntegrityError("is cut short or damaged", where=path, cure=_DAMAGED) from None
        document = None
    if not isinstance(document, dict):
        raise FormatError(f"is not a {FORMAT} file", where=path, cure="name the file that medveil-crypto keygen wrote")
    return document


def _check_fields(document: dict[str, Any], path: str | Path) -> None:
    kdf = document.get("kdf")
    numbers = [kdf.get(name) for name in ("n", "r", "p")] if isinstance(kdf, dict) else [None]
    whole = all(isinstance(document.get(name), str) for name in _TEXTS)
    if not whole or not all(type(number) is int for number in numbers):
        raise IntegrityError("lacks fields of a key file", where=path, cure=_DAMAGED)
    # The header is shown before anything proves it: it must not speak to the terminal.
    shown = [document[name] for name in ("site", "fingerprint", "created")]
    if not all(text.isprintable() and len(text) <= LARGEST_TEXT for text in shown):
        raise IntegrityError("has a header that no key file has", where=path, cure=_DAMAGED)


def _check_cost(kdf: dict[str, Any], path: str | Path) -> None:
    """Refuse costs that would fill the memory or the day before the passphrase is even tried."""
    n, r, p = kdf["n"], kdf["r"], kdf["p"]
    if kdf.get("name") != "scrypt":
        raise FormatError(f"is sealed with {kdf.get('name')!a}", where=path, cure="this MedVeil reads scrypt")
    if n < 2 or n > LARGEST_N or n & (n - 1) or not 1 <= r <= LARGEST_R or not 1 <= p <= LARGEST_P:
        problem = f"asks for scrypt with n={n}, r={r}, p={p}"
        cure = f"n is a power of two up to {LARGEST_N}, r up to {LARGEST_R}, p up to {LARGEST_P}"
        raise FormatError(problem, where=path, cure=cure)


def _checked_key(secret: bytes, document: dict[str, Any], path: str | Path) -> SiteKey:
    if len(secret) != SECRET_BYTES:
        raise IntegrityError("holds a secret of the wrong length", where=path, cure=_DAMAGED)
    key = SiteKey(secret, check_site(document["site"]))
    if key.fingerprint != document["fingerprint"]:
        raise IntegrityError("names another fingerprint than its key has", where=path, cure=_DAMAGED)
    return key


def _header(document: dict[str, Any]) -> bytes:
    return _canonical({name: value for name, value in document.items() if name not in _OUTSIDE_HEADER})


def _checksum(document: dict[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != "checksum"}
    return hashlib.sha256(_canonical(rest)).hexdigest()


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes_of(holder: dict[str, Any], name: str, length: int | None, path: str | Path) -> bytes:
    try:
        data = base64.b64decode(holder.get(name, ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        data = b""
    if not data or (length is not None and len(data) != length):
        raise IntegrityError(f"its field '{name}' is not what was sealed", where=path, cure=_DAMAGED)
    return data
