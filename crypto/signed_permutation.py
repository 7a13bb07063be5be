"""Ciphers that move every value of an image to a keyed place, and negate it there or not.

Several schemes are of this kind and differ only in how the places are drawn. Within `bits` bits the negation
``v -> 2**bits - 1 - v`` is an XOR with all ones, so an image costs one gather and one XOR, whatever the scheme.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crypto import tensors
from crypto.base import Geometry, ImageCipher, Nonces, Pixels, too_large
from crypto.config import CipherConfig
from crypto.derivation import STORE
from crypto.keys import Key
from crypto.padding import Padding
from crypto.threads import on_threads
from medveil.log import logger

_GROUP_BYTES = 2**20
"""Images gathered together, in bytes: 2 MiB of cache hold a group, its pairs and their gather."""
_PAYS_BYTES = 2**33
"""Bytes after which compiling the faster pass is worth its seconds: the process has then spent as many on gathers."""
_TOGETHER = 8
_log = logger("cipher")


class Gather(NamedTuple):
    """A signed permutation of an image's values: ``out[k] = image[source[k]]``, negated where asked."""

    source: npt.NDArray[np.intp]
    negated: npt.NDArray[np.bool_] | None


def block_gather(
    geometry: Geometry,
    pi: npt.NDArray[np.int64],
    inner: npt.NDArray[np.int64],
    negated: npt.NDArray[np.bool_] | None,
) -> Gather:
    """The gather of ``c_j[i] = f_{j,i}(x_{pi[j]}[inner[j, i]])``.

    Parameters
    ----------
    geometry
        How images are cut into blocks.
    pi
        int64 (N,): plaintext block of each ciphertext block.
    inner
        int64 (N, L), or (L,) where all blocks have the same: position in the plaintext block of each value.
    negated
        bool (N, L) or (L,): which values are negated; None for none.
    """
    positions = geometry.block_positions()
    source = np.empty(positions.size, np.intp)
    source[positions] = np.take_along_axis(positions[pi], np.broadcast_to(inner, positions.shape), axis=1)
    if negated is None:
        return Gather(source, None)
    spread = np.empty(positions.size, np.bool_)
    spread[positions] = negated
    return Gather(source, spread)


class SignedPermutation(ImageCipher):
    """A keyed permutation of an image's values with optional negation; exactly invertible on integers.

    A subclass draws it in `_drawn`.
    """

    def __init__(self, config: CipherConfig, key: Key | None, geometry: Geometry, *, use: str = STORE) -> None:
        super().__init__(config, key, geometry, use=use)
        self._flipped: dict[tuple[bool, str], Pixels] = {}
        self._short: dict[bool, npt.NDArray[np.uint32]] = {}
        self._on_device: dict[tuple[str, str, bool], tuple[tensors.Tensor, tensors.Tensor | None]] = {}

    @abstractmethod
    def _drawn(self) -> Gather:
        """Where each value of a flattened ciphertext (C, *padded) comes from in the padded image."""

    def block_order(self) -> npt.NDArray[np.int64] | None:
        """As every cipher's; None where a scheme moves values from block to block."""
        shape = self.geometry
        positions = shape.block_positions()
        block_of = np.empty(positions.size, np.int64)
        block_of[positions] = np.arange(shape.blocks, dtype=np.int64)[:, None]
        came_from = block_of[self._hiding.source[positions]]
        order: npt.NDArray[np.int64] = came_from[:, 0].copy()
        return order if bool((came_from == order[:, None]).all()) else None

    @cached_property
    def _hiding(self) -> Gather:
        return self._drawn()

    @cached_property
    def _showing(self) -> Gather:
        # Only positions of the unpadded image are gathered, so decryption never makes the padding it would drop.
        source, negated = self._hiding
        inverse = np.empty_like(source)
        inverse[source] = np.arange(source.size, dtype=np.intp)
        shape = self.geometry
        kept = inverse.reshape(shape.channels, *self.padded)[:, : shape.height, : shape.width].ravel()
        return Gather(kept, None if negated is None else negated[kept])

    @cached_property
    def _padding(self) -> Padding:
        return Padding(self.geometry, self._subkey("pad"))

    def _hide(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        return self._shared(batch, nonces, hiding=True, threads=1)

    def _show(self, batch: Pixels, nonces: Nonces | None) -> Pixels:
        return self._shared(batch, nonces, hiding=False, threads=1)

    def _shared(self, batch: Pixels, nonces: Nonces | None, *, hiding: bool, threads: int) -> Pixels:
        shape = self.geometry
        taken = self._padding.fill(batch) if hiding and self.pads else batch
        size = self.padded if hiding else (shape.height, shape.width)
        out = self._gathered(taken, hiding=hiding, threads=threads)
        return out.reshape(len(batch), shape.channels, *size)

    def _gathered(self, batch: Pixels, *, hiding: bool, threads: int) -> Pixels:
        source = (self._hiding if hiding else self._showing).source
        flat = batch.reshape(len(batch), self.geometry.channels * self.padded[0] * self.padded[1])
        out = np.empty((len(batch), source.size), batch.dtype)
        flips = self._flips(batch.dtype, hiding=hiding)
        step = max(2, _GROUP_BYTES // max(1, out[:1].nbytes) // 2 * 2)
        places = partial(self._places, hiding=hiding)

        def gather(part: slice) -> None:
            woven = _weave(flat[part], places, flips, out=out[part])
            for first in range(part.start + woven, part.stop, step):
                group = slice(first, min(first + step, part.stop))
                _gather_rows(flat[group], source, out=out[group])
                if flips is not None:
                    np.bitwise_xor(out[group], flips, out=out[group])

        on_threads(gather, len(batch), threads=threads)
        return out

    def _places(self, *, hiding: bool) -> npt.NDArray[np.uint32]:
        """Where each value comes from, in half the memory."""
        if hiding not in self._short:
            self._short[hiding] = (self._hiding if hiding else self._showing).source.astype(np.uint32)
        return self._short[hiding]

    def _flips(self, dtype: np.dtype[Any], *, hiding: bool) -> Pixels | None:
        """What to XOR with an image's gathered values; None where nothing is negated."""
        negated = (self._hiding if hiding else self._showing).negated
        if negated is None:
            return None
        name = (hiding, dtype.str)
        if name not in self._flipped:
            self._flipped[name] = negated.astype(dtype) * dtype.type(self.geometry.largest)
        return self._flipped[name]

    def _apply_on_device(
        self, images: tensors.Tensor, nonces: Nonces | None, *, size: tuple[int, int], hiding: bool
    ) -> tensors.Tensor:
        shape = self.geometry
        if hiding and self.padded != (shape.height, shape.width):
            # The pad of an image needs its digest, which the CPU makes.
            return super()._apply_on_device(images, nonces, size=size, hiding=hiding)
        self._check_layout(tuple(images.shape), str(images.dtype).removeprefix("torch."), size, hiding=hiding)
        flat = tensors.signed(images).reshape(-1, shape.channels * size[0] * size[1])
        self._check_tensor(flat)
        index, flips = self._gather_on(images, hiding=hiding)
        out = flat.index_select(1, index)
        if flips is not None:
            out.bitwise_xor_(flips)
        wanted = self.padded if hiding else (shape.height, shape.width)
        return out.view(images.dtype).reshape(*images.shape[:-2], *wanted)

    def _check_tensor(self, flat: tensors.Tensor) -> None:
        if self.geometry.bits == 8 * flat.element_size() or flat.numel() == 0:
            return
        found = int((flat.long() & 0xFFFF).max())
        if found > self.geometry.largest:
            raise too_large(found, self.geometry.bits)

    def _gather_on(self, images: tensors.Tensor, *, hiding: bool) -> tuple[tensors.Tensor, tensors.Tensor | None]:
        name = (str(images.device), str(images.dtype), hiding)
        if name not in self._on_device:
            index = tensors.from_numpy((self._hiding if hiding else self._showing).source, device=images.device)
            masks = self._flips(np.dtype(str(images.dtype).removeprefix("torch.")), hiding=hiding)
            flips = None if masks is None else tensors.signed(tensors.from_numpy(masks, device=images.device))
            self._on_device[name] = (index, flips)
        return self._on_device[name]


@contextmanager
def weaving(on: bool) -> Iterator[None]:
    """Gather by the compiled pass at once, or never: for who compares it with numpy's."""
    before, _done.moved = _done.moved, _PAYS_BYTES if on else -math.inf
    try:
        yield
    finally:
        _done.moved = before


@cache
def compiled() -> Callable[..., None] | None:
    """`crypto.woven.gather_woven`, where its extra is installed and works here; else None."""
    if find_spec("numba") is None:
        return None
    try:
        from crypto.woven import gather_woven  # noqa: PLC0415 - compiling takes seconds
    except ImportError as error:
        _log.warning("numba is installed and does not work: %s", error)
        return None
    return gather_woven


@dataclass
class _Done:
    """Bytes that this process gathered."""

    moved: float = 0


_done = _Done()


def _weave(images: Pixels, places: Callable[[], npt.NDArray[np.uint32]], flips: Pixels | None, *, out: Pixels) -> int:
    """Gather as many images as the compiled pass takes, once it pays; returns how many that were."""
    _done.moved += out.nbytes
    eights = images.dtype == np.uint8 and images.shape[1] % _TOGETHER == out.shape[1] % _TOGETHER == 0
    count = len(images) // _TOGETHER * _TOGETHER
    if not (eights and count and _done.moved >= _PAYS_BYTES):
        return 0
    gather = compiled()
    if gather is None:
        return 0
    gather(images[:count], places(), flips, out=out[:count])
    return count


def _gather_rows(images: Pixels, source: npt.NDArray[np.intp], *, out: Pixels) -> None:
    """Gather the same positions of each image, two images at a time.

    A gather costs about 0.6 ns for each index whatever the width of what it moves (1 to 8 bytes, in L1 or in L2), so
    a pixel of each of two images is packed into one word of twice the width; packing and unpacking run at vector
    speed. On one core of a shared machine, images of 224x224x3 uint8, fastest of interleaved turns: 13,400 to 13,700
    images/s with negation, against 9,300 for a plain gather. Also tried, none of it worth its code: four images to a
    word (from 6 % slower to 13 % faster; at uint16 a fifth slower), eight (packing costs more than the gather saves),
    weaving bytes of neighbouring pixels within words (a tenth slower), gathering block by block under one short index
    (half as fast, for cutting and joining the blocks), an int32 index (numpy widens it). It costs scratch memory of
    four times the images given. Mode "wrap" is the cheapest of np.take's checks; no index is out of range.
    """
    paired = len(images) // 2 * 2
    bits = 8 * images.dtype.itemsize
    pairs: Pixels = images[1:paired:2].astype(np.uint16 if bits == 8 else np.uint32)
    # The shift it stands for takes half as long again.
    np.multiply(pairs, pairs.dtype.type(2**bits), out=pairs)
    np.bitwise_or(pairs, images[0:paired:2], out=pairs)
    gathered = np.take(pairs, source, axis=1, mode="wrap")
    out[0:paired:2] = gathered
    np.right_shift(gathered, bits, out=gathered)
    out[1:paired:2] = gathered
    np.take(images[paired:], source, axis=1, out=out[paired:], mode="wrap")
