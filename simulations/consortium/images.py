"""Images for the hospitals of a consortium to try: drawn phantoms, or a folder dealt to them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crypto.reading.dicom_head import is_dicom
from fl_client.data.config import DataConfig, PhantomConfig
from fl_client.data.copies import copies_in
from fl_client.data.folders import walk
from fl_client.data.rng import generator
from fl_client.data.source import Source, open_source
from fl_client.data.splits import Indices, deal, group_items
from medveil.errors import DataError
from medveil.files import make_folder, read_head
from medveil.plain import shown

PHANTOMS = PhantomConfig(images=120, classes=2, size=32)
LABELLED, NEW = "labelled", "new"
"""In a hospital's folder of images: one folder a class, and what no training sees."""
_NEW = 0.2
_HEAD_BYTES = 512
_SEED = 0
_LONGEST, _MOST_NAMED = 60, 8


@dataclass(frozen=True)
class Dealt:
    """What the hospitals have.

    Parameters
    ----------
    source
        ``data.source`` of every site.
    classes
        Ordered names.
    new
        For each hospital, the class of each image in its folder `NEW`, by file name.
    """

    source: str
    classes: tuple[str, ...]
    new: dict[str, dict[str, str]] = field(default_factory=dict)


def deal_images(folders: dict[str, Path], *, given: Sequence[Path], scratch: Path, least: int = 1) -> Dealt:
    """Give every hospital images of its own: one folder a class to train on, and a fifth of them to predict.

    Patients (DICOM) and copies of one picture stay together; classes are dealt alike.

    Parameters
    ----------
    folders
        Where each hospital's images go, by its name; made here. Files are linked where the disk allows it.
    given
        A folder of images, one folder a class, for all of them, or one for each; none draws phantoms, a scanner for
        each hospital.
    scratch
        For the drawings.
    least
        Labelled images that each hospital needs.

    Raises
    ------
    DataError
        There are too few images for so many hospitals, they cannot be read, or two folders differ in kind or classes.
    """
    if given:
        kind, parts = _given(given, len(folders))
    else:
        kind, parts = "dicom", _drawn(scratch, len(folders))
    # As every site's `check` prints them.
    made = Dealt(kind, tuple(sorted(parts[0].source.classes)))
    placed: set[Path] = set()
    for (name, folder), part in zip(folders.items(), parts, strict=True):
        if len(part.train) < least or not len(part.new):
            problem = f"leaves {len(part.train)} images to {name} to train on, and {len(part.new)} to predict"
            cure = f"{least} and 1 or more for each hospital: more images, or fewer --sites"
            raise DataError(problem, where=part.where, cure=cure)
        _place(part.source, part.train, folder / LABELLED, placed, by_class=True)
        made.new[name] = _place(part.source, part.new, folder / NEW, placed, by_class=False)
    return made


class _Part(NamedTuple):
    """What a hospital gets: which images of a source, to train on and new to it, and where that lies."""

    source: Source
    train: Indices
    new: Indices
    where: Path


def _drawn(scratch: Path, sites: int) -> list[_Part]:
    """Phantoms, a scanner for each hospital."""
    drawn = PhantomConfig(**{**vars(PHANTOMS), "sites": sites})
    source = open_source(DataConfig(path=str(scratch), phantoms=drawn))
    names = sorted({str(item.site) for item in source.items})
    pools = [np.array([i for i, item in enumerate(source.items) if item.site == name]) for name in names]
    return [_Part(source, *share, scratch) for pool in pools for share in _shares(source, pool, sites=1)]


def _given(folders: Sequence[Path], sites: int) -> tuple[str, list[_Part]]:
    """The kind of the images in folders, and what of them each hospital gets."""
    each, kinds = sites // len(folders), [_kind_of(folder) for folder in folders]
    sources = [
        open_source(DataConfig(source=kind, path=str(folder), split="drawn"))
        for kind, folder in zip(kinds, folders, strict=True)
    ]
    for folder, kind, source in zip(folders, kinds, sources, strict=True):
        if kind != kinds[0]:
            raise DataError(f"holds {kind}, and {folders[0]} {kinds[0]}", where=folder, cure="images of one kind")
        if sorted(source.classes) != sorted(sources[0].classes):
            named = ", ".join(shown(name, most=_LONGEST) for name in sources[0].classes[:_MOST_NAMED])
            raise DataError(
                f"has other classes than {folders[0]}", where=folder, cure=f"as there, a folder each: {named}"
            )
    found = zip(sources, folders, strict=True)
    parts = [
        _Part(one, *share, at) for one, at in found for share in _shares(one, np.arange(len(one.items)), sites=each)
    ]
    return kinds[0], parts


def _kind_of(folder: Path) -> str:
    return (
        "dicom" if any(path.is_file() and is_dicom(read_head(path, _HEAD_BYTES)) for path in walk(folder)) else "images"
    )


def _shares(source: Source, pool: Indices, *, sites: int) -> list[tuple[Indices, Indices]]:
    """For each of so many sites, what it trains on and what is new to it."""
    groups = group_items(copies_in(source).items, pool)
    each = np.repeat([(1 - _NEW) / sites, _NEW / sites], sites)
    part_of = deal(groups.strata, np.tile(each, (groups.strata.shape[1], 1)), rng=generator(_SEED, "consortium"))
    return [(groups.gather(part_of == site), groups.gather(part_of == sites + site)) for site in range(sites)]


def _place(source: Source, indices: Indices, folder: Path, placed: set[Path], *, by_class: bool) -> dict[str, str]:
    """Put files into a folder; the class of each by its name there. One of several images goes where its first does."""
    make_folder(folder)
    classes = {}
    for index in indices.tolist():
        file = source.file_of(index)
        if file is None or file in placed:
            continue
        placed.add(file)
        label = source.classes[source.items[index].label]
        name = f"{len(placed):06d}{file.suffix.lower()}"
        to = (make_folder(folder / label) if by_class else folder) / name
        try:
            os.link(file, to)
        except OSError:
            shutil.copyfile(file, to)
        classes[name] = label
    return classes
