"""Padding images to whole blocks with pixels that only the key's holder can tell from noise."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import numpy.typing as npt

from crypto.derivation import KeyStream
from crypto.geometry import Geometry, Pixels


class Padding:
    """Fills images of one geometry up to whole blocks, at the bottom and on the right.

    Parameters
    ----------
    geometry
        Shape of the images.
    subkey
        32 bytes, the scheme's subkey for purpose ``pad``.
    """

    def __init__(self, geometry: Geometry, subkey: bytes) -> None:
        self._geometry = geometry
        self._subkey = subkey

    def fill(self, batch: Pixels) -> Pixels:
        """Pad images (n, C, H, W); those that are whole blocks already come back as they are."""
        shape = self._geometry
        if shape.padded == (shape.height, shape.width):
            return batch
        out = np.empty((len(batch), shape.channels, *shape.padded), batch.dtype)
        out[:, :, : shape.height, : shape.width] = batch
        flat = out.reshape(len(batch), shape.blocks * shape.block_length)
        flat[:, self._positions] = self._pixels(batch)
        return out

    @cached_property
    def _positions(self) -> npt.NDArray[np.intp]:
        shape = self._geometry
        padding = np.ones((shape.channels, *shape.padded), np.bool_)
        padding[:, : shape.height, : shape.width] = False
        return np.flatnonzero(padding)

    def _pixels(self, batch: Pixels) -> Pixels:
        """Pad pixels in C order, one little-endian stream per image: (n, pad pixels).

        The nonce is a digest of the image: reflection would repeat content, and one pad for all images would show
        where the padding went.
        """
        little = batch.dtype.newbyteorder("<")
        count = self._positions.size * little.itemsize
        digests = [hashlib.sha256(np.ascontiguousarray(image, dtype=little).data).digest() for image in batch]
        streams = [KeyStream(self._subkey, digest[:16]).read(count) for digest in digests]
        pixels: Pixels = np.frombuffer(b"".join(streams), dtype=little) & little.type(self._geometry.largest)
        return pixels.reshape(len(batch), self._positions.size)
