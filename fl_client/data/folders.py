"""Folders of files and their labels: from a CSV, from one folder a class, or without any."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, NamedTuple

from fl_client.data.beside import offered, refuse_leak
from fl_client.data.config import NO_LABELS, DataConfig
from fl_client.data.items import UNLABELLED, Skipped, one_class
from fl_client.data.labels import spellings
from fl_client.data.parts_named import Layout, layout, part_named, parts_of_column, said_of_layers
from fl_client.data.table import Row, Table, read_table
from fl_client.data.tree import Place, Tree, is_text, no_text, survey
from medveil.errors import DataError
from medveil.plain import shown
from medveil.written import setting

Real = tuple[int, int] | str
_COMPOSED: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
_ONE = "keep one of them"
_INSIDE = "every path is below data.path, and counts from it"
_MOST_SHOWN = 200


class Labelled(NamedTuple):
    """A file and what is said of it; `columns` are the other columns of its row, `split` its official part."""

    id: str
    path: Path
    label: str
    columns: dict[str, str]
    split: str | None = None


class Listing(NamedTuple):
    """What a folder holds.

    Attributes
    ----------
    files : list of Labelled
        The labelled files, sorted by id, each once.
    columns : tuple of str
        Names of the CSV's columns.
    skipped : list of Skipped
        What was left out.
    warnings : list of str
        What a person should know.
    labels : tuple of str
        Every class a folder or a row names, whether or not it has a file.
    """

    files: list[Labelled]
    columns: tuple[str, ...]
    skipped: list[Skipped]
    warnings: list[str]
    labels: tuple[str, ...]


class _File(NamedTuple):
    """A labelled file before spellings of its label are settled; `said` is where the label stands, `line` its row's."""

    file: Labelled
    place: Place
    said: str
    line: int = 0


def list_files(root: Path, config: DataConfig, *, also: str = "") -> Listing:
    """Find the labelled files of a folder.

    With ``data.labels``, the files its CSV names and no others; a named file that is not there is skipped by name.
    Where it is none, all files. Without, every file below a class folder; files beside the class folders are skipped by
    name, hidden ones ignored.
    Folders called train, validation and test (as in ``train/CLASS`` or ``CLASS/train``) and a column ``split`` are the
    data set's own split. A file that links lead to counts once.

    Parameters
    ----------
    root
        The folder.
    config
        Which labels.
    also
        What may stand behind the name a CSV gives, where there is no file of that name.

    Raises
    ------
    DataError
        The folder or the CSV is missing or empty; the CSV cannot be read, lacks a label or a path, names a file twice,
        or one outside of the folder; a label is no class; folders may be classes or parts of a split; a CSV that is not
        used says which images belong together.
    """
    if not root.exists():
        raise DataError("no such folder", where=root, cure="set data.path to the folder of the images")
    if not root.is_dir():
        raise DataError("is not a folder", where=root, cure="set data.path to the folder of the images")
    if config.labels is None:
        listing = _from_folders(root, config)
    elif config.labels == NO_LABELS:
        listing = _unlabelled(root, config)
    else:
        listing = _from_csv(root, root / Path(config.labels).expanduser(), config, also)
    if not listing.files and not listing.skipped:
        raise DataError("the folder is empty", where=root, cure="put one folder a class in it, or set data.labels")
    return listing


def walk(root: Path) -> Iterator[Path]:
    """Everything visible below a folder that is no folder, sorted; a file that lies there itself under that name only.

    Links to other places are followed, but in no circle.
    """
    tree = survey(root)
    own = {place.real for place in tree.places if not place.linked}
    files = [place.path for place in tree.places if not place.linked or place.real not in own]
    yield from sorted([*files, *tree.odd], key=lambda path: path.as_posix())


# -- one folder a class ------------------------------------------------------------------------------------------------


def _from_folders(root: Path, config: DataConfig) -> Listing:
    tree = survey(root)
    skipped = list(tree.skipped)
    named = _named(tree, root, skipped)
    form = layout([parts for _, parts in named], config, where=root)
    deepest = max(form.label, form.part or 0)
    found = []
    for place, parts in named:
        name = "/".join(parts)
        if len(parts) < deepest + 2:
            skipped.append(Skipped(name, "not inside a class folder"))
            continue
        label = parts[form.label]
        split = None if form.part is None else part_named(parts[form.part])
        file = Labelled(name, place.path, label, {}, split)
        found.append(_File(file, place, f"folder '{shown(label, most=_MOST_SHOWN)}'"))
    _refuse_outer(root, named, tree, config)
    kept, warnings = _each_once(found, skipped, root)
    files, labels, said = _settled(kept, config, root, empty=_class_folders(tree, form))
    layers = said_of_layers([parts for _, parts in named]) if form == Layout() else None
    warnings += [
        *([] if layers is None else [layers]),
        *said,
        *offered(root, [(each.id, each.path) for each in files], config),
    ]
    return Listing(files, (), skipped, warnings, labels)


def _named(tree: Tree, root: Path, skipped: list[Skipped]) -> list[tuple[Place, tuple[str, ...]]]:
    """The files with the names on their way from the root; a name that is no text is skipped."""
    named = []
    for place in tree.places:
        relative = place.path.relative_to(root)
        if not is_text(relative.as_posix()):
            skipped.append(no_text(relative.as_posix()))
        else:
            named.append((place, relative.parts))
    return named


def _unlabelled(root: Path, config: DataConfig) -> Listing:
    """Every file below the folder, whatever folders lie between; those of a split at the top are heeded."""
    tree = survey(root)
    skipped = list(tree.skipped)
    named = _named(tree, root, skipped)
    parts = {part_named(names[0]) if len(names) > 1 else None for _, names in named}
    split = None not in parts and "train" in parts and len(parts) > 1
    found = []
    for place, names in named:
        part = part_named(names[0]) if split else None
        found.append(_File(Labelled("/".join(names), place.path, UNLABELLED[0], {}, part), place, ""))
    kept, warnings = _each_once(found, skipped, root)
    offers = offered(root, [(each.file.id, each.file.path) for each in kept], config)
    return Listing([each.file for each in kept], (), skipped, [*warnings, *offers], UNLABELLED)


def _class_folders(tree: Tree, form: Layout) -> set[str]:
    """Names of the class folders, with and without a file."""
    if form.label == 0:
        return {name for name in tree.folders if "/" not in name}
    deep = [PurePosixPath(name).parts for name in tree.folders if name.count("/") == form.label]
    return {parts[form.label] for parts in deep}


def _refuse_outer(root: Path, named: Sequence[tuple[Place, tuple[str, ...]]], tree: Tree, config: DataConfig) -> None:
    """One folder that holds folders is more likely the place of the classes than a class."""
    inside = [parts for _, parts in named if len(parts) > 1]
    tops = {parts[0] for parts in inside}
    deeper = {parts[1] for parts in inside if len(parts) > 2}
    if config.classes is not None or len(tops) != 1 or len(deeper) < 2 or any(len(parts) == 2 for parts in inside):
        return
    (top,) = tops
    if part_named(top) is None and len({name for name in tree.folders if "/" not in name}) == 1:
        below = setting("data.path", str(root / top))
        cure = f"if its folders are the classes, write {below}; else list all in data.classes"
        raise one_class(f"has one class only ('{shown(top)}'), which holds folders", top, where=root, cure=cure)


def _each_once(found: Sequence[_File], skipped: list[Skipped], root: Path) -> tuple[list[_File], list[str]]:
    """Keep one name of each file: the one it has itself, before those that links give it."""
    names: dict[object, list[_File]] = {}
    for each in found:
        names.setdefault(each.place.real, []).append(each)
    kept, twice = [], []
    for every in names.values():
        own = [each for each in every if not each.place.linked] or every
        _refuse_two_classes(own, root)
        kept.append(own[0])
        twice += [(each, own[0]) for each in every if each is not own[0]]
    skipped += [Skipped(each.file.id, f"is the same file as {one.file.id}, which counts") for each, one in twice]
    if not twice:
        return sorted(kept, key=lambda each: each.file.id), []
    other = next(((each, one) for each, one in twice if each.file.label != one.file.label), None)
    each, one = other or twice[0]
    more = ", though the link lies in another class" if other else ""
    told = f"'{shown(each.file.id)}' is '{shown(one.file.id)}'{more}"
    warning = f"{len(twice)} names lead to images that are here under another, and are left out: {told}"
    return sorted(kept, key=lambda each: each.file.id), [warning]


def _refuse_two_classes(own: Sequence[_File], root: Path) -> None:
    for each in own[1:]:
        if (each.file.label, each.file.split) != (own[0].file.label, own[0].file.split):
            what = "classes" if each.file.label != own[0].file.label else "parts of the split"
            problem = f"'{shown(own[0].file.id)}' and '{shown(each.file.id)}' are one file, and stand in two {what}"
            raise DataError(problem, where=root, cure="remove one of them, or name the labels in data.labels")


# -- a table -----------------------------------------------------------------------------------------------------------


def _from_csv(root: Path, table: Path, config: DataConfig, also: str) -> Listing:
    read = read_table(table)
    found: list[_File] = []
    skipped: list[Skipped] = []
    lines: dict[object, int] = {}
    for row in read.rows:
        line, named, label = row.line, row.cells["path"], row.cells["label"]
        if not named or not label:
            problem = f"line {line} has no {'path' if not named else 'label'}"
            raise DataError(problem, where=table, cure="write it, or leave the row out")
        path, name, real = _file_of(root, row, table, also)
        for key in {Path(os.path.normpath(path)).as_posix(), real} - {None}:
            if key in lines and lines[key] != line:
                raise DataError(f"lines {lines[key]} and {line} both name '{shown(named)}'", where=table, cure=_ONE)
            lines[key] = line
        if real is None:
            skipped.append(Skipped(named, f"named in {table.name}, but there is no such file"))
            continue
        found.append(_File(Labelled(name, path, label, row.cells), Place(path, False, real), f"line {line}", line))
    found, warnings = _with_split(found, read, table, config)
    files, labels, said = _settled(found, config, table)
    refuse_leak(read, [(each.id, each.path) for each in files], table, config, used=True)
    return Listing(sorted(files, key=lambda each: each.id), read.columns, skipped, [*warnings, *said], labels)


def _with_split(found: list[_File], read: Table, table: Path, config: DataConfig) -> tuple[list[_File], list[str]]:
    """The files with their official parts, where the table names them and ``data.split`` does not say otherwise."""
    name = shown(table.name)
    if config.split == "drawn" or not found:
        return found, []
    if "split" not in read.columns:
        tops = {part_named(each.file.id.split("/", 1)[0]) for each in found if "/" in each.file.id}
        if None in tops or "train" not in tops or len(tops) < 2:
            return found, []
        told = f"the files of {name} lie in folders of a split, and it has no column 'split': they are dealt anew"
        return found, [told]
    parts = parts_of_column([(each.line, each.file.columns["split"]) for each in found], where=table)
    if parts is None:
        return found, [f"the column 'split' of {name} is empty: the images are dealt anew"]
    return [each._replace(file=each.file._replace(split=part)) for each, part in zip(found, parts, strict=True)], []


def _file_of(root: Path, row: Row, table: Path, also: str) -> tuple[Path, str, Real | None]:
    """The file a row names, its name as it stands there or as another system would write it, and what it really is."""
    for form in _forms(row):
        for ending in ("", also) if also else ("",):
            real = _real(root / f"{form}{ending}")
            if real is not None:
                path = _inside(root, form, table, row.line)
                return path.with_name(path.name + ending), os.path.normpath(form), real
    named = row.cells["path"]
    return _inside(root, named, table, row.line), os.path.normpath(named), None


def _forms(row: Row) -> Iterator[str]:
    """A path as it is written, without the space around it, with slashes, and with letters composed or not."""
    yield row.path
    written = [row.path, row.cells["path"]]
    written += [each.replace("\\", "/") for each in written]
    yield from dict.fromkeys([*written[1:], *(unicodedata.normalize(k, each) for each in written for k in _COMPOSED)])


def _inside(root: Path, named: str, table: Path, line: int) -> Path:
    """The file a row names, which is below the folder, whatever links lie between (DataError where it is not).

    A table may come from others than the images. One that could name any file here would put it before a model, and
    into a store.
    """
    there = PureWindowsPath(named)
    leaves = there.is_absolute() or there.drive or there.root or ".." in there.parts or named.startswith("~")
    if "\0" in named:
        raise DataError(f"line {line} names '{shown(named, most=_MOST_SHOWN)}', which no file is called", where=table)
    path = root / named
    if leaves or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        problem = f"line {line} names '{shown(named, most=_MOST_SHOWN)}', which leads out of the folder"
        raise DataError(problem, where=table, cure=_INSIDE)
    return path


def _real(path: Path) -> Real | None:
    """What tells a file from every other; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        # A name longer than a disk allows is no file's, nor is one with a NUL in it.
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


# -- both --------------------------------------------------------------------------------------------------------------


def _settled(
    found: Sequence[_File], config: DataConfig, where: Path, *, empty: set[str] | None = None
) -> tuple[list[Labelled], tuple[str, ...], list[str]]:
    """The files under the names of their classes, all these names, and what is to be said of their spellings."""
    counts = Counter(each.file.label for each in found)
    first: dict[str, str] = {}
    for each in found:
        first.setdefault(each.file.label, each.said)
    settled = spellings(first, counts, config.classes, where=where)
    files = [each.file._replace(label=settled.of[each.file.label]) for each in found]
    labels = {*settled.of.values(), *((empty or set()) - set(settled.of))}
    return files, tuple(sorted(labels)), list(settled.warnings)
