"""Temporary storage that a disk never reads: a file without a name, every chunk of it sealed under a key of its own.

What seals a file must sometimes go back in it (a MAC, a directory's offset), and may be larger than the memory. So it
is put together here. The key is drawn for each file and lives in memory alone: whatever a killed process, a copied disk
or a freed block leaves of it opens for nobody.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import BinaryIO, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from medveil.errors import StorageError
from medveil.files import storage_error

CHUNK_BYTES = 2**16
MOST_CHUNKS = 128
"""How many chunks stay in memory, 8 MiB; a smaller file never touches the disk."""

_TAG_BYTES = 16
_NONCE_BYTES = 12


@contextlib.contextmanager
def scratch() -> Iterator[BinaryIO]:
    """A file to write, seek and read back, which is gone with the block.

    Raises
    ------
    StorageError
        The temporary storage refuses.
    """
    with io.BufferedRandom(_Scratch(), CHUNK_BYTES) as stream:
        yield stream


class _Scratch(io.RawIOBase):
    """The chunks: those used last in memory, the others sealed in a file without a name."""

    def __init__(self) -> None:
        super().__init__()
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._kept: OrderedDict[int, bytearray] = OrderedDict()
        self._sealed: dict[int, int] = {}
        self._seals = 0
        self._file: BinaryIO | None = None
        self._size = self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
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
        number, start = divmod(self._at, CHUNK_BYTES)
        length = min(len(buffer), CHUNK_BYTES - start, max(0, self._size - self._at))
        if length:
            buffer[:length] = self._chunk(number)[start : start + length]
        self._at += length
        return length

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        number, start = divmod(self._at, CHUNK_BYTES)
        piece = memoryview(data).cast("B")[: CHUNK_BYTES - start]
        self._chunk(number)[start : start + len(piece)] = piece
        self._at += len(piece)
        self._size = max(self._size, self._at)
        return len(piece)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _chunk(self, number: int) -> bytearray:
        """A chunk in memory, where it is written to as well."""
        found = self._kept.pop(number, None)
        if found is None:
            found = self._read(number) if number in self._sealed else bytearray(CHUNK_BYTES)
        self._kept[number] = found
        while len(self._kept) > MOST_CHUNKS:
            self._put_away(*self._kept.popitem(last=False))
        return found

    def _put_away(self, number: int, chunk: bytearray) -> None:
        # A counter never repeats under a key of this file alone; a chunk that is sealed again gets another.
        self._seals += 1
        sealed = self._cipher.encrypt(_nonce(self._seals), bytes(chunk), _bound(number))
        try:
            if self._file is None:
                self._file = cast(BinaryIO, tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - closed with this one
            self._file.seek(number * (CHUNK_BYTES + _TAG_BYTES))
            left = memoryview(sealed)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _refused(error) from error
        self._sealed[number] = self._seals

    def _read(self, number: int) -> bytearray:
        assert self._file is not None
        try:
            self._file.seek(number * (CHUNK_BYTES + _TAG_BYTES))
            sealed = self._file.read(CHUNK_BYTES + _TAG_BYTES)
        except OSError as error:
            raise _refused(error) from error
        return bytearray(self._cipher.decrypt(_nonce(self._sealed[number]), sealed, _bound(number)))


def _refused(error: OSError) -> StorageError:
    return storage_error(error, tempfile.gettempdir(), "use the temporary storage")


def _nonce(seals: int) -> bytes:
    return seals.to_bytes(_NONCE_BYTES, "big")


def _bound(number: int) -> bytes:
    return number.to_bytes(8, "big")
