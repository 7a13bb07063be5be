"""What every kind of image promises: its header says what it is, within a limit, before a pixel is read.

Doors (`medveil-crypto`, the sources of training images, `predict`) ask `crypto.reading.look` and never a kind itself:
so a file is the same image, or the same refusal in the same words, at all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medveil.errors import DataError

Pixels = NDArray[Any]
Bytes = NDArray[np.uint8]

LARGEST_SIDE = 2**20
LARGEST_VALUES = 2**27
"""Values of one image that is opened: 11585 x 11585 grey, 6688 x 6688 RGB. A cipher needs some 30 bytes for each."""
SMALLER = "make it smaller, or cut it into tiles"
MOST_FRAMES = 2**20
"""Images of one file: a corrupt count must not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What an image file is, by its header alone.

    Parameters
    ----------
    kind
        ``"dicom"``, ``"png"``, ``"jpeg"``, ``"bmp"`` or ``"tiff"``.
    frames
        Images in it (frames, pages), all of one shape.
    width, height
        In pixels, as stored.
    channels
        1 (grey) or 3 (colour, a palette as well) of what a viewer shows.
    bits, signed
        Of a stored sample.
    hidden
        Whether MedVeil hid it: it has a header of ours, and its pixels are a ciphertext.
    """

    kind: str
    frames: int
    width: int
    height: int
    channels: int
    bits: int
    signed: bool = False
    hidden: bool = False


class Opened(Protocol):
    """An image file whose header was read. It raises errors of `medveil.errors` alone, whatever the file holds.

    No handle stays open between calls: there is nothing to close, and processes that fork do not share a place in it.
    """

    about: About

    def stored(self, frame: int = 0) -> Pixels:
        """Samples as the file holds them: unsigned or signed (C, H, W), alpha and the indices of a palette included.

        Raises
        ------
        DataError
            They are cut short or damaged.
        """

    def shown(self, frame: int = 0, *, window: Sequence[float] | None = None) -> Bytes:
        """Pixels as a viewer shows them: uint8 (H, W) or (H, W, 3), upright, white as white, alpha dropped.

        Grey: `window` (centre, width) if given, else the file's own, else the whole range of up to 8 bits, else
        percentiles 0.5 to 99.5. A window leaves colour alone.

        Raises
        ------
        DataError
            They are cut short or damaged, or the file is hidden.
        """


class ImageKind(Protocol):
    """One kind of image file."""

    name: str

    def recognises(self, head: bytes) -> bool:
        """Whether the first `crypto.reading.look.HEAD_BYTES` bytes of a file are of this kind."""

    def open(self, path: Path) -> Opened:
        """Open a file by its header; no pixel is read.

        Raises
        ------
        DataError
            It is damaged, claims more than is opened, or is no image to be trained on, which is named.
        StorageError
            The disk refused.
        """


def check_size(*, width: int, height: int, channels: int, where: str | Path) -> None:
    """Refuse an image of no size, or of one that would fill the memory, before anything is decoded.

    Raises
    ------
    DataError
        It is so.
    """
    if width < 1 or height < 1:
        raise DataError(f"is an image of {width} x {height} pixels", where=where)
    if max(width, height) > LARGEST_SIDE or width * height * channels > LARGEST_VALUES:
        problem = f"is an image of {width} x {height} pixels and {channels} channels"
        raise DataError(problem, where=where, cure=f"up to {LARGEST_VALUES} values are opened: {SMALLER}")


def check_frame(frame: int, about: About, *, where: str | Path) -> None:
    """Refuse a frame that the file does not hold (DataError)."""
    if not 0 <= frame < about.frames:
        raise DataError(f"holds {about.frames} images, and not number {frame}", where=where)


def check_shown(about: About, *, where: str | Path) -> None:
    """Refuse to show a ciphertext, whose pixels look like any others (DataError)."""
    if about.hidden:
        raise DataError("is hidden", where=where, cure="read it as it is: set data.source to hidden")
