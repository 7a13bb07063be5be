"""Rows of one length, each sealed by itself, so that any of them is opened without the others: images of a store.

A file is its rows one after the other, each as ciphertext and tag of AES-256-GCM. A row's number is its nonce (12
bytes, big-endian), under a key that no other file has: HKDF-SHA256 of a subkey, with the identity of what the file
belongs to and the file's name. An identity is drawn once (`new_identity`) and a file written once under it, so no nonce
serves twice, and a row opens in its own place in its own file alone: one that was changed, moved within the file, or
taken from another file or from an earlier one of the same name, is refused. How many rows there are is for whoever
keeps the identity to say, in something that is sealed too: then a file that was cut is refused as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.derivation import FIRST, encode_fields, hkdf
from crypto.sealed import NONCE_BYTES, TAG_BYTES
from medveil.errors import IntegrityError
from medveil.files import private, storage_error

IDENTITY_BYTES = 16
_CURE = "remove it: a run makes it anew"
Bytes = npt.NDArray[np.uint8]


def new_identity() -> str:
    """Draw the identity of files to be written: 32 hex digits from the operating system."""
    return os.urandom(IDENTITY_BYTES).hex()


def file_key(subkey: bytes, identity: str, name: str) -> bytes:
    """The key of one file: 32 bytes.

    Parameters
    ----------
    subkey
        32 bytes, ``key.subkey("store")``.
    identity
        Of what the file belongs to, from `new_identity`.
    name
        Of the file.
    """
    return hkdf(subkey, encode_fields(["medveil", str(FIRST), "store", identity, name]))


class RowWriter:
    """Seals rows into a file that is written front to back.

    Plain writes report a full disk as an error that can be told; a memory map would turn it into SIGBUS.

    Parameters
    ----------
    path
        The file to make, its owner's alone.
    key
        From `file_key`; it has sealed nothing yet.
    size
        Bytes of a row.
    """

    def __init__(self, path: Path, key: bytes, size: int) -> None:
        self._seal, self._size = AESGCM(key), size
        self.rows = 0
        self._stream = open(path, "wb", opener=private)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def append(self, rows: Bytes) -> None:
        """Seal and write rows, uint8 (n, size)."""
        if rows.shape[1:] != (self._size,):
            raise ValueError(f"rows of shape {rows.shape[1:]}, not ({self._size},)")
        sealed = np.empty((len(rows), self._size + TAG_BYTES), dtype=np.uint8)
        for row, into in zip(np.ascontiguousarray(rows), sealed, strict=True):
            self._seal.encrypt_into(_nonce(self.rows), row.data, None, into.data)
            self.rows += 1
        self._stream.write(sealed.data)


class SealedRows:
    """Opens rows of a file that a `RowWriter` wrote, which stays open as long as this does.

    Parameters
    ----------
    path
        The file.
    key
        From `file_key`.
    rows, size
        How many there are, and bytes of each.

    Raises
    ------
    IntegrityError
        The file is missing, or not of that many rows.
    """

    def __init__(self, path: Path, key: bytes, *, rows: int, size: int) -> None:
        self._path, self._open, self._rows, self._size = path, AESGCM(key), rows, size
        try:
            self._stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the last reference to it
            found = os.fstat(self._stream.fileno()).st_size
        except OSError as error:
            raise IntegrityError(f"cannot be read: {error.strerror}", where=path, cure=_CURE) from error
        if found != rows * (size + TAG_BYTES):
            raise IntegrityError(f"is of {found} bytes, not of {rows} sealed rows", where=path, cure=_CURE)

    def open_into(self, numbers: Iterable[int], into: Iterable[Bytes]) -> None:
        """Open rows into arrays.

        Parameters
        ----------
        numbers
            Which, n of them.
        into
            n arrays uint8 (size,), C-contiguous.

        Raises
        ------
        IntegrityError
            A row was cut, changed or moved, or is sealed under another key: authenticated encryption cannot tell which.
        StorageError
            The disk does not give it.
        """
        length = self._size + TAG_BYTES
        for number, plain in zip(numbers, into, strict=True):
            if not 0 <= number < self._rows:
                raise IndexError(f"row {number} of {self._rows}")
            try:
                sealed = os.pread(self._stream.fileno(), length, number * length)
            except OSError as error:
                raise storage_error(error, self._path, "read the file") from error
            if len(sealed) != length:
                raise IntegrityError("was cut short since it was opened", where=self._path, cure=_CURE)
            try:
                self._open.decrypt_into(_nonce(number), sealed, None, plain.data)
            except InvalidTag:
                problem = f"row {number} does not open: wrong key or changed file"
                raise IntegrityError(problem, where=self._path, cure=_CURE) from None


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")
