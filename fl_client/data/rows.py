"""Hidden images or nonces of a part, as training and attacks ask for them: a few rows of one view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.sealed_rows import SealedRows

NONCES = "-nonces"
"""What stands behind a part's name where its nonces are meant."""
_AT_ONCE = 64


class Rows(ABC):
    """Rows (n, views, ...), wherever they lie.

    Attributes
    ----------
    shape : tuple of int
        Of all of them: n, views, and of one row of one view.
    dtype : dtype
        Of the elements.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kept_bytes: int = 0
    """Bytes of memory that are taken once all rows were read."""

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def take(self, rows: npt.NDArray[np.int64], view: int) -> npt.NDArray[Any]:
        """Some rows of a view, (b, ...), a copy in memory (IntegrityError where one cannot be read)."""

    def view(self, view: int) -> npt.NDArray[Any]:
        """All rows of a view, (n, ...)."""
        return self.take(np.arange(len(self)), view)

    def read_all(self) -> None:
        """Read every row (IntegrityError where one cannot be read); what is kept in memory is afterwards."""
        for view in range(self.shape[1]):
            for start in range(0, len(self), _AT_ONCE):
                self.take(np.arange(start, min(len(self), start + _AT_ONCE)), view)


class HeldRows(Rows):
    """Rows of an array: in memory, or mapped from a file that lies open.

    Parameters
    ----------
    array
        (n, views, ...).
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def take(self, rows: npt.NDArray[np.int64], view: int) -> npt.NDArray[Any]:
        """See `Rows.take`."""
        return np.asarray(self.array[rows, view])


class OpenedRows(Rows):
    """Rows of a sealed file, opened when they are asked for; the first, as many as fit, stay open in memory.

    Which stay follows from nothing but their number: every epoch reads every row once, so no choice by use would find
    more of them.

    Parameters
    ----------
    path, key
        The file and its key, as for `crypto.sealed_rows.SealedRows`.
    shape, dtype
        Of all rows.
    most
        Bytes to keep in memory at most.

    Raises
    ------
    IntegrityError
        The file is missing, or of another size.
    """

    def __init__(self, path: Path, key: bytes, *, shape: tuple[int, ...], dtype: npt.DTypeLike, most: int) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._size = int(np.prod(shape[2:])) * self.dtype.itemsize
        count = shape[0] * shape[1]
        self._sealed = SealedRows(path, key, rows=count, size=self._size)
        fit = min(count, most // max(1, self._size))
        # Pages of memory that nothing was written to are none yet.
        self._kept = np.empty((fit, self._size), dtype=np.uint8)
        self._opened = np.zeros(fit, dtype=bool)
        self.kept_bytes = int(self._kept.nbytes)

    def take(self, rows: npt.NDArray[np.int64], view: int) -> npt.NDArray[Any]:
        """See `Rows.take`."""
        numbers = rows * self.shape[1] + view
        made = np.empty((len(numbers), self._size), dtype=np.uint8)
        staying = numbers < len(self._kept)
        known = staying.copy()
        known[staying] = self._opened[numbers[staying]]
        made[known] = self._kept[numbers[known]]
        if not known.all():
            self._open(numbers, np.flatnonzero(~known), made)
        return made.view(self.dtype).reshape(len(numbers), *self.shape[2:])

    def _open(self, numbers: npt.NDArray[np.int64], places: npt.NDArray[np.int64], made: npt.NDArray[np.uint8]) -> None:
        self._sealed.open_into(numbers[places].tolist(), (made[place] for place in places))
        stay = places[numbers[places] < len(self._kept)]
        self._kept[numbers[stay]] = made[stay]
        self._opened[numbers[stay]] = True
