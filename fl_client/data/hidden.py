"""Folders of files that were hidden for training: another party's images, to be learned from as they are.

Whoever holds them needs no key and has none: the model lives in the cipher's domain. Resizing, windowing and
augmenting do not commute with a cipher, so all of that happened before hiding and is refused here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crypto.files.header import NOT_PREPARED, HiddenHeader
from crypto.files.kinds import FileKind
from crypto.files.recipe import TRAINING
from crypto.files.registry import kind_of
from crypto.imaging import preprocess
from crypto.reading.dicom import DicomImage
from crypto.reading.look import look
from fl_client.data.base import Bytes, HiddenUnder, Item, Skipped, Source, Stamp
from fl_client.data.config import DataConfig, sited_by
from fl_client.data.folders import Labelled
from fl_client.data.items import said
from fl_client.data.named import class_names
from medveil.errors import ConfigError, DataError, MedVeilError

UNPROVEN = (
    "hidden files are taken as they stand: without their key nobody can tell whether one was changed, renamed, moved "
    "to another class or put in; who holds the key can, with 'medveil-crypto verify'"
)
OTHERWISE = "is hidden otherwise than the others"
_CURE = "hide the originals anew, all with one key and cipher and with --channels 3 (or 1)"
PNG_SUFFIX = ".png"
"""What `medveil-crypto encrypt` adds to the name of a JPEG or BMP file."""


class _Place(NamedTuple):
    path: Path
    kind: FileKind
    frame: int
    stamp: Stamp


class _Hidden(NamedTuple):
    file: Labelled
    kind: FileKind
    header: HiddenHeader


class HiddenSource(Source):
    """Hidden training files (DICOM, PNG, TIFF), labelled by a CSV or by one folder a class; each frame is an image.

    All must be hidden alike: one key, cipher and shape; most of them say which, or ``data.channels``. The others are
    skipped by name with a warning, and refused where a class would be lost with them. A CSV written for the
    originals serves as it is. Images of one ``data.group_by`` (a column, or for DICOM an attribute: PatientID unless
    set, which hiding made a pseudonym; ``none`` for none) stay together.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        listing = self._list(also=PNG_SUFFIX)
        self._group_by, self._columns = config.group_by or "PatientID", listing.columns
        skipped = list(listing.skipped)
        found = list(_hidden_files(listing.files, skipped))
        alike = _most_alike(found, config)
        left = [each for each in found if _look(each.header) != _look(alike[0].header)]
        self.skipped = (*skipped, *(Skipped(each.file.id, OTHERWISE) for each in left))
        if not alike:
            raise DataError(f"holds no file hidden for training{self._why_none()}", where=self.path)
        first = alike[0].header
        _check_settings(config, first)
        _check_depth(alike[0])
        self._check_left(left, alike)
        ways = Counter(each.header.preparation for each in alike)
        self.prepared = next(iter(ways)) if len(ways) == 1 else NOT_PREPARED
        self.warnings = (UNPROVEN, *prepared_otherwise(ways))
        self._left = _left_out(left, alike)
        self.hidden = HiddenUnder(first.scheme, first.block, first.fingerprint, first.derivation)
        self.classes = class_names((each.file.label for each in alike), config, where=self.path)
        self._places: list[_Place] = []
        items = [item for each in alike for item in self._frames(each)]
        self._shape = (first.channels, first.height, first.width)
        self._finish(items, default_size=first.height)

    def _check_left(self, left: Sequence[_Hidden], alike: Sequence[_Hidden]) -> None:
        """Refuse to lose a class because its images were hidden otherwise (DataError)."""
        lost = sorted({each.file.label for each in left} - {each.file.label for each in alike})
        if lost:
            problem = (
                f"all images of {lost[0]!a} are hidden otherwise than most: {_form(left[0])}, not {_form(alike[0])}"
            )
            raise DataError(problem, where=self.path, cure=_CURE)

    def _remarks(self) -> Iterator[str]:
        yield from super()._remarks()
        yield from self._left

    def read(self, index: int) -> Bytes:
        """One image as it is hidden: uint8 (channels, size, size).

        Raises
        ------
        DataError
            The file is missing, cut or damaged.
        """
        place = self._places[index]
        try:
            planes = place.kind.ciphertext(place.path, place.frame)
        except MedVeilError as error:
            raise DataError(error.problem, where=self.items[index].id, cure=error.cure) from error
        if planes.shape != self._shape or planes.dtype != np.uint8:
            raise DataError("changed since it was found", where=self.items[index].id)
        return np.ascontiguousarray(planes)

    def _frames(self, each: _Hidden) -> list[Item]:
        file, kind, header = each
        stat = file.path.stat()
        stamp = Stamp(stat.st_size, stat.st_mtime_ns)
        self._places += [_Place(file.path, kind, frame, stamp) for frame in range(header.frames)]
        # The frames of one file are related even where nothing says to whom.
        group = self._group(file, header) or (f"file:{file.id}" if header.frames > 1 else None)
        ids = [file.id] if header.frames == 1 else [f"{file.id}#{frame}" for frame in range(header.frames)]
        label, site = self.classes.index(file.label), file.columns.get(sited_by(self._config)) or None
        return [Item(each, label, group, file.split, site) for each in ids]

    def _group(self, file: Labelled, header: HiddenHeader) -> str | None:
        if self._group_by in self._columns:
            return file.columns[self._group_by] or None
        if self._group_by == "none" or header.kind != "dicom":
            return None
        return DicomImage(file.path).text(self._group_by) or None

    def _first_channels(self) -> int:
        return self._shape[0]

    def _keep(self, kept: Sequence[int]) -> None:
        self._places = [self._places[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        planes = self.read(index)
        return planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))

    def file_of(self, index: int) -> Path | None:
        """The file an image is in."""
        return self._places[index].path

    def _stamp(self, index: int) -> Stamp:
        return self._places[index].stamp


def prepared_otherwise(ways: Collection[int]) -> Iterator[str]:
    """That hidden images were prepared in other ways than this MedVeil prepares images, or in several.

    Parameters
    ----------
    ways
        Every way that their headers name, `NOT_PREPARED` where one names none.
    """
    said = sorted(set(ways) - {NOT_PREPARED})
    named = " and ".join(f"way {way}" for way in said)
    if len(said) > 1 or (said and said != [preprocess.VERSION]):
        yield (
            f"images were prepared in {named} before they were hidden, and this MedVeil prepares them in way "
            f"{preprocess.VERSION}: DICOM, TIFF, 16-bit and npz images may look otherwise from way to way; hide the "
            "originals anew, all with one MedVeil"
        )
    if NOT_PREPARED in ways:
        yield "an older MedVeil hid images and did not say in which way it prepared them: hide the originals anew"


def check_hidden(source: Source, *, keys: str, block: int, level: str = "none", views: int = 1) -> None:
    """Refuse a run that would hide hidden images again, or cut them into other patches.

    Parameters
    ----------
    source
        Any source.
    keys, block, level, views
        The run's key policy, the block of its cipher, which is the patch of its model, its augmentation, and the views
        of an image that its last measurement asks about.

    Raises
    ------
    ConfigError
        The run does not fit the source's images.
    """
    if source.hidden is None:
        return
    if keys != "none":
        problem = f"is {keys}, and these images are hidden already"
        raise ConfigError(problem, where="keys.policy", cure="set it to none: the model lives in the cipher's domain")
    if level != "none":
        problem = "is set, and hidden images cannot be augmented: a moved ciphertext is none of a moved image"
        raise ConfigError(problem, where="train.augment", cure="none, or views made before hiding")
    if views > 1:
        problem = f"is {views}, and no view can be made of images another party hid"
        raise ConfigError(problem, where="predict.views", cure="1: the images alone")
    if block != source.hidden.block:
        cure = f"set it to {source.hidden.block}: a model's patch is the block of the cipher"
        raise ConfigError(f"is {block}", where="cipher.block", cure=cure)


def _hidden_files(files: Sequence[Labelled], skipped: list[Skipped]) -> Iterator[_Hidden]:
    """The files hidden for training, with their headers; what else there is goes to `skipped`."""
    for file in files:
        try:
            kind = kind_of(file.path)
            if kind is None:
                skipped.append(Skipped(file.id, look(file.path, file.id).why))
                continue
            header = kind.header(file.path)
        except MedVeilError as error:
            skipped.append(Skipped(file.id, said(error)))
            continue
        if header.purpose != TRAINING:
            skipped.append(Skipped(file.id, "is an archive: it must be decrypted before training"))
        else:
            yield _Hidden(file, kind, header)


def _check_depth(first: _Hidden) -> None:
    try:
        planes = first.kind.ciphertext(first.file.path)
    except MedVeilError:
        return  # One bad file; reading it will say so.
    if planes.dtype != np.uint8:
        problem = f"is hidden with {first.header.scheme}, whose ciphertexts have {8 * planes.dtype.itemsize} bits"
        cure = "train on it in a loop of your own, or hide the originals with another scheme"
        raise DataError(problem, where=first.file.path, cure=cure)


def _most_alike(found: Sequence[_Hidden], config: DataConfig) -> list[_Hidden]:
    """Files that are hidden alike: as most are, or as most are that have the channels asked for."""
    asked = [each for each in found if config.channels in (None, each.header.channels)] or found
    if not asked:
        return []
    most = Counter(_look(each.header) for each in asked).most_common(1)[0][0]
    return [each for each in asked if _look(each.header) == most]


def _left_out(left: Sequence[_Hidden], alike: Sequence[_Hidden]) -> tuple[str, ...]:
    """That files are left out, how many, and how they are hidden; empty where none is."""
    if not left:
        return ()
    forms = ", ".join(sorted({_form(each) for each in left})[:3])
    counted = f"{len(left)} of {len(left) + len(alike)} files are hidden otherwise than most and left out"
    return (f"{counted} ({forms}; most {_form(alike[0])}); {_CURE}",)


def _form(each: _Hidden) -> str:
    header = each.header
    shape = f"{header.channels} x {header.height} x {header.width}"
    return f"{header.scheme} of block {header.block}, {shape}, under {header.fingerprint}"


def _look(header: HiddenHeader) -> tuple[object, ...]:
    """What must be the same in all files of a source."""
    cipher = (header.scheme, header.block, header.negate, header.fingerprint, header.derivation)
    return (*cipher, header.channels, header.height, header.width)


def _check_settings(config: DataConfig, header: HiddenHeader) -> None:
    """Refuse what would have to be done before hiding."""
    wanted = {"image_size": header.height, "channels": header.channels, "window": None, "augment": "none"}
    for name, value in (wanted | {"flip": False}).items():
        given = getattr(config, name)
        if given not in (None, value):
            problem = f"is {given}, and hidden images stay as they are: {value}"
            raise ConfigError(problem, where=f"data.{name}", cure="leave it out, or hide the originals anew")
