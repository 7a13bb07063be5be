"""What a site pulled from its PACS: instances as the server sent them, each sealed under the site's key, and a list.

Files are called by random names; which instance one is, the list says, and it is sealed like them. An instance's own
names (UIDs, patients) are never a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from crypto.reading.dicom import DicomImage
from fl_client.data.base import Skipped
from fl_client.data.documents import SUFFIX, Documents
from fl_client.dicomweb.searching import is_uid
from medveil.errors import ConfigError, IntegrityError, StorageError
from medveil.files import make_folder, storage_error, sweep_parts

FOLDER = "pulled"
"""Folder of what was pulled, in the site's own."""
LIST = "list.json"
FORMAT, VERSION = "medveil-pulled", 1
_NAME = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXT = {"study": str, "series": str, "patient": str, "accession": str, "institution": str}
_SHAPE = {
    "query": str,
    "complete": bool,
    "instances": [
        {"uid": str, "name": str, **_TEXT, "sha256": str, "size": int, "frames": int, "channels": int, "label": str}
    ],
    "skipped": [[str]],
}


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An image of a server.

    Attributes
    ----------
    uid, study, series : str
        Of the instance, its study and its series.
    name : str
        Of its file here.
    patient, accession, institution : str
        As its own header has them.
    sha256, size : str, int
        Of its bytes as the server sent them; no digest while it is still to come.
    frames, channels : int
        By its header.
    label : str
        By a Structured Report, where labels are taken from those.
    """

    uid: str
    study: str
    series: str
    name: str
    patient: str = ""
    accession: str = ""
    institution: str = ""
    sha256: str = ""
    size: int = 0
    frames: int = 1
    channels: int = 1
    label: str = ""


@dataclass(frozen=True)
class PulledList:
    """The list: by which query, whether all of it is there, its images, and what was left out and why.

    `missed` says how many of these the server did not give, or gave damaged, and `unmatched` how many rows of the
    table, or images that reports label, are none of what is here; a list that is read again says neither.
    """

    query: str
    complete: bool
    instances: tuple[Instance, ...]
    skipped: tuple[Skipped, ...] = field(default=())
    missed: int = 0
    unmatched: int = 0


class Pulled:
    """A folder of what was pulled by one source.

    Parameters
    ----------
    documents
        What the site keeps; sealed, or nothing is pulled.
    name
        Of the source, fit for a file's name.

    Raises
    ------
    ConfigError
        Files would not be sealed: a simulation has no key of its own.
    """

    def __init__(self, documents: Documents, name: str) -> None:
        if not documents.sealed:
            cure = "pull at a site (medveil-site pull --plain FOLDER), then data.source=dicom with that folder"
            problem = "what comes from a PACS is kept sealed, and a simulation has no site's key"
            raise ConfigError(problem, where="data.source: dicomweb", cure=cure)
        self._documents = documents
        self._folder = _folder_of(name)
        self.folder = documents.folder / self._folder

    def read(self) -> PulledList | None:
        """The list; None where nothing was pulled yet (StorageError, IntegrityError, FormatError)."""
        name = f"{self._folder}/{LIST}"
        if self._documents.find(name) is None:
            return None
        found = self._documents.read(name, _SHAPE, format_=FORMAT, newest=VERSION)
        instances = tuple(_instance(each, self.folder / LIST) for each in found["instances"])
        if any(len(each) != 2 for each in found["skipped"]):
            raise IntegrityError("its 'skipped' is none", where=self.folder / LIST)
        return PulledList(
            found["query"], found["complete"], instances, tuple(Skipped(*each) for each in found["skipped"])
        )

    def write(self, made: PulledList) -> None:
        """Write the list in the place of another (StorageError)."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "query": made.query,
            "complete": made.complete,
            "instances": [asdict(each) for each in made.instances],
            "skipped": [list(each) for each in made.skipped],
        }
        self._documents.write(f"{self._folder}/{LIST}", document)

    def holds(self, instance: Instance) -> bool:
        """Whether the bytes of an instance are here."""
        return self.path(instance).is_file()

    def keep(self, instance: Instance, data: bytes) -> Instance:
        """Seal the bytes of an instance, and say so of it (StorageError)."""
        self._documents.write_bytes(self._file(instance), data)
        return replace(instance, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def drop(self, instance: Instance) -> None:
        """Remove the bytes of an instance."""
        self.path(instance).unlink(missing_ok=True)

    def data(self, instance: Instance) -> bytes:
        """The bytes of an instance (StorageError; IntegrityError, also of others than the list names)."""
        data = self._documents.read_bytes(self._file(instance))
        if instance.sha256 and hashlib.sha256(data).hexdigest() != instance.sha256:
            raise IntegrityError("is another file than the list names", where=self.path(instance), cure="pull it again")
        return data

    def path(self, instance: Instance) -> Path:
        """Its sealed file."""
        return self._documents.folder / f"{self._file(instance)}{SUFFIX}"

    def image(self, instance: Instance) -> DicomImage:
        """The image of an instance, opened in memory by the reader of all doors; errors as `DicomImage`."""

        @contextlib.contextmanager
        def opened(_: Path) -> Iterator[BinaryIO]:
            yield io.BytesIO(self.data(instance))

        return DicomImage(self.path(instance), opened)

    def sweep(self, kept: Mapping[str, Instance]) -> None:
        """Remove files that the list does not name: of another query, or of a pull that was cut short."""
        make_folder(self.folder, mode=0o700)
        sweep_parts(self.folder)
        names = {each.name for each in kept.values()}
        try:
            for path in self.folder.iterdir():
                stem = path.name.removesuffix(f".dcm{SUFFIX}")
                if _NAME.fullmatch(stem) and stem not in names:
                    path.unlink()
        except OSError as error:
            raise storage_error(error, self.folder, "remove what is not wanted any more") from error

    def _file(self, instance: Instance) -> str:
        return f"{self._folder}/{instance.name}.dcm"


def _folder_of(source: str) -> str:
    return f"{FOLDER}/{re.sub(r'[^A-Za-z0-9_-]+', '_', source)}"


def remove_pulled(own: Path, source: str) -> int:
    """Remove what was pulled for a source; gives how many files that were (StorageError where the disk refuses)."""
    folder = own / _folder_of(source)
    if not folder.is_dir():
        return 0
    try:
        count = sum(1 for _ in folder.iterdir())
        shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(error, folder, "remove what was pulled") from error
    return count


def new_name() -> str:
    """A name for a file, which says nothing."""
    return secrets.token_hex(16)


def _instance(given: Mapping[str, Any], where: Path) -> Instance:
    made = Instance(**{name: given[name] for name in Instance.__dataclass_fields__})
    right = _NAME.fullmatch(made.name) and all(map(is_uid, (made.uid, made.study, made.series)))
    if (
        not right
        or made.frames < 1
        or made.channels not in (1, 3)
        or not (_DIGEST.fullmatch(made.sha256) or not made.sha256)
    ):
        raise IntegrityError("names what is no instance", where=where, cure="pull again")
    return made


def missing(where: Path) -> StorageError:
    """The error of a site that pulled nothing yet."""
    return StorageError("nothing was pulled from the server yet", where=where, cure="medveil-site pull")
