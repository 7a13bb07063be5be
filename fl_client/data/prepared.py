"""Images as they were read, kept in memory for the epochs to come.

Where each epoch draws its own views, decoding and resizing a file anew each time takes longer than training on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_client.data.base import Source

Bytes = npt.NDArray[np.uint8]
MIB = 2**20


class Prepared:
    """Plain images of some rows, in memory alone: the first rows, as many as fit; others are read each time.

    Which rows are kept follows from nothing but their number. Every epoch reads every row once, so no choice by use
    would find more of them.

    Parameters
    ----------
    source
        What they are read from.
    indices
        int64 (n,): which image of the source each row is.
    most
        Bytes of pixels to keep at most; 0 keeps none.
    """

    def __init__(self, source: Source, indices: npt.NDArray[np.int64], *, most: int) -> None:
        self._source, self._indices = source, indices
        shape = (source.channels, source.size, source.size)
        rows = min(len(indices), most // max(1, int(np.prod(shape))))
        # Pages of memory that nothing was written to are none yet.
        self._images = np.empty((rows, *shape), dtype=np.uint8)
        self._read = np.zeros(rows, dtype=bool)

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept in memory once all rows were read."""
        return int(self._images.nbytes)

    def read(self, row: int) -> Bytes:
        """The image of a row, uint8 (C, S, S), read-only where it is kept.

        Raises
        ------
        DataError
            As `Source.read`: the file can no longer be read.
        """
        if row >= len(self._read):
            return self._source.read(int(self._indices[row]))
        if not self._read[row]:
            self._images[row] = self._source.read(int(self._indices[row]))
            self._read[row] = True
        kept: Bytes = self._images[row]
        kept.setflags(write=False)
        return kept
