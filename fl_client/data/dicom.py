"""Folders of DICOM files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError

from crypto.imaging.dicom_pixels import frame_to_bytes
from fl_client.data.base import Bytes, Item, Skipped, Source, Stamp, class_names
from fl_client.data.config import DataConfig
from fl_client.data.folders import Labelled, list_files
from medveil.errors import DataError

_IMAGE_TAGS = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "InstitutionName")


# A corrupt count must not fill the memory with items.
MOST_FRAMES = 2**16


class _Place(NamedTuple):
    path: Path
    frame: int | None
    stamp: Stamp


class DicomSource(Source):
    """DICOM images, labelled by a CSV or by one folder a class.

    Each frame of a multi-frame file is an image, with id ``path#frame``, of the file's group. Images
    of one ``data.group_by`` (a column of the CSV or an attribute, PatientID unless set; ``none`` for none) stay
    together; a file without it counts as a group of its own. Files that are no DICOM, or DICOM without pixels, are
    skipped by name.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        listing = list_files(self.path, config)
        self._group_by = config.group_by or "PatientID"
        self._from_column = self._group_by in listing.columns
        self._check_group(listing.columns)
        self.skipped = tuple(listing.skipped)
        found = [(file, header) for file in listing.files if (header := self._header(file)) is not None]
        self.classes = class_names((file.label for file, _ in found), config, where=self.path) if found else ()
        self._places: list[_Place] = []
        items = [item for file, header in found for item in self._frames(file, header)]
        self.warnings = self._ungrouped(items)
        self._finish(items, default_size=224)

    def _check_group(self, columns: tuple[str, ...]) -> None:
        known = self._from_column or self._group_by == "none" or tag_for_keyword(self._group_by) is not None
        if not known:
            raise DataError(
                f"data.group_by: '{self._group_by}' is neither a DICOM attribute nor a column of the labels",
                where=self.path,
                cure=f"columns are {', '.join(columns) or 'none'}; a DICOM attribute is for example PatientID",
            )

    def _header(self, file: Labelled) -> Dataset | None:
        """The header, or None after noting why the file is skipped."""
        tags = [*_IMAGE_TAGS, *([] if self._from_column or self._group_by == "none" else [self._group_by])]
        try:
            header = pydicom.dcmread(file.path, stop_before_pixels=True, specific_tags=tags)
            if "Rows" in header and "Columns" in header and _frame_count(header) <= MOST_FRAMES:
                return header
            reason = "a DICOM file without an image" if "Rows" not in header else "claims more frames than can be"
        except InvalidDicomError:
            reason = "not a DICOM file"
        # A corrupt header can make pydicom raise nearly anything; to a hospital it is one unreadable file.
        except Exception as error:
            reason = f"unreadable DICOM header: {error}"
        self.skipped = (*self.skipped, Skipped(file.id, reason))
        return None

    def _frames(self, file: Labelled, header: Dataset) -> list[Item]:
        stat = file.path.stat()
        stamp = Stamp(stat.st_size, stat.st_mtime_ns)
        frames = _frame_count(header)
        self._places += [_Place(file.path, frame if frames > 1 else None, stamp) for frame in range(frames)]
        label = self.classes.index(file.label)
        site = file.columns.get("site") or str(header.get("InstitutionName") or "") or None
        # The frames of one file are related even where the file names no patient.
        group = self._group(file, header) or (f"file:{file.id}" if frames > 1 else None)
        ids = [file.id] if frames == 1 else [f"{file.id}#{frame}" for frame in range(frames)]
        return [Item(each, label, group, None, site) for each in ids]

    def _group(self, file: Labelled, header: Dataset) -> str | None:
        if self._from_column:
            return file.columns[self._group_by] or None
        return str(header.get(self._group_by) or "") or None

    def _ungrouped(self, items: Sequence[Item]) -> tuple[str, ...]:
        if self._group_by != "none":
            self.ungrouped = sum(item.group is None for item in items)
        if not self.ungrouped:
            return ()
        return (
            f"{self.ungrouped} of {len(items)} images carry no {self._group_by}: each counts as a group of its own",
        )

    def _keep(self, kept: Sequence[int]) -> None:
        self._places = [self._places[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        place = self._places[index]
        try:
            return frame_to_bytes(place.path, place.frame, window=self._config.window)
        except DataError as error:
            raise DataError(error.problem, where=self.items[index].id, cure=error.cure) from error
        # pydicom and its decoders raise many types for what they cannot decode; to a hospital all mean one bad image.
        except Exception as error:
            reason = str(error).replace(str(place.path), "the file") or type(error).__name__
            raise DataError(f"cannot be decoded: {reason}", where=self.items[index].id) from error

    def _stamp(self, index: int) -> Stamp:
        return self._places[index].stamp


def _frame_count(header: Dataset) -> int:
    return max(1, int(header.get("NumberOfFrames") or 1))
