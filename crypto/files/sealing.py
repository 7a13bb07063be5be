"""Whole files sealed for confidentiality: AES-256-GCM in chunks, so that memory stays flat and nothing can be moved.

The STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizar ("Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance", CRYPTO 2015, eprint 2015/189): chunk i is sealed under the nonce
``prefix || i || last``, 7 + 4 + 1 bytes, so that a file that is cut, even between chunks, or whose chunks are
swapped, repeated or followed by more does not open.

Layout: a header of 64 bytes (``MVSTREAM``, a version byte, the key's fingerprint, salt, nonce prefix), then chunks of
64 KiB of plaintext, each with its tag of 16 bytes; the last may be shorter. The header is associated data of every
chunk. The key is fresh for each file: HKDF-SHA256 of the site's subkey with the salt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from crypto.derivation import encode_fields
from crypto.files.header import HiddenHeader
from crypto.files.kinds import FileKind, FileReport
from crypto.files.recipe import Recipe
from crypto.files.streams import decoding
from crypto.keyring import Keyring
from crypto.keys import Key, SiteKey
from medveil.errors import DataError, FormatError, IntegrityError, KeyMaterialError
from medveil.files import new_file, storage_error

MAGIC = b"MVSTREAM"
VERSION = 1
SUFFIX = ".mvseal"
CHUNK_BYTES = 2**16
TAG_BYTES = 16
SALT_BYTES = 32
PREFIX_BYTES = 7
FINGERPRINT_BYTES = 16
HEADER_BYTES = len(MAGIC) + 1 + FINGERPRINT_BYTES + SALT_BYTES + PREFIX_BYTES
MOST_CHUNKS = 2**32

_PURPOSE = "sealed-file"
_RESTORE = "restore it from a copy"


class _Header(NamedTuple):
    fingerprint: str
    salt: bytes
    prefix: bytes
    data: bytes
    """All of it, as it is authenticated."""


def seal_file(source: Path, target: Path, key: SiteKey) -> None:
    """Seal a file of any size.

    Raises
    ------
    StorageError
        The disk refused.
    DataError
        The file is larger than 256 TiB.
    """
    salt, prefix = os.urandom(SALT_BYTES), os.urandom(PREFIX_BYTES)
    header = MAGIC + bytes([VERSION]) + bytes.fromhex(key.fingerprint) + salt + prefix
    cipher = _cipher(key, salt)
    with decoding(source), open(source, "rb") as plain, new_file(target) as stream:
        stream.write(header)
        for number, chunk, last in _chunks(plain, CHUNK_BYTES, source):
            stream.write(cipher.encrypt(_nonce(prefix, number, last=last), chunk, header))


def unseal_file(source: Path, target: Path, keys: Keyring) -> None:
    """Open a sealed file; what is written is written only when the last chunk was found whole.

    Raises
    ------
    FormatError
        It is not a sealed file, or of a newer version.
    KeyMaterialError
        It was sealed under a key the ring does not hold.
    IntegrityError
        It is cut short or was changed.
    StorageError
        The disk refused.
    """
    with decoding(source), open(source, "rb") as sealed, new_file(target, mode=0o600) as stream:
        for chunk in _opened(sealed, source, keys):
            stream.write(chunk)


def check_sealed(source: Path, keys: Keyring) -> None:
    """Open a sealed file without keeping what is in it; errors as `unseal_file`."""
    with decoding(source), open(source, "rb") as sealed:
        for _ in _opened(sealed, source, keys):
            pass


def sealed_fingerprint(source: Path) -> str:
    """The fingerprint of the key that a file says it was sealed under; nothing is proven. Errors as `unseal_file`."""
    with decoding(source), open(source, "rb") as sealed:
        return _header(sealed, source).fingerprint


def _opened(sealed: BinaryIO, source: Path, keys: Keyring) -> Iterator[bytes]:
    header = _header(sealed, source)
    try:
        key = keys.find(header.fingerprint)
    except KeyMaterialError as error:
        raise KeyMaterialError(error.problem, where=source, cure=error.cure) from None
    cipher = _cipher(key, header.salt)
    for number, chunk, last in _chunks(sealed, CHUNK_BYTES + TAG_BYTES, source):
        try:
            yield cipher.decrypt(_nonce(header.prefix, number, last=last), chunk, header.data)
        except InvalidTag:
            problem = "is cut short, or was changed after it was sealed"
            raise IntegrityError(problem, where=source, cure=_RESTORE) from None


def _header(sealed: BinaryIO, source: Path) -> _Header:
    data = sealed.read(HEADER_BYTES)
    if data[: len(MAGIC)] != MAGIC:
        raise FormatError("is not a sealed file", where=source)
    if len(data) < HEADER_BYTES:
        raise IntegrityError("is cut short", where=source, cure=_RESTORE)
    version, rest = data[len(MAGIC)], data[len(MAGIC) + 1 :]
    if not 1 <= version <= VERSION:
        problem = f"is a sealed file of version {version}; this MedVeil reads up to {VERSION}"
        raise FormatError(problem, where=source, cure="upgrade MedVeil")
    fingerprint, rest = rest[:FINGERPRINT_BYTES], rest[FINGERPRINT_BYTES:]
    return _Header(fingerprint.hex(), rest[:SALT_BYTES], rest[SALT_BYTES:], data)


def _cipher(key: Key, salt: bytes) -> AESGCM:
    info = encode_fields(["medveil", str(VERSION), _PURPOSE])
    derived = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key.subkey("state", _PURPOSE))
    return AESGCM(derived)


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _chunks(stream: BinaryIO, size: int, source: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Chunks of a stream with their numbers, and whether each is the last; an empty stream is one empty chunk."""
    number, chunk = 0, _read(stream, size, source)
    while True:
        following = _read(stream, size, source)
        yield number, chunk, not following
        if not following:
            return
        number, chunk = number + 1, following
        if number == MOST_CHUNKS:
            raise DataError("is too large to be sealed", where=source)


def _read(stream: BinaryIO, size: int, source: Path) -> bytes:
    with decoding(source):
        return stream.read(size)


class SealedFile:
    """A sealed file as a kind of its own: it opens to a hidden file, and says nothing of it without the key."""

    name = "sealed"

    def recognises(self, head: bytes) -> bool:
        """Whether the first 132 bytes of a file are of this kind."""
        return head.startswith(MAGIC)

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """Never asked: a sealed file is not hidden again."""
        return name

    def hide(self, source: Path, target: Path, recipe: Recipe, key: SiteKey) -> FileReport:
        """Refuse: it is sealed already.

        Raises
        ------
        DataError
            Always.
        """
        raise DataError("is sealed already", where=source, cure="decrypt it first")

    def show(self, source: Path, target: Path, keys: Keyring) -> FileReport:
        """Show a hidden file; see `crypto.files.kinds.FileKind`."""
        from crypto.files.registry import kind_of  # noqa: PLC0415 - the registry knows this kind too

        with private_folder() as folder:
            hidden = folder / "hidden"
            unseal_file(source, hidden, keys)
            kind = kind_of(hidden)
            if kind is None or kind.name == self.name:
                raise FormatError("holds no hidden file", where=source)
            return kind.show(hidden, target, keys)

    def header(self, source: Path) -> HiddenHeader:
        """Refuse: what it holds is sealed.

        Raises
        ------
        FormatError
            Always.
        """
        raise self._sealed(source)

    def verify(self, source: Path, keys: Keyring) -> None:
        """Check that a sealed file is whole; errors as `unseal_file`."""
        check_sealed(source, keys)

    def ciphertext(self, source: Path, frame: int = 0) -> NDArray[Any]:
        """Refuse, as `header`: nothing can be learned from what is sealed."""
        raise self._sealed(source)

    def _sealed(self, source: Path) -> FormatError:
        problem = f"is sealed under the key {sealed_fingerprint(source)}"
        return FormatError(problem, where=source, cure="decrypt it to see what it holds")


def hide_sealed(kind: FileKind, source: Path, target: Path, recipe: Recipe, key: SiteKey) -> FileReport:
    """Hide a file and seal what that gives; errors as `crypto.files.kinds.FileKind.hide`.

    The hidden file itself only ever lies in a private folder of this machine's own temporary storage, where the
    original is at home too: `target` may be a disk that is handed out.
    """
    with private_folder() as folder:
        hidden = folder / "hidden"
        report = kind.hide(source, hidden, recipe, key)
        seal_file(hidden, target, key)
    return report


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder in this machine's temporary storage that only its owner may enter; it goes with the block.

    Raises
    ------
    StorageError
        It cannot be made.
    """
    try:
        folder = tempfile.mkdtemp(prefix="medveil-")
    except OSError as error:
        raise storage_error(error, tempfile.gettempdir(), "create a folder") from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
