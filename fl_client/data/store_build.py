"""Building a store: decode, resize, augment, hide, seal and write, a few images at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.base import NONCE_BYTES, ImageCipher
from crypto.sealed_rows import RowWriter, new_identity
from fl_client.data.alike import Alike
from fl_client.data.base import Skipped, Source
from fl_client.data.items import said
from fl_client.data.partition import Parts
from fl_client.data.rows import NONCES
from fl_client.data.splits import PARTS
from fl_client.data.store_files import StoreSeal, row_writer, write_header
from fl_client.data.stored import Views, nonces_for
from medveil.errors import DataError

COPY = "is the very picture of an image that the run trains on"
"""Why a validation or test image is skipped."""
# Plaintext held at a time, so that memory stays flat whatever the size of the data set.
_CHUNK_BYTES = 32 * 2**20


@dataclass
class _Builder:
    """What building needs to know and counts as it goes."""

    folder: Path
    source: Source
    cipher: ImageCipher
    views: Views
    progress: Callable[[int], None]
    seal: StoreSeal
    identity: str
    skipped: list[Skipped] = field(default_factory=list)
    alike: Alike = field(default_factory=Alike)

    def part(self, name: str, indices: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Write one part, that of training first; return its entry of the header."""
        count = self.views.count if name == "train" else 1
        good: list[int] = []
        described = self._checked(name, indices, good) if count == 0 else self._written(name, indices, count, good)
        items = [self.source.items[i] for i in good]
        return {
            "views": count,
            **described,
            "indices": good,
            "ids": [item.id for item in items],
            "labels": [item.label for item in items],
        }

    def _checked(self, name: str, indices: npt.NDArray[np.int64], good: list[int]) -> dict[str, Any]:
        """Read each image once, so that what cannot be read is known before training; keep nothing."""
        for chunk, _ in self._chunks(name, indices, 1):
            good.extend(chunk)
        return {"images": None, "nonces": None}

    def _written(self, name: str, indices: npt.NDArray[np.int64], count: int, good: list[int]) -> dict[str, Any]:
        row, dtype = ciphertext_row(self.cipher)
        with ExitStack() as files:
            images = files.enter_context(self._writer(name, int(np.prod(row)) * dtype.itemsize))
            nonces = None
            if self.cipher.per_image:
                nonces = files.enter_context(self._writer(f"{name}{NONCES}", NONCE_BYTES))
            for chunk, plain in self._chunks(name, indices, count):
                # Numbered by the source, which sites with one simulated key may share: no two ciphertexts share a
                # nonce.
                numbers = [index * max(1, self.views.count) + view for index in chunk for view in range(count)]
                used = nonces_for(self.cipher, numbers)
                images.append(as_rows(self.cipher.encrypt(plain, used), dtype))
                if nonces is not None and used is not None:
                    nonces.append(used)
                good.extend(chunk)
        rows = {"rows": len(good)}
        return {"images": rows, "nonces": None if nonces is None else rows}

    def _writer(self, name: str, size: int) -> RowWriter:
        return row_writer(self.folder, name, size, seal=self.seal, identity=self.identity)

    def _chunks(
        self, name: str, indices: npt.NDArray[np.int64], count: int
    ) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
        """Readable images a chunk at a time: their indices, and their views, uint8 (images * views, C, S, S)."""
        image_bytes = self.source.channels * self.source.size**2
        length = max(1, min(64, _CHUNK_BYTES // (count * image_bytes)))
        for start in range(0, len(indices), length):
            good: list[int] = []
            made: list[npt.NDArray[np.uint8]] = []
            for index in indices[start : start + length].tolist():
                views = self._views(name, index, count)
                if views:
                    good.append(index)
                    made += views
                self.progress(1)
            if good:
                yield good, np.stack(made)

    def _views(self, name: str, index: int, count: int) -> list[npt.NDArray[np.uint8]]:
        item = self.source.items[index]
        try:
            plain = self.source.read(index)
        except DataError as error:
            self.skipped.append(Skipped(item.id, said(error)))
            return []
        trains = name == "train"
        if self.alike.note(item, plain, trains=trains) and not trains:
            self.skipped.append(Skipped(item.id, COPY))
            return []
        return [plain, *(self.views.make(plain, item.id, view) for view in range(1, count))]


def build(
    folder: Path,
    source: Source,
    parts: Parts,
    cipher: ImageCipher,
    views: Views,
    *,
    header: dict[str, Any],
    seal: StoreSeal,
    needed: str = "train",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a whole store into an empty folder; parameters as for `fl_client.data.store.open_store`.

    Parameters
    ----------
    needed
        The part without an image of which the store is none.

    Raises
    ------
    DataError
        No image of it can be read.
    """
    total = sum(len(getattr(parts, name)) for name in PARTS)
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    identity = new_identity()
    builder = _Builder(folder, source, cipher, views, count, seal, identity)
    described = {name: builder.part(name, getattr(parts, name)) for name in PARTS}
    if not described[needed]["indices"]:
        raise _without(needed, source, parts, builder.skipped)
    row, dtype = ciphertext_row(cipher)
    write_header(
        folder,
        {
            **header,
            "image": {"shape": list(row), "dtype": dtype.str},
            "parts": described,
            "skipped": [list(each) for each in builder.skipped],
            "without_copies": True,
            "alike": builder.alike.described(source.classes),
        },
        seal=seal,
        identity=identity,
    )


def ciphertext_row(cipher: ImageCipher) -> tuple[tuple[int, int, int], np.dtype]:
    """Shape (C, H, W) and dtype of the ciphertext of one 8-bit image."""
    return (cipher.geometry.channels, *cipher.padded), cipher.hidden_dtype(np.uint8)


def as_rows(hidden: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[np.uint8]:
    """Arrays (n, ...) as the bytes of n rows, uint8 (n, size)."""
    return np.ascontiguousarray(hidden, dtype=dtype).reshape(len(hidden), -1).view(np.uint8)


def _without(needed: str, source: Source, parts: Parts, skipped: list[Skipped]) -> DataError:
    what = "training images" if needed == "train" else "images to measure"
    if not skipped:
        return DataError(f"there are no {what}", where=source.path)
    reason, times = Counter(each.reason for each in skipped).most_common(1)[0]
    count = len(getattr(parts, needed))
    return DataError(f"none of {count} {what} can be read ({times} because: {reason})", where=source.path)
