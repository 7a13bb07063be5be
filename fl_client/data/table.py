"""A table of labels as spreadsheets and programs write it: any of their encodings and marks, where one reading fits."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medveil.errors import DataError
from medveil.plain import shown
from medveil.sheets import read_rows

MARKS = (",", ";", "\t", "|")
"""What may part the cells of a row."""
WANTED = ("path", "label")
_KNOWN = (*WANTED, "split", "site")
_MOST_BYTES = 2**28
_MOST_SHOWN = 80
_MOST_NAMES = 20
# UTF-32's mark begins as UTF-16's does.
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_NO_TABLE = "data.labels is relative to data.path; data.labels=null takes the names of class folders"
_SAVE = "save it as UTF-8: 'CSV UTF-8' in Excel, encoding='utf-8' in pandas"


class Row(NamedTuple):
    """A row: its last line, its cells by column without the space around them, and its path with it.

    Names of files may end in a space.
    """

    line: int
    cells: dict[str, str]
    path: str


class Table(NamedTuple):
    """The names of the columns, and the rows."""

    columns: tuple[str, ...]
    rows: list[Row]


def read_table(path: Path, *, wanted: Sequence[str] = WANTED) -> Table:
    """Read a table with the columns ``path`` and ``label``, or with others that are `wanted`.

    Commas, semicolons, tabs and bars part cells, spaces around them do not count; UTF-8 and UTF-16 are read.

    Raises
    ------
    DataError
        It is missing, too large, in another encoding, lacks a column or has one twice, has a row that is longer than
        the first, a quote that is never closed, or no rows.
    """
    text = _text(path)
    mark, skip = _mark(text, path, wanted)
    try:
        _refuse_open_quote(text, mark)
        return _table(read_rows(io.StringIO(text, newline=""), mark=mark, spaces=True), skip, path, wanted)
    except csv.Error as error:
        cure = "close each quote, and keep cells short: one path and one label a row"
        raise DataError(f"cannot be read as CSV: {error}", where=path, cure=cure) from error


def _text(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise DataError("is no file", where=path, cure="data.labels names a CSV, relative to data.path")
        if path.stat().st_size > _MOST_BYTES:
            problem = f"is larger than {_MOST_BYTES // 2**20} MB"
            raise DataError(problem, where=path, cure="keep the columns path, label, group and site")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such labels file", where=path, cure=_NO_TABLE) from None
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DataError(f"cannot be read as CSV: {why}", where=path) from error
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), None) or _without_bom(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problem = f"cannot be read as CSV: line {line} is no {encoding.upper()} (byte 0x{data[error.start]:02x})"
        raise DataError(problem, where=path, cure=_SAVE) from None


def _without_bom(data: bytes) -> str:
    """UTF-16 where every other byte of the first row's names is zero, as it is of no other text; else UTF-8."""
    even, odd = data[:64:2], data[1:64:2]
    if odd and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if even and odd and not any(even) and all(odd) else "utf-8"


def _mark(text: str, path: Path, wanted: Sequence[str]) -> tuple[str, bool]:
    """What parts the cells, and whether the first line only says so (``sep=;``, as Excel has it)."""
    first = text.split("\n", 1)[0].strip()
    if first[:4].lower() == "sep=" and (first[4:] or "\t") in MARKS:
        return first[4:] or "\t", True
    heads = {mark: _first_row(text, mark) for mark in MARKS}
    fits = [mark for mark, head in heads.items() if all(_column(head, name) is not None for name in wanted)]
    if len(fits) > 1:
        told = " and by ".join(repr(mark) for mark in fits)
        raise DataError(f"its first row can be parted by {told}", where=path, cure="keep to one of them")
    # Where none fits, the one that finds most columns tells best what is missing.
    return (fits or sorted(MARKS, key=lambda mark: -len(heads[mark])))[0], False


def _first_row(text: str, mark: str) -> list[str]:
    try:
        return _head(read_rows(io.StringIO(text, newline=""), mark=mark, spaces=True))
    except csv.Error:
        return []


def _head(read: Iterator[tuple[int, list[str]]]) -> list[str]:
    """The names of the columns: the first row that is not empty."""
    rows = ([unicodedata.normalize("NFC", cell.strip()) for cell in cells] for _, cells in read)
    return next((names for names in rows if any(names)), [])


def _column(names: Sequence[str], wanted: str) -> int | None:
    """Where a column is: by its name, else by its name in other letters."""
    if wanted in names:
        return list(names).index(wanted)
    return next((i for i, name in enumerate(names) if name.casefold() == wanted), None)


def _refuse_open_quote(text: str, mark: str) -> None:
    """A quote that is never closed would make one cell of all rows behind it."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise csv.Error("a quote is never closed") from None


def _table(read: Iterator[tuple[int, list[str]]], skip: bool, path: Path, wanted: Sequence[str]) -> Table:
    if skip:
        next(read, None)
    head = _head(read)
    _refuse_doubled(head, path)
    for name in wanted:
        if _column(head, name) is None:
            told = ", ".join(shown(each, most=_MOST_SHOWN) for each in head[:_MOST_NAMES] if each)
            cure = f"its columns are {told or 'none'}: name one of them so"
            raise DataError(f"has no column '{name}'", where=path, cure=cure)
    places = {_column(head, name): name for name in _KNOWN if _column(head, name) is not None}
    columns = tuple(places.get(i, name) for i, name in enumerate(head))
    at = columns.index(wanted[0])
    rows = []
    for line, cells in read:
        trimmed = [cell.strip() for cell in cells]
        if not any(trimmed):
            continue
        if any(trimmed[len(columns) :]):
            problem = f"line {line} has {len(cells)} cells, and there are {len(columns)} columns"
            raise DataError(problem, where=path, cure="put a cell that holds the mark between cells into quotes")
        trimmed += [""] * (len(columns) - len(trimmed))
        named = {name: cell for name, cell in zip(columns, trimmed, strict=False) if name}
        rows.append(Row(line, named, cells[at] if at < len(cells) else ""))
    if not rows:
        raise DataError("names no files", where=path, cure="write one row an image below its first row")
    return Table(tuple(name for name in columns if name), rows)


def _refuse_doubled(head: Sequence[str], path: Path) -> None:
    """Two columns of one name: whichever won, the other could be meant."""
    names = Counter(name.casefold() if name.casefold() in _KNOWN else name for name in head if name)
    for name, times in names.items():
        if times > 1:
            problem = f"has {times} columns called '{shown(name, most=_MOST_SHOWN)}'"
            raise DataError(problem, where=path, cure="keep the one that is meant, or give the others another name")
