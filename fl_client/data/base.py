"""What every source of images has in common."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.config import FIRST_DERIVATION
from crypto.imaging import preprocess
from fl_client.data.config import DataConfig, check_data_config
from fl_client.data.items import Item, Skipped
from fl_client.data.splits import limited
from medveil.errors import ConfigError, DataError

__all__ = ["Bytes", "HiddenUnder", "Item", "Skipped", "Source", "Stamp", "class_names", "source_name"]

Bytes = npt.NDArray[np.uint8]


class HiddenUnder(NamedTuple):
    """How images came hidden: `block` is the patch of a model that learns from them."""

    scheme: str
    block: int
    fingerprint: str
    derivation: int = FIRST_DERIVATION


class Stamp(NamedTuple):
    """What tells that a file was replaced: its size in bytes and its modification time in nanoseconds."""

    size: int
    mtime_ns: int


class Source(ABC):
    """A labelled set of images, indexed without decoding them.

    Attributes
    ----------
    name : str
        Kind and place, short enough for a file name.
    classes : tuple of str
        Ordered class names.
    items : tuple of Item
        The images, in a fixed order.
    size, channels : int
        Side in pixels and number of channels of what `read` gives.
    skipped : tuple of Skipped
        Files left out when the source was opened. A file whose pixels turn out unreadable raises on `read` instead.
    warnings : tuple of str
        What a person should know about this source; numbers in them are exact, and for the site's own log.
    counted : tuple of str
        Those of the warnings that hold exact numbers of images: never for a card.
    said : tuple of str
        What was done to the images on their way to 8 bit, for the data card: no number of images in it.
    ungrouped : int
        Images that should carry what groups them and do not, where a warning tells of them.
    hidden : HiddenUnder or None
        How another party hid the images before they came here; `read` then gives ciphertexts.
    """

    name: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    size: int
    channels: int
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    ungrouped: int = 0
    hidden: HiddenUnder | None = None

    def __init__(self, config: DataConfig) -> None:
        check_data_config(config)
        self._config = config
        self.path = Path(config.path or "").expanduser()
        self.name = source_name(config)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> Bytes:
        """Decode, window and resize one image.

        Returns
        -------
        uint8 (channels, size, size)

        Raises
        ------
        DataError
            The file is missing, cut, corrupt, not an image, or smaller than ``data.min_side``.
        """
        pixels = self._decode(index)
        self._check_side(pixels, index)
        return preprocess.to_square(pixels, size=self.size, channels=self.channels)

    def identity(self) -> str:
        """Digest of what the source is: ids, file sizes and times, and the preprocessing. 64 hex digits.

        Contents are not read, so that a store opens at once: a file changed without a change of size or modification
        time is not noticed.
        """
        config = self._config
        settings = [preprocess.VERSION, self.size, self.channels, config.window, config.min_side]
        return _digest(json.dumps([settings, [[item.id, *self._stamp(i)] for i, item in enumerate(self.items)]]))

    def _check_side(self, pixels: Bytes, index: int) -> None:
        side = min(pixels.shape[:2])
        if side < self._config.min_side:
            raise DataError(
                f"is {pixels.shape[1]}x{pixels.shape[0]} pixels, smaller than data.min_side {self._config.min_side}",
                where=self.items[index].id,
            )

    def _finish(self, items: Sequence[Item], *, default_size: int) -> None:
        """Take the items: apply ``data.limit``, and settle size and channels."""
        if not items:
            raise DataError(f"holds no usable image{self._why_none()}", where=self.path)
        kept = limited(items, self._config.limit)
        self.items = tuple(items[i] for i in kept)
        self._keep(kept)
        self.size = self._config.image_size or default_size
        self.channels = self._config.channels or self._first_channels()

    def _why_none(self) -> str:
        if not self.skipped:
            return ""
        reason, count = Counter(each.reason for each in self.skipped).most_common(1)[0]
        return f" ({len(self.skipped)} files were skipped, {count} because: {reason})"

    def _first_channels(self) -> int:
        why = ""
        for index in range(len(self.items)):
            try:
                return 1 if self._decode(index).ndim == 2 else 3
            except DataError as error:
                why = why or f": the first one {error.problem}"
        raise DataError(f"none of {len(self.items)} images can be read{why}", where=self.path)

    @abstractmethod
    def _keep(self, kept: Sequence[int]) -> None:
        """Keep only these of the indexed images' own records."""

    @abstractmethod
    def _decode(self, index: int) -> Bytes:
        """Decode one image to uint8 (H, W) or (H, W, 3), windowed, not resized; DataError for a bad one."""

    @abstractmethod
    def _stamp(self, index: int) -> Stamp:
        """Size and time of the file an image is in."""


def source_name(config: DataConfig) -> str:
    """Kind and place of a source, the same whether or not it can be read."""
    path = Path(config.path or "").expanduser()
    return f"{config.source}-{path.stem}-{_digest(str(path.resolve()))[:8]}"


def class_names(found: Iterable[str], config: DataConfig, *, where: str | Path) -> tuple[str, ...]:
    """The ordered class names: those of the configuration, or those found, sorted.

    Raises
    ------
    DataError
        A label is none of the configured classes, or there are fewer than two classes.
    """
    names = sorted(set(found))
    if config.classes is None:
        if len(names) == 1:
            raise DataError(f"has one class only ('{names[0]}')", where=where, cure="list all of them in data.classes")
        return tuple(names)
    if len(config.classes) < 2:
        raise ConfigError("names fewer than two classes", where="data.classes")
    unknown = [name for name in names if name not in config.classes]
    if unknown:
        raise DataError(
            f"unknown label {', '.join(repr(name) for name in unknown[:5])}",
            where=where,
            cure=f"data.classes are {', '.join(config.classes)}",
        )
    return tuple(config.classes)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
