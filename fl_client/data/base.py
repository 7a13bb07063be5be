"""What every source of images has in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from crypto.config import FIRST_DERIVATION
from crypto.imaging import preprocess
from fl_client.data.channels import Form, settle
from fl_client.data.config import SIMILAR, DataConfig, check_data_config, joins_similar
from fl_client.data.documents import Documents
from fl_client.data.folders import Listing, list_files
from fl_client.data.items import Item, Skipped, group_names, said
from fl_client.data.labels import group_name, tidy
from fl_client.data.named import source_name, stated_in, text_digest
from fl_client.data.parts_named import said_of_split
from fl_client.data.remarks import said_of_classes, said_of_groups, said_of_no_test, said_of_similar
from fl_client.data.splits import limited
from medveil.errors import DataError
from medveil.plain import shown

__all__ = ["Bytes", "HiddenUnder", "Item", "Skipped", "Source", "Stamp"]

Bytes = npt.NDArray[np.uint8]


class HiddenUnder(NamedTuple):
    """How images came hidden: `block` is the patch of a model that learns from them."""

    scheme: str
    block: int
    fingerprint: str
    derivation: int = FIRST_DERIVATION


class Similar(NamedTuple):
    """Groups of images that look alike: above which correlation, how many, and the images of the largest."""

    threshold: float
    groups: int
    largest: int


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
    remarks : tuple of str
        What is to be known of the files and classes as a whole, with names and numbers: for the site alone, on no card.
    said : tuple of str
        What was done to the images on their way to 8 bit, for the data card: no number of images in it.
    ungrouped : int
        Images that should carry what groups them and do not, where a warning tells of them.
    split : str
        ``official`` where the images bring parts that are kept, else ``drawn``.
    similar : Similar or None
        The groups that ``data.group_by: similar`` made, where it was asked for.
    hidden : HiddenUnder or None
        How another party hid the images before they came here; `read` then gives ciphertexts.
    shares_scale : bool
        Whether what becomes black and white was found by looking at all its images: one of them changes all others.
    prepared : int
        The way its images are prepared, a version of `crypto.imaging.preprocess`; 0 where hidden ones do not say.
    drawn : bool
        Whether its images are drawn by formula, and of nobody.
    """

    name: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    size: int
    channels: int
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    ungrouped: int = 0
    split: str = "drawn"
    similar: Similar | None = None
    hidden: HiddenUnder | None = None
    shares_scale: bool = False
    prepared: int = preprocess.VERSION
    drawn: bool = False
    _identity: str | None = None
    _rows: dict[str, dict[str, str]] | None = None
    _group_names: dict[str, str] | None = None

    def __init__(self, config: DataConfig) -> None:
        check_data_config(config, level=None)
        self._config = config
        self.path = Path(config.path or "").expanduser()
        self.name = source_name(config)
        self._listing: Listing | None = None
        self._form: Form | None = None

    @classmethod
    def opened(cls, config: DataConfig, kept_in: Sequence[Documents]) -> Self:
        """The source a configuration names; `kept_in` is what a site keeps, for a source whose images lie there."""
        return cls(config)

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
        pixels = self.decoded(index)
        return preprocess.to_square(pixels, size=self.size, channels=self.channels)

    def decoded(self, index: int) -> Bytes:
        """One image as its file has it, windowed and not resized: uint8 (H, W) or (H, W, 3); errors as `read`."""
        pixels = self._decode(index)
        self._check_side(pixels, index)
        return pixels

    def stated(self, index: int, keyword: str) -> str:
        """What is stated of an image under a DICOM keyword, empty where nothing is.

        Here that is what the table of labels has in a column of that name, or of the plain name in `COLUMNS`.

        Raises
        ------
        DataError
            Its file cannot be read.
        """
        if self._rows is None:
            files = [] if self._listing is None else self._listing.files
            self._rows = {file.id: {name.casefold(): cell for name, cell in file.columns.items()} for file in files}
        named = self.items[index].id
        row = self._rows.get(named) or self._rows.get(named.rpartition("#")[0]) or {}
        return stated_in(row, keyword)

    def take_groups(self, numbers: Sequence[int], threshold: float) -> None:
        """Let images of one number be a group, whatever each was of before; an image alone stays what it was."""
        images: dict[int, list[int]] = {}
        for i, number in enumerate(numbers):
            images.setdefault(number, []).append(i)
        # Named by its first image: the same at every site and in every process.
        named = {number: f"{SIMILAR}:{self.items[own[0]].id}" for number, own in images.items() if len(own) > 1}
        self.items = tuple(
            item._replace(group=named.get(number, item.group)) for item, number in zip(self.items, numbers, strict=True)
        )
        self.similar = Similar(threshold, len(images), max(map(len, images.values()), default=0))
        self._group_names = None
        self.remarks = tuple(self._remarks())

    def group_names(self, ids: Iterable[str]) -> list[str]:
        """What names the group of each of some images: see `fl_client.data.items.group_names`."""
        if self._group_names is None:
            self._group_names = group_names(self.items)
        return [self._group_names.get(each, each) for each in ids]

    def identity(self) -> str:
        """Digest of what the source is: ids, file sizes and times, and the preprocessing. 64 hex digits.

        Contents are not read, so that a store opens at once: a file changed without a change of size or modification
        time is not noticed. They are looked at once, when it is first asked for.
        """
        if self._identity is None:
            self._identity = self._identified()
        return self._identity

    def _identified(self) -> str:
        config = self._config
        settings = [preprocess.VERSION, self.size, self.channels, config.window, config.min_side]
        return text_digest(json.dumps([settings, [[item.id, *self._stamp(i)] for i, item in enumerate(self.items)]]))

    def file_of(self, index: int) -> Path | None:
        """The file an image is in; None where all of them are in one."""
        return None

    def shares_file(self, index: int) -> bool:
        """Whether a file holds several images, of which this is one."""
        return "#" in self.items[index].id

    def contents(self, index: int) -> bytes:
        """SHA-256 of an image as it was before it was prepared, for a source without a file for each image."""
        raise NotImplementedError

    def _check_side(self, pixels: Bytes, index: int) -> None:
        side = min(pixels.shape[:2])
        if side < self._config.min_side:
            raise DataError(
                f"is {pixels.shape[1]}x{pixels.shape[0]} pixels, smaller than data.min_side {self._config.min_side}",
                where=self.items[index].id,
            )

    def _list(self, *, also: str = "") -> Listing:
        """The labelled files of the folder; what is to be said of them, `_finish` says. As `list_files`."""
        self._listing = list_files(self.path, self._config, also=also)
        if joins_similar(self._config) and self._config.group_by in self._listing.columns:
            problem = f"has a column '{self._config.group_by}', which as data.group_by means images that look alike"
            raise DataError(problem, where=self.path / (self._config.labels or ""), cure="rename the column")
        by, columns = self._config.partition.by, self._listing.columns
        if by is not None and by not in columns and not self._tells(by):
            problem, cure = f"data.partition.by: there is no column '{shown(by, most=80)}'", "class folders have none"
            cure = f"columns are {', '.join(columns)}" if columns else f"{cure}; set data.labels"
            raise DataError(problem, where=self.path / (self._config.labels or ""), cure=cure)
        return self._listing

    def _tells(self, attribute: str) -> bool:
        """Whether the files themselves say something of this name."""
        return False

    def _finish(self, items: Sequence[Item], *, default_size: int) -> None:
        """Take the items: name groups alike, heed ``data.split`` and ``data.limit``, and settle size and channels."""
        if not items:
            raise DataError(f"holds no usable image{self._why_none()}", where=self.path)
        taken = [self._taken(item) for item in items]
        self.split = self._split(taken)
        if self.split == "drawn":
            taken = [item._replace(split=None) for item in taken]
        kept = limited(taken, self._config.limit)
        self.items = tuple(taken[i] for i in kept)
        self._keep(kept)
        self.size = self._config.image_size or default_size
        self.channels = self._config.channels or self._first_channels()
        self.remarks = tuple(self._remarks())

    @staticmethod
    def _taken(item: Item) -> Item:
        group = None if item.group is None else group_name(item.group)
        return item._replace(group=group, site=tidy(item.site or "") or None)

    def _split(self, items: Sequence[Item]) -> str:
        parts = {item.split for item in items}
        if "validation" not in parts and "test" not in parts:
            if self._config.split == "official":
                cure = "leave it out, or give folders train, validation and test, or a column 'split'"
                raise DataError("data.split is official, and the images bring no split", where=self.path, cure=cure)
            return "drawn"
        return self._config.split or "official"

    def _channels_by_header(self) -> list[int]:
        """The channels of each image, as far as its file's header was read."""
        return []

    def _remarks(self) -> Iterator[str]:
        if self._listing is not None:
            yield from self._listing.warnings
        if self._form is not None and self._form.warning:
            yield self._form.warning
        split = said_of_split((item.split for item in self.items), validation=self._config.validation)
        if split is not None:
            yield split
        named = self._listing.labels if self._listing is not None else ()
        drawn = 1 + (self._config.validation > 0) + (self._config.test > 0)
        if self.similar is not None:
            yield said_of_similar(self.similar, images=len(self.items))
        yield from said_of_classes(self.items, self.classes, named, parts=drawn)
        yield from said_of_groups(self.items)
        yield from said_of_no_test(self.items, self._config.test)

    def _why_none(self) -> str:
        if not self.skipped:
            return ""
        reason, count = Counter(each.reason for each in self.skipped).most_common(1)[0]
        return f" ({len(self.skipped)} files were skipped, {count} because: {reason})"

    def _first_channels(self) -> int:
        """The channels that all images get by their headers; where none are known, those of the first that is read."""
        found = self._channels_by_header()
        if found:
            self._form = settle(grey=found.count(1), colour=found.count(3))
            self.said += (self._form.said,) if self._form.said else ()
            return self._form.channels
        why = ""
        for index in range(len(self.items)):
            try:
                return 1 if self._decode(index).ndim == 2 else 3
            except DataError as error:
                why = why or f": the first one {said(error)}"
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
