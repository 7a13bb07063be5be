"""Small JSON documents that carry keys: read in bounded memory, told from foreign files, checked field by field.

Nothing in such a file is trusted before it is proven, and some of it is shown before: every text that may reach a
terminal is checked here first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crypto.keys import check_site
from medveil.bounded import SETTINGS, parse_json
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, StorageError
from medveil.files import read_head, storage_error, write_json

LARGEST_FILE = 2**16
BOUNDS = replace(SETTINGS, length=LARGEST_FILE)
DAMAGED = "restore it from a copy"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_FORMAT = re.compile(rb'\A\{\s*"format"\s*:\s*"([a-z-]{1,64})"')


@dataclass(frozen=True)
class Field:
    """What a field of a document must be: of a type, and then good."""

    kind: type
    is_good: Callable[[Any], bool] = lambda _: True


def is_site(text: str) -> bool:
    """Whether a text can name a site (and be shown)."""
    try:
        check_site(text)
    except KeyMaterialError:
        return False
    return True


def is_fingerprint(text: object) -> bool:
    """Whether this is 32 hex digits in lower case; the fingerprint of a simulated key is not."""
    return isinstance(text, str) and _FINGERPRINT.fullmatch(text) is not None


def is_date(text: object) -> bool:
    """Whether this is a time as `now` writes it, or empty where it is not known."""
    return isinstance(text, str) and (not text or _DATE.fullmatch(text) is not None)


TEXT = Field(str)
WHOLE = Field(int)
SITE = Field(str, is_site)
DATE = Field(str, is_date)
FINGERPRINT = Field(str, is_fingerprint)
FINGERPRINTS = Field(list, lambda values: all(map(is_fingerprint, values)))


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_of(path: str | Path) -> str:
    """What a file says it is, also one that is cut short; empty when it says nothing.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    IntegrityError
        It is empty.
    """
    data = read_head(path, LARGEST_FILE + 1)
    if not data:
        raise IntegrityError("is empty", where=path, cure=DAMAGED)
    try:
        document = parse_json(data, where=path, bounds=BOUNDS)
    except FormatError:
        found = _FORMAT.match(data)
        return found[1].decode("ascii") if found else ""
    return str(document.get("format", "")) if isinstance(document, dict) else ""


def check_fields(document: Mapping[str, Any], fields: Mapping[str, Field], *, where: str | Path) -> None:
    """Refuse a document whose fields are missing, of another type, or not what MedVeil writes.

    Raises
    ------
    IntegrityError
        A field is wrong.
    """
    named = document.get("format", "MedVeil")
    # `type(...) is` and not `isinstance`: in Python a bool is an int.
    if not all(type(document.get(name)) is field.kind for name, field in fields.items()):
        raise IntegrityError(f"lacks fields of a {named} file", where=where, cure=DAMAGED)
    if not all(field.is_good(document[name]) for name, field in fields.items()):
        raise IntegrityError(f"has a header that no {named} file has", where=where, cure=DAMAGED)


def check_checksum(document: Mapping[str, Any], *, where: str | Path) -> None:
    """Refuse a document that is damaged, or edited by someone who did not remake its checksum.

    Raises
    ------
    IntegrityError
        The checksum does not fit.
    """
    if document["checksum"] != checksum(document):
        raise IntegrityError("is damaged or was edited: its checksum does not fit", where=where, cure=DAMAGED)


def checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 over all of a document but the checksum: 64 hex digits."""
    return hashlib.sha256(
        canonical({name: value for name, value in document.items() if name != "checksum"})
    ).hexdigest()


def canonical(document: Mapping[str, Any]) -> bytes:
    """A document as bytes, the same for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def text_of(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def bytes_of(holder: Mapping[str, Any], name: str, length: int | None, *, where: str | Path) -> bytes:
    """Bytes of a base64 field, of the length given (None: any but 0).

    Raises
    ------
    IntegrityError
        The field is missing, of another length, or not written as base64 is.
    """
    text = holder.get(name)
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    # One sequence of bytes has one text: unused bits of the last letter must be zero.
    if not data or (length is not None and len(data) != length) or text_of(data) != text:
        raise IntegrityError(f"its field '{name}' is not what was written", where=where, cure=DAMAGED)
    return data


def check_free(path: str | Path) -> None:
    """Refuse a name that is taken, before a passphrase is asked for; `write_new` decides.

    Raises
    ------
    StorageError
        There is something of this name.
    """
    if os.path.lexists(path):
        raise _taken(path)


def write_new(path: str | Path, document: Mapping[str, Any], *, mode: int) -> None:
    """Write a document to a file that was not there before, whole or not at all.

    Raises
    ------
    StorageError
        The file is there already, or cannot be written.
    """
    _reserve(path)
    try:
        write_json(path, document, mode=mode)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def _reserve(path: str | Path) -> None:
    """Take the name, so that no key that is there already is ever replaced."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise _taken(path) from None
    except FileNotFoundError:
        raise StorageError("its folder does not exist", where=path, cure="make the folder first") from None
    except OSError as error:
        raise storage_error(error, path, "write the file") from error


def _taken(path: str | Path) -> StorageError:
    problem = "is there already, and a key that is replaced is lost"
    return StorageError(problem, where=path, cure="choose another name or move the file away")
