"""Shapes: how images are cut into blocks, how a model reads their pixels, how its stem follows a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medveil.called import typed
from medveil.errors import ConfigError, DataError

Pixels = NDArray[Any]

BITS_LIMIT = 16
MOST_SHUFFLED = 2**32
"""Values that a stream of 32-bit words can put into any order."""


class StemPermutation(NamedTuple):
    """How a stem follows a key: ``ciphertext[j][i] = f_i(plaintext[pi[j]][rho[i]])``, a sign change where `mask`.

    Key material: whoever holds it reads every image of the key.
    """

    rho: NDArray[np.int64]
    """int64 (L,): position in the plaintext block of each value of a ciphertext block."""
    pi: NDArray[np.int64]
    """int64 (N,): plaintext block of each ciphertext block."""
    mask: NDArray[np.bool_]
    """bool (L,): which values of a ciphertext block are negated."""


class StemRotation(NamedTuple):
    """How a stem follows a key of an orthogonal cipher: ``ciphertext[j] = matrix @ plaintext[pi[j]]``.

    Both sides as a model reads them (`Reading`). Key material: whoever holds it reads every image of the key.
    """

    matrix: NDArray[np.float64]
    """float64 (L, L), orthogonal."""
    pi: NDArray[np.int64]
    """int64 (N,): plaintext block of each ciphertext block."""


class Reading(NamedTuple):
    """How a model reads pixels: the number for value v is ``gain * (2 v - maxval) / maxval``, maxval = 2**bits - 1."""

    bits: int = 8
    gain: float = 1.0


PLAIN = Reading()
"""How a model reads 8-bit images that nothing hides."""


@typed
@dataclass(frozen=True)
class Geometry:
    """Shape of the images a cipher is cut for: pixels, blocks and bits.

    Raises
    ------
    ConfigError
        A size is below 1, or `bits` outside 1 to 16.
    """

    channels: int
    height: int
    width: int
    block: int
    bits: int = 8

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width", "block", "bits"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is {getattr(self, name)}", where="cipher", cure="at least 1")
        if max(self.blocks, self.block_length) > MOST_SHUFFLED:
            cure = "far smaller images or blocks"
            raise ConfigError("has more blocks, or values in one, than can be shuffled", where="cipher", cure=cure)
        if self.bits > BITS_LIMIT:
            raise ConfigError(f"'bits' is {self.bits}", where="cipher", cure=f"1 to {BITS_LIMIT}")

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks down and across."""
        return -(-self.height // self.block), -(-self.width // self.block)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width in pixels, rounded up to whole blocks."""
        return self.grid[0] * self.block, self.grid[1] * self.block

    @property
    def block_length(self) -> int:
        """L: values in a block."""
        return self.channels * self.block**2

    @property
    def blocks(self) -> int:
        """N: blocks in a padded image."""
        return self.grid[0] * self.grid[1]

    @property
    def largest(self) -> int:
        """The largest value a pixel can have."""
        return int(2**self.bits - 1)

    @property
    def params(self) -> dict[str, int]:
        """The fields a subkey is derived with."""
        rows, columns = self.padded
        return {"B": self.block, "C": self.channels, "H": rows, "W": columns, "bits": self.bits}

    def block_positions(self) -> NDArray[np.intp]:
        """Where each value of each block lies in the flattened padded image: intp (N, L)."""
        flat = np.arange(self.blocks * self.block_length, dtype=np.intp)
        positions: NDArray[np.intp] = self.cut(flat.reshape(1, self.channels, *self.padded))[0]
        return positions

    @typed
    def cut(self, images: Pixels) -> Pixels:
        """Cut padded images (n, C, H, W) into blocks (n, N, L), in the order of `block_positions`.

        Raises
        ------
        DataError
            The images are of another shape.
        """
        _check_shape(images, (self.channels, *self.padded))
        rows, columns = self.grid
        parts = images.reshape(-1, self.channels, rows, self.block, columns, self.block)
        return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, self.blocks, self.block_length)

    @typed
    def join(self, blocks: Pixels) -> Pixels:
        """Put blocks (n, N, L) together again: padded images (n, C, H, W).

        Raises
        ------
        DataError
            The blocks are of another shape.
        """
        _check_shape(blocks, (self.blocks, self.block_length))
        parts = blocks.reshape(-1, *self.grid, self.channels, self.block, self.block)
        return parts.transpose(0, 3, 1, 4, 2, 5).reshape(-1, self.channels, *self.padded)


def _check_shape(values: Pixels, wanted: tuple[int, ...]) -> None:
    if values.shape[-len(wanted) :] != wanted:
        raise DataError(f"values of shape {values.shape}", where="geometry", cure=f"(n, {', '.join(map(str, wanted))})")
