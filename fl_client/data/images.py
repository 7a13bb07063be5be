"""Trees of PNG, JPEG, BMP and TIFF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crypto.reading.base import About
from crypto.reading.look import DICOM, LastOpened, Look, Sort, look
from crypto.reading.raster import TIFF
from fl_client.data.base import Bytes, Item, Skipped, Source, Stamp
from fl_client.data.config import DataConfig, named_group, sited_by
from fl_client.data.folders import Labelled
from fl_client.data.items import said
from fl_client.data.named import class_names
from medveil.errors import DataError, MedVeilError


class _Place(NamedTuple):
    """Where an image is; `channels` by its file's header, None where that cannot be read."""

    path: Path
    frame: int
    channels: int | None
    stamp: Stamp


class ImageSource(Source):
    """Image files, labelled by a CSV or by one folder a class; each page of a TIFF is an image, id ``path#page``.

    What a file is, and what its pixels are, `crypto.reading` says, as it does for `medveil-crypto`. Files that are no
    images are skipped by name; one that is damaged, or refused, raises when it is read. The pages of a file stay
    together. Grey and colour may be mixed (`fl_client.data.channels`).
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        listing = self._list()
        self._opened = LastOpened()
        self.skipped = tuple(listing.skipped)
        self._check_group(listing.columns)
        self.warnings = self._ungrouped(listing.columns)
        images = [(each, kind) for each in listing.files if (kind := self._image_kind(each)) is not None]
        self.classes = class_names((each.label for each, _ in images), config, where=self.path) if images else ()
        self._places: list[_Place] = []
        self._finish([item for each, kind in images for item in self._pages(each, kind)], default_size=224)

    def _image_kind(self, file: Labelled) -> str | None:
        """The kind of a file that is one of ours, empty where it only says so; what else it is goes to `skipped`."""
        try:
            found = look(file.path, file.id)
        except MedVeilError as error:
            found = Look(Sort.OTHER, why=said(error))
        if found.sort is Sort.IMAGE and found.kind != DICOM:
            return found.kind
        # Of a file that its name calls an image and that is none, reading says so.
        if found.sort is Sort.MISSED and file.path.suffix.lower() in _SUFFIXES:
            return ""
        if found.sort is not Sort.JUNK:
            self.skipped = (*self.skipped, Skipped(file.id, _why(found)))
        return None

    def _pages(self, file: Labelled, kind: str) -> list[Item]:
        # Of a hundred thousand files, headers take half a minute, and pages and channels may be known without.
        needed = kind == TIFF.name or self._config.channels is None
        about = self._about(file.path) if needed else None
        pages = 1 if about is None else about.frames
        channels, stamp = None if about is None else about.channels, _stamp(file.path)
        self._places += [_Place(file.path, page, channels, stamp) for page in range(pages)]
        label, site = self.classes.index(file.label), file.columns.get(sited_by(self._config)) or None
        group = file.columns.get(named_group(self._config) or "") or None
        # Pages of one file are related even where nothing says to whom.
        group = group or (f"file:{file.id}" if pages > 1 else None)
        ids = [file.id] if pages == 1 else [f"{file.id}#{page}" for page in range(pages)]
        return [Item(each, label, group, file.split, site) for each in ids]

    def _about(self, path: Path) -> About | None:
        try:
            return self._opened.open(path).about
        except MedVeilError:
            return None

    def _channels_by_header(self) -> list[int]:
        return [place.channels for place in self._places if place.channels is not None]

    def _check_group(self, columns: tuple[str, ...]) -> None:
        named = named_group(self._config)
        if named not in (None, "none", *columns):
            raise DataError(
                f"data.group_by: there is no column '{named}'",
                where=self.path / (self._config.labels or ""),
                cure=f"columns are {', '.join(columns)}"
                if columns
                else "class folders have no columns; set data.labels",
            )

    def _ungrouped(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        if named_group(self._config) is None and "group" in columns:
            return (
                "the labels have a column 'group' that data.group_by does not use: related images may be separated",
            )
        return ()

    def _keep(self, kept: Sequence[int]) -> None:
        self._places = [self._places[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        place = self._places[index]
        try:
            return self._opened.open(place.path).shown(place.frame, window=self._config.window)
        except MedVeilError as error:
            # A disk that does not give one file back may give the next one.
            raise DataError(error.problem, where=self.items[index].id, cure=error.cure) from error

    def file_of(self, index: int) -> Path | None:
        """The file an image is in."""
        return self._places[index].path

    def _stamp(self, index: int) -> Stamp:
        return self._places[index].stamp


_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return Stamp(-1, -1)
    return Stamp(stat.st_size, stat.st_mtime_ns)


def _why(found: Look) -> str:
    return "is a DICOM file; set data.source to dicom for those" if found.sort is Sort.IMAGE else found.why
