"""Folders of DICOM files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydicom.datadict import tag_for_keyword

from crypto.files.streams import decoding
from crypto.reading.dicom import DicomImage
from crypto.reading.dicom_head import is_dicom
from crypto.reading.dicom_quiet import quiet
from crypto.reading.look import look_at, read_head
from fl_client.data.base import Bytes, Item, Skipped, Source, Stamp
from fl_client.data.config import DataConfig, named_group, sited_by
from fl_client.data.folders import Labelled
from fl_client.data.items import said
from fl_client.data.named import class_names
from fl_client.data.remarks import said_of_ungrouped
from medveil.errors import DataError, MedVeilError


class _Place(NamedTuple):
    path: Path
    frame: int
    channels: int
    stamp: Stamp


class _Header(NamedTuple):
    """What a source keeps of a file's header."""

    frames: int
    channels: int
    group: str
    site: str
    stamp: Stamp


class DicomSource(Source):
    """DICOM images, labelled by a CSV or by one folder a class.

    Each frame of a multi-frame file is an image, with id ``path#frame``, of the file's group. Images
    of one ``data.group_by`` (a column of the CSV or an attribute, PatientID unless set; ``none`` for none) stay
    together; a file without it counts as a group of its own. Files that are no DICOM, or that `medveil-crypto` would
    refuse by name (no image, a segmentation, a report, damaged), are skipped in the same words.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        listing = self._list()
        self._group_by = named_group(config) or "PatientID"
        self._from_column = self._group_by in listing.columns
        self._check_group(listing.columns)
        self.skipped = tuple(listing.skipped)
        with quiet():
            found = [(file, header) for file in listing.files if (header := self._header(file)) is not None]
        self.classes = class_names((file.label for file, _ in found), config, where=self.path) if found else ()
        self._places: list[_Place] = []
        self._last: tuple[Path, DicomImage] | None = None
        items = [item for file, header in found for item in self._frames(file, header)]
        if self._group_by != "none":
            self.ungrouped = sum(item.group is None for item in items)
        self.warnings = said_of_ungrouped(self.ungrouped, len(items), self._group_by)
        self._finish(items, default_size=224)

    def _tells(self, attribute: str) -> bool:
        return tag_for_keyword(attribute) is not None

    def _check_group(self, columns: tuple[str, ...]) -> None:
        known = self._from_column or self._group_by == "none" or tag_for_keyword(self._group_by) is not None
        if not known:
            raise DataError(
                f"data.group_by: '{self._group_by}' is neither a DICOM attribute nor a column of the labels",
                where=self.path,
                cure=f"columns are {', '.join(columns) or 'none'}; a DICOM attribute is for example PatientID",
            )

    def _header(self, file: Labelled) -> _Header | None:
        """What is kept of the header, or None after noting why the file is skipped."""
        try:
            _refuse_others(file)
            with decoding(file.path):
                return self._read(file.path)
        except MedVeilError as error:
            self.skipped = (*self.skipped, Skipped(file.id, said(error)))
        return None

    def _read(self, path: Path) -> _Header:
        image = DicomImage(path)
        if image.hidden:
            raise image.is_hidden()
        group = "" if self._from_column or self._group_by == "none" else image.text(self._group_by)
        stat = path.stat()
        by = self._config.partition.by
        about, site = image.about, image.text("InstitutionName" if by is None or tag_for_keyword(by) is None else by)
        return _Header(about.frames, about.channels, group, site, Stamp(stat.st_size, stat.st_mtime_ns))

    def _frames(self, file: Labelled, header: _Header) -> list[Item]:
        frames = header.frames
        self._places += [_Place(file.path, frame, header.channels, header.stamp) for frame in range(frames)]
        label = self.classes.index(file.label)
        column = sited_by(self._config)
        named = file.columns.get(column)
        # A column that says it stands for the attribute, also where a row of it is empty.
        site = (named if self._config.partition.by in file.columns else named or header.site) or None
        # The frames of one file are related even where the file names no patient.
        own = file.columns[self._group_by] if self._from_column else header.group
        group = own or (f"file:{file.id}" if frames > 1 else None)
        ids = [file.id] if frames == 1 else [f"{file.id}#{frame}" for frame in range(frames)]
        return [Item(each, label, group, file.split, site) for each in ids]

    def _channels_by_header(self) -> list[int]:
        return [place.channels for place in self._places]

    def _keep(self, kept: Sequence[int]) -> None:
        self._places = [self._places[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        place = self._places[index]
        try:
            with quiet():
                return self._image(place.path).shown(place.frame, window=self._config.window)
        except MedVeilError as error:
            raise DataError(error.problem, where=self.items[index].id, cure=error.cure) from error

    def stated(self, index: int, keyword: str) -> str:
        """See `Source.stated`; what the table does not say, the file's header does."""
        return super().stated(index, keyword) or self._image(self._places[index].path).text(keyword)

    def _image(self, path: Path) -> DicomImage:
        """The image of a file; the last one is kept, so that the header of many frames is read once."""
        if self._last is None or self._last[0] != path:
            self._last = (path, DicomImage(path))
        return self._last[1]

    def file_of(self, index: int) -> Path | None:
        """The file an image is in."""
        return self._places[index].path

    def _stamp(self, index: int) -> Stamp:
        return self._places[index].stamp


def _refuse_others(file: Labelled) -> None:
    """Refuse what is no DICOM file (DataError), in every door's words; of DICOM that is no image, reading says it."""
    head = read_head(file.path)
    if is_dicom(head):
        return
    found = look_at(file.id, head)
    if found.kind:
        raise DataError(f"is a {found.kind.upper()} file", cure="set data.source to images for those")
    raise DataError(found.why)
