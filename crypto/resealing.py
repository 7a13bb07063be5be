"""Another passphrase for a sealed file: what is in it stays, salt, nonce and sealing are fresh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from crypto import keyfile, recipient
from crypto.documents import format_of
from medveil.errors import FormatError, KeyMaterialError
from medveil.files import locked, write_json


class _Kind(NamedTuple):
    """How a sealed file of a format is made anew: from a path and both passphrases, the document and fingerprint."""

    resealed: Callable[[Path, str, str], tuple[dict[str, Any], str]]


def _keys(path: Path, old: str, new: str) -> tuple[dict[str, Any], str]:
    ring = keyfile.load_keyring(path, old)
    return keyfile.sealed_document(ring, new), ring.current.fingerprint


def _recipient(path: Path, old: str, new: str) -> tuple[dict[str, Any], str]:
    key = recipient.load_recipient_key(path, old)
    created = str(recipient.inspect_recipient_key(path)["created"])
    return recipient.sealed_document(key, new, created=created), key.public.fingerprint


_KINDS = {keyfile.FORMAT: _Kind(_keys), recipient.FORMAT: _Kind(_recipient)}


def sealed_format(path: str | Path) -> str:
    """The format of a file whose passphrase can be changed.

    Raises
    ------
    FormatError
        It is none; a recipient's public half and a shared key have no passphrase.
    StorageError, IntegrityError
        It is missing, unreadable or damaged.
    """
    name = format_of(path)
    if name not in _KINDS:
        raise FormatError("is sealed with no passphrase", where=path, cure=f"this reads {', '.join(_KINDS)}")
    return name


def reseal(path: str | Path, old: str, new: str) -> str:
    """Seal a file with another passphrase; whatever ends the process, it is the old file or all of the new one.

    Returns
    -------
    str
        Fingerprint of what is in it, which stays.

    Raises
    ------
    KeyMaterialError
        `old` is wrong, or `new` is empty or the same.
    StorageError, FormatError, IntegrityError
        As `crypto.keyfile.rotate_key`. The file is untouched.
    """
    # Through a link the file itself is replaced, and not the link.
    real = Path(path).resolve()
    kind = _KINDS[sealed_format(real)]
    mode = keyfile.mode_of(real)
    with locked(real, wait=False):
        document, fingerprint = kind.resealed(real, old, new)
        if new == old:
            raise KeyMaterialError("the new passphrase is the old one", where=path, cure="choose another")
        keyfile.sweep(real)
        write_json(real, document, mode=mode)
    return fingerprint
