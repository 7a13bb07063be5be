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
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.derivation import encode_fields
from crypto.files.scratch import scratch
from crypto.files.streams import decoding
from crypto.keyring import Keyring
from crypto.keys import Key, SiteKey
from crypto.reading.marks import SEALED_MAGIC
from medveil.errors import DataError, FormatError, IntegrityError, KeyMaterialError
from medveil.files import new_file

MAGIC = SEALED_MAGIC
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


@contextlib.contextmanager
def sealed_output(target: Path, key: SiteKey) -> Iterator[BinaryIO]:
    """Write what is to be sealed, as a file that can be sought and read back; it is sealed when the block ends.

    Nothing of it lies open on a disk (`crypto.files.scratch`). When the block raises, nothing is written to `target`.

    Raises
    ------
    StorageError
        The disk refused.
    DataError
        It is larger than 256 TiB.
    """
    with scratch() as stream:
        yield stream
        stream.seek(0)
        with new_file(target) as sealed:
            _seal(stream, sealed, target, key)


def _seal(stream: BinaryIO, sealed: BinaryIO, target: Path, key: SiteKey) -> None:
    salt, prefix = os.urandom(SALT_BYTES), os.urandom(PREFIX_BYTES)
    header = MAGIC + bytes([VERSION]) + bytes.fromhex(key.fingerprint) + salt + prefix
    cipher = _cipher(key, salt)
    sealed.write(header)
    for number, chunk, last in _chunks(stream, target):
        sealed.write(cipher.encrypt(_nonce(prefix, number, last=last), chunk, header))


@contextlib.contextmanager
def unsealed(source: Path, keys: Keyring) -> Iterator[BinaryIO]:
    """Read a sealed file as if it lay open; all of it was found whole before the block begins.

    Chunks are opened when they are asked for, one at a time, each proven again: nothing is written anywhere.

    Raises
    ------
    FormatError
        It is not a sealed file, or of a newer version.
    KeyMaterialError
        It was sealed under a key the ring does not hold.
    IntegrityError
        It is cut short or was changed.
    StorageError
        It cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with decoding(source):
            opened = _Unsealed(stack.enter_context(open(source, "rb")), source, keys)
            for number in range(opened.count):
                opened.chunk(number)
        yield io.BufferedReader(opened, CHUNK_BYTES)


def check_sealed(source: Path, keys: Keyring) -> None:
    """Open a sealed file without keeping what is in it; errors as `unsealed`."""
    with unsealed(source, keys):
        pass


def sealed_fingerprint(source: Path) -> str:
    """The fingerprint of the key that a file says it was sealed under; nothing is proven. Errors as `unseal_file`."""
    with decoding(source), open(source, "rb") as sealed:
        return _header(sealed, source).fingerprint


class _Unsealed(io.RawIOBase):
    """What a sealed file holds.

    Attributes
    ----------
    count : int
        Of chunks.
    """

    def __init__(self, sealed: BinaryIO, source: Path, keys: Keyring) -> None:
        super().__init__()
        self._sealed, self._source = sealed, source
        self._header = _header(sealed, source)
        try:
            key = keys.find(self._header.fingerprint)
        except KeyMaterialError as error:
            raise KeyMaterialError(error.problem, where=source, cure=error.cure) from None
        self._cipher = _cipher(key, self._header.salt)
        body = sealed.seek(0, os.SEEK_END) - HEADER_BYTES
        self.count = max(1, -(-body // (CHUNK_BYTES + TAG_BYTES)))
        self._size = max(0, body - self.count * TAG_BYTES)
        self._at = 0
        self._kept = -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override]
        if self._at >= self._size:
            return 0
        number, start = divmod(self._at, CHUNK_BYTES)
        piece = self.chunk(number)[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def chunk(self, number: int) -> bytes:
        """A chunk, proven to be this one of this file (IntegrityError where it is not)."""
        if self._kept[0] != number:
            self._kept = number, self._opened(number)
        return self._kept[1]

    def _opened(self, number: int) -> bytes:
        self._sealed.seek(HEADER_BYTES + number * (CHUNK_BYTES + TAG_BYTES))
        chunk = self._sealed.read(CHUNK_BYTES + TAG_BYTES)
        nonce = _nonce(self._header.prefix, number, last=number == self.count - 1)
        try:
            return self._cipher.decrypt(nonce, chunk, self._header.data)
        except InvalidTag:
            problem = "is cut short, or was changed after it was sealed"
            raise IntegrityError(problem, where=self._source, cure=_RESTORE) from None


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


def _chunks(stream: BinaryIO, target: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Chunks of a stream with their numbers, and whether each is the last; an empty stream is one empty chunk."""
    number, chunk = 0, stream.read(CHUNK_BYTES)
    while True:
        following = stream.read(CHUNK_BYTES)
        yield number, chunk, not following
        if not following:
            return
        number, chunk = number + 1, following
        if number == MOST_CHUNKS:
            raise DataError("is too large to be sealed", where=target)
