"""A JSON document sealed with a passphrase: scrypt (RFC 7914) and AES-256-GCM, for keys at rest.

The document says openly what it is and how it is sealed; everything but the ciphertext and the checksum is
authenticated with it. Three fields tell one failure from another:

- `checksum`, a plain SHA-256 of the rest, finds a file that is damaged or edited before any passphrase is asked;
- `check`, derived by HKDF from the same scrypt output as the sealing key, finds a wrong passphrase. It costs nothing:
  the two derived values are independent, so it says nothing of the sealing key, and a guesser who holds the file could
  already test each guess against the tag of the ciphertext at the same price, one scrypt;
- the tag of AES-GCM finds a header edited by someone who also remade the checksum.

Only an edit of salt, cost or check with a remade checksum looks like a wrong passphrase; either way the key stays shut.
"""

from __future__ import annotations

import hmac
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from crypto.derivation import encode_fields, hkdf
from crypto.documents import (
    BOUNDS,
    DAMAGED,
    TEXT,
    WHOLE,
    Field,
    bytes_of,
    canonical,
    check_checksum,
    check_fields,
    checksum,
    text_of,
)
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, StorageError
from medveil.shapes import read_chosen

SCRYPT_N = 2**17
SCRYPT_R = 8
SCRYPT_P = 1
LARGEST_N = 2**20
LARGEST_R = 16
LARGEST_P = 4
SALT_BYTES = 16
NONCE_BYTES = 12
CHECK_BYTES = 16

# Of the derivation below, which is the same for every version of every sealed format so far.
_DERIVATION = "1"
_OUTSIDE_HEADER = frozenset({"ciphertext", "checksum"})
_SEAL = {"kdf": Field(dict), "nonce": TEXT, "check": TEXT, "ciphertext": TEXT, "checksum": TEXT}
_COSTS = {"n": WHOLE, "r": WHOLE, "p": WHOLE}


def seal_document(header: Mapping[str, Any], plaintext: bytes, passphrase: str) -> dict[str, Any]:
    """Seal bytes under a passphrase, with a fresh salt and nonce.

    Parameters
    ----------
    header
        What the document says openly: format, version and what else it shows.
    plaintext
        What it hides.

    Raises
    ------
    KeyMaterialError
        The passphrase is empty.
    """
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    name = str(header["format"])
    sealing, check = _keys_from(passphrase, salt, name=name, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    document: dict[str, Any] = {
        **header,
        "kdf": {"name": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": text_of(salt)},
        "nonce": text_of(nonce),
        "check": text_of(check),
    }
    document["ciphertext"] = text_of(AESGCM(sealing).encrypt(nonce, plaintext, _header(document)))
    document["checksum"] = checksum(document)
    return document


def read_sealed(
    path: str | Path, *, name: str, newest: int, fields: Mapping[int, Mapping[str, Field]], cure: str
) -> dict[str, Any]:
    """Read a sealed document as far as it is open: nothing of it is proven before `unseal_document`.

    Parameters
    ----------
    name, newest, cure
        As for `medveil.shapes.read_chosen`.
    fields
        By version, the open fields beside those of the seal.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    FormatError
        It is something else, of a newer version, or asks for a scrypt cost out of bounds.
    IntegrityError
        It is cut short, damaged or edited.
    """
    document = read_chosen(path, name=name, newest=newest, cure=cure, bounds=BOUNDS)
    check_fields(document, {**fields[document["version"]], **_SEAL}, where=path)
    check_fields({**document["kdf"], "format": name}, _COSTS, where=path)
    check_checksum(document, where=path)
    _check_cost(document["kdf"], path)
    return document


def unseal_document(document: Mapping[str, Any], passphrase: str, *, where: str | Path) -> bytes:
    """Open what `read_sealed` read.

    Raises
    ------
    KeyMaterialError
        The passphrase is wrong or empty.
    IntegrityError
        The document was edited.
    StorageError
        There is not enough memory for its scrypt cost.
    """
    kdf = document["kdf"]
    salt = bytes_of(kdf, "salt", SALT_BYTES, where=where)
    nonce = bytes_of(document, "nonce", NONCE_BYTES, where=where)
    ciphertext = bytes_of(document, "ciphertext", None, where=where)
    wanted = bytes_of(document, "check", CHECK_BYTES, where=where)
    try:
        sealing, check = _keys_from(passphrase, salt, name=document["format"], n=kdf["n"], r=kdf["r"], p=kdf["p"])
    except MemoryError:
        needed = 128 * kdf["n"] * kdf["r"] // 2**20
        raise StorageError(f"takes {needed} MiB of memory to open", where=where, cure="free some memory") from None
    if not hmac.compare_digest(check, wanted):
        raise KeyMaterialError("wrong passphrase", where=where, cure="give the passphrase it was sealed with")
    try:
        return AESGCM(sealing).decrypt(nonce, ciphertext, _header(document))
    except InvalidTag:
        raise IntegrityError("its header or ciphertext was edited after sealing", where=where, cure=DAMAGED) from None


def shown_kdf(document: Mapping[str, Any]) -> dict[str, Any]:
    """How a document is sealed: name, n, r and p."""
    return {name: document["kdf"][name] for name in ("name", "n", "r", "p")}


def _keys_from(passphrase: str, salt: bytes, *, name: str, n: int, r: int, p: int) -> tuple[bytes, bytes]:
    """Stretch a passphrase into the sealing key and the check value."""
    if not passphrase:
        raise KeyMaterialError("the passphrase is empty", cure="choose one of five words or more")
    # One passphrase typed on two systems can differ in how accents are composed; NFC makes them one again.
    typed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    stretched = Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(typed)
    sealing = hkdf(stretched, encode_fields([name, _DERIVATION, "seal"]))
    return sealing, hkdf(stretched, encode_fields([name, _DERIVATION, "check"]), CHECK_BYTES)


def _check_cost(kdf: Mapping[str, Any], path: str | Path) -> None:
    """Refuse costs that would fill the memory or the day before the passphrase is even tried."""
    n, r, p = kdf["n"], kdf["r"], kdf["p"]
    if kdf.get("name") != "scrypt":
        raise FormatError(f"is sealed with {str(kdf.get('name'))[:32]!a}", where=path, cure="this MedVeil reads scrypt")
    if n < 2 or n > LARGEST_N or n & (n - 1) or not 1 <= r <= LARGEST_R or not 1 <= p <= LARGEST_P:
        problem = f"asks for scrypt with n={n}, r={r}, p={p}"
        cure = f"n is a power of two up to {LARGEST_N}, r up to {LARGEST_R}, p up to {LARGEST_P}"
        raise FormatError(problem, where=path, cure=cure)


def _header(document: Mapping[str, Any]) -> bytes:
    return canonical({name: value for name, value in document.items() if name not in _OUTSIDE_HEADER})
