"""Folders of files and their labels: from a CSV, or from one folder a class."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from fl_client.data.base import Skipped
from fl_client.data.config import DataConfig
from medveil.errors import DataError
from medveil.plain import shown
from medveil.sheets import read_rows

_ONE = "keep one of them"
_INSIDE = "every path is below data.path, and counts from it"
_MOST_SHOWN = 200
_JUNK = {"thumbs.db", "desktop.ini", "dicomdir", "medveil-manifest.jsonl", "medveil-report.json"}


class Labelled(NamedTuple):
    """A file and what is said of it; `columns` are the other columns of its row."""

    id: str
    path: Path
    label: str
    columns: dict[str, str]


class Listing(NamedTuple):
    """The labelled files below a folder, sorted by id, the names of the CSV's columns, and what was left out."""

    files: list[Labelled]
    columns: tuple[str, ...]
    skipped: list[Skipped]


def list_files(root: Path, config: DataConfig, *, also: str = "") -> Listing:
    """Find the labelled files of a folder.

    With ``data.labels``, the files its CSV names and no others; a named file that is not there is skipped by name.
    Without, every file below a class folder; files beside the class folders are skipped by name, hidden ones ignored.

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
        The folder or the CSV is missing or empty; the CSV lacks a column, a label or a path, names a file twice, or one
        outside of the folder.
    """
    if not root.exists():
        raise DataError("no such folder", where=root, cure="set data.path to the folder of the images")
    if not root.is_dir():
        raise DataError("is not a folder", where=root, cure="set data.path to the folder of the images")
    if config.labels is None:
        listing = _from_folders(root)
    else:
        listing = _from_csv(root, root / Path(config.labels).expanduser(), also)
    if not listing.files and not listing.skipped:
        raise DataError("the folder is empty", where=root, cure="put one folder a class in it, or set data.labels")
    return listing


def _from_folders(root: Path) -> Listing:
    files, skipped = [], []
    for path in walk(root):
        relative = path.relative_to(root)
        if not _is_text(relative.as_posix()):
            skipped.append(Skipped(ascii(relative.as_posix()), "its name is not valid UTF-8"))
            continue
        if len(relative.parts) < 2:
            skipped.append(Skipped(relative.as_posix(), "not inside a class folder"))
            continue
        files.append(Labelled(relative.as_posix(), path, relative.parts[0], {}))
    return Listing(files, (), skipped)


def _is_text(name: str) -> bool:
    """Whether a file name can be written down; Linux allows any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def walk(root: Path) -> Iterator[Path]:
    """Every visible file below a folder, sorted; symbolic links are followed, loops are not."""
    seen: set[str] = set()
    found: list[Path] = []
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder) / name for name in names if not name.startswith(".") and name.lower() not in _JUNK]
    yield from sorted(found, key=lambda path: path.as_posix())


def _from_csv(root: Path, table: Path, also: str) -> Listing:
    columns, rows = _read_rows(table)
    files, skipped = [], []
    lines: dict[str, int] = {}
    for line, row in rows:
        named, label = (row.get("path") or "").strip(), (row.get("label") or "").strip()
        if not named or not label:
            raise DataError(f"line {line} has no {'path' if not named else 'label'}", where=table)
        path = _inside(root, named, table, line)
        key = Path(os.path.normpath(path)).as_posix()
        if key in lines:
            raise DataError(f"lines {lines[key]} and {line} both name '{shown(named)}'", where=table, cure=_ONE)
        lines[key] = line
        if also and not _is_file(path):
            path = path.with_name(path.name + also)
        if not _is_file(path):
            skipped.append(Skipped(named, f"named in {table.name}, but there is no such file"))
            continue
        files.append(Labelled(named, path, label, {name: (row.get(name) or "").strip() for name in columns}))
    return Listing(sorted(files, key=lambda each: each.id), columns, skipped)


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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name longer than a disk allows is no file's.
        return False


def _read_rows(table: Path) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str | None]]]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            read = read_rows(stream)
            columns = tuple(next(read, (0, []))[1])
            missing = [name for name in ("path", "label") if name not in columns]
            if missing:
                raise DataError(
                    f"has no column '{missing[0]}'", where=table, cure=f"its columns are {', '.join(columns) or 'none'}"
                )
            rows: list[tuple[int, dict[str, str | None]]] = [
                (line, dict(zip_longest(columns, row[: len(columns)]))) for line, row in read if row
            ]
    except FileNotFoundError:
        raise DataError("no such labels file", where=table, cure="data.labels is relative to data.path") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot be read as CSV: {error}", where=table) from error
    if not rows:
        raise DataError("names no files", where=table)
    return columns, rows
