"""A PACS's images: what a site pulled over DICOMweb and sealed. Opening it asks no server; pulling does."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from pydicom.datadict import tag_for_keyword

from crypto.files.streams import decoding
from crypto.reading.dicom import DicomImage
from fl_client.data.base import Bytes, Item, Skipped, Source, Stamp
from fl_client.data.config import NO_LABELS, DataConfig, named_group
from fl_client.data.documents import Documents
from fl_client.data.labels import spellings
from fl_client.data.named import class_names, source_name, stated_in
from fl_client.data.remarks import said_of_ungrouped
from fl_client.dicomweb.cohort import cohort_of
from fl_client.dicomweb.pulled import Instance, Pulled, PulledList, missing
from fl_client.dicomweb.server import read_server
from medveil.errors import ConfigError, DataError, MedVeilError

_PULL = "medveil-site pull"
_KEPT = {
    "PatientID": "patient",
    "AccessionNumber": "accession",
    "StudyInstanceUID": "study",
    "SeriesInstanceUID": "series",
}


class _Place(NamedTuple):
    instance: Instance
    frame: int


class DicomwebSource(Source):
    """Images that `medveil-site pull` sealed, labelled by a CSV or by Structured Reports; ids are SOP instance UIDs.

    ``data.path`` is the server's file. Each frame is an image, with id ``UID#frame``, of the instance's group; images
    of one ``data.group_by`` (a column of the CSV or an attribute, PatientID unless set) stay together. Pixels are
    opened in memory, by the reader that all doors have.

    Parameters
    ----------
    config
        The images.
    documents
        What the site keeps; None where it keeps nothing, and nothing could have been pulled.

    Raises
    ------
    ConfigError
        The query or the server's file is none, or this is no site.
    StorageError
        Nothing was pulled yet.
    DataError
        It was pulled by another query, or cut short; no image is labelled, or labels are none.
    """

    def __init__(self, config: DataConfig, documents: Documents | None = None) -> None:
        super().__init__(config)
        self._cohort = cohort_of(config, read_server(self.path))
        self._pulled = pulled_of(config, documents)
        self._last: tuple[str, DicomImage] | None = None
        found = self._found()
        self._group_by = named_group(config) or "PatientID"
        self._check_group()
        self.skipped = found.skipped
        labelled = [(each, label) for each in found.instances if (label := self._labelled(each)) is not None]
        table = self._cohort.labels
        self._unmatched = 0 if table is None else table.unmatched(found.instances)
        if not labelled:
            cure = f"see that the table is of these images, then {_PULL}"
            raise DataError(f"none of {len(found.instances)} pulled images has a label", where=self.path, cure=cure)
        self._names, self._spelt = self._settled([label for _, label in labelled])
        named = [(each, self._names[label]) for each, label in labelled]
        self.classes = class_names((label for _, label in named), config, where=self.path)
        self._places: list[_Place] = []
        items = [item for each, label in named for item in self._frames(each, label)]
        if self._group_by != "none":
            self.ungrouped = sum(item.group is None for item in items)
        self.warnings = said_of_ungrouped(self.ungrouped, len(items), self._group_by)
        self._finish(items, default_size=224)

    @classmethod
    def opened(cls, config: DataConfig, kept_in: Sequence[Documents]) -> Self:
        """See `Source.opened`."""
        return cls(config, next(iter(kept_in), None))

    def contents(self, index: int) -> bytes:
        """SHA-256 of the instance as the server sent it; of one of several frames, of that and its number."""
        place = self._places[index]
        digest = bytes.fromhex(place.instance.sha256)
        return digest if place.instance.frames == 1 else hashlib.sha256(digest + str(place.frame).encode()).digest()

    def _found(self) -> PulledList:
        found = self._pulled.read()
        if found is None:
            raise missing(self.path)
        if found.query != self._cohort.digest():
            raise DataError("what is here was pulled by another query", where=self.path, cure=_PULL)
        if not found.complete:
            raise DataError("pulling was cut short", where=self.path, cure=f"{_PULL} goes on where it was")
        return found

    def _labelled(self, each: Instance) -> str | None:
        if self._config.labels == NO_LABELS:
            return NO_LABELS
        if self._cohort.labels is None:
            return each.label or None
        row = self._cohort.labels.of(each)
        if row is None:
            why = f"no row of {self._cohort.labels.name} is of it"
            self.skipped = (*self.skipped, Skipped(each.uid, why))
            return None
        return row.label

    def _settled(self, labels: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        if self._cohort.labels is None:
            return {label: label for label in labels}, ()
        first = {row.label: f"line {row.line}" for row in reversed(self._cohort.labels.rows.values())}
        present = {label: first[label] for label in dict.fromkeys(labels)}
        return spellings(present, Counter(labels), self._config.classes, where=self._cohort.labels.path)

    def _check_group(self) -> None:
        columns = () if self._cohort.labels is None else self._cohort.labels.columns
        if self._group_by not in (*columns, "none") and tag_for_keyword(self._group_by) is None:
            problem = f"data.group_by: '{self._group_by}' is neither a DICOM attribute nor a column of the labels"
            raise DataError(problem, where=self.path, cure="PatientID, StudyInstanceUID, a column, or none")

    def _group(self, each: Instance) -> str | None:
        if self._group_by == "none":
            return None
        table = self._cohort.labels
        if table is not None and self._group_by in table.columns:
            row = table.of(each)
            return None if row is None else row.cells[self._group_by] or None
        if self._group_by in _KEPT:
            return getattr(each, _KEPT[self._group_by]) or None
        return self._image(each).text(self._group_by) or None

    def _frames(self, each: Instance, label: str) -> list[Item]:
        self._places += [_Place(each, frame) for frame in range(each.frames)]
        ids = [each.uid] if each.frames == 1 else [f"{each.uid}#{frame}" for frame in range(each.frames)]
        group = self._group(each) or (f"instance:{each.uid}" if each.frames > 1 else None)
        number = self.classes.index(label)
        return [Item(one, number, group, None, each.institution or None) for one in ids]

    def _remarks(self) -> Iterator[str]:
        yield from self._spelt
        if self._unmatched:
            assert self._cohort.labels is not None
            yield f"{self._unmatched} rows of {self._cohort.labels.name} are of no image that was pulled"
        yield from super()._remarks()

    def _channels_by_header(self) -> list[int]:
        return [place.instance.channels for place in self._places]

    def _keep(self, kept: Sequence[int]) -> None:
        self._places = [self._places[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        place = self._places[index]
        try:
            with decoding(self.items[index].id):
                return self._image(place.instance).shown(place.frame, window=self._config.window)
        except MedVeilError as error:
            raise DataError(error.problem, where=self.items[index].id, cure=error.cure) from error

    def stated(self, index: int, keyword: str) -> str:
        """See `Source.stated`; what the table does not say, the instance's header does."""
        instance = self._places[index].instance
        row = None if self._cohort.labels is None else self._cohort.labels.of(instance)
        cells = {} if row is None else {name.casefold(): cell for name, cell in row.cells.items()}
        return stated_in(cells, keyword) or self._image(instance).text(keyword)

    def _image(self, instance: Instance) -> DicomImage:
        """The image of an instance; the last one is kept, so that the header of many frames is read once."""
        if self._last is None or self._last[0] != instance.uid:
            self._last = (instance.uid, self._pulled.image(instance))
        return self._last[1]

    def _stamp(self, index: int) -> Stamp:
        # Its list is sealed and its digest in it: nothing about the file here tells more.
        place = self._places[index]
        return Stamp(place.instance.size, int(place.instance.sha256[:15], 16))


def pulled_of(config: DataConfig, documents: Documents | None) -> Pulled:
    """Where a site keeps what it pulls for a source (ConfigError where nothing of a site's is sealed)."""
    if documents is None:
        cure = f"at a site: {_PULL}; for a simulation: {_PULL} --plain DIR, then data.source=dicom"
        raise ConfigError("needs a site's key, which seals what was pulled", where="data.source: dicomweb", cure=cure)
    return Pulled(documents, source_name(config))
