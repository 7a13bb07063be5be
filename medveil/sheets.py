"""CSV: the one writer of it, whose cells no spreadsheet takes for a formula, and the reader that undoes what it did.

Spreadsheets run what stands in a cell that begins with ``=``, ``+``, ``-`` or ``@``, spaces and quotes before it
notwithstanding; and where they take another mark than the comma to part cells, a cell may begin in the middle of ours.
So an apostrophe is put where a cell might begin so, which spreadsheets show as text, and `read_rows` takes it away
again: what was written is what is read. Numbers are no texts and stay. What is not printable is written as its escape
(`medveil.plain.shown`), for a CSV is shown on terminals too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from medveil.plain import shown

_PARTS = r",;|:"
_SPACES = r" \"'`\u00a0\u3000"
_FORMULA = r"=+\-@\uff1d\uff0b\uff0d\uff20"
_BEGINS = re.compile(rf"(^|[{_PARTS}])([{_SPACES}]*)(?=[{_FORMULA}])")
_MARKED = re.compile(rf"(^|[{_PARTS}])'([{_SPACES}]*)(?=[{_FORMULA}])")


def sheet(rows: Iterable[Iterable[object]], *, end: str = "\n") -> str:
    """Rows as CSV; None is an empty cell.

    Parameters
    ----------
    end
        What ends a line.
    """
    made = io.StringIO()
    csv.writer(made, lineterminator=end).writerows([_cell(each) for each in row] for row in rows)
    return made.getvalue()


def sheet_of(rows: Iterable[Mapping[str, object]], heads: Sequence[str]) -> str:
    """Rows by the names of their columns as CSV, under a row of these names; a column a row has not is empty."""
    return sheet([heads, *([row.get(head) for head in heads] for row in rows)])


def read_rows(stream: TextIO, *, mark: str = ",", spaces: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV as `sheet` was given them, each with the number of its last line (csv.Error as it comes).

    Parameters
    ----------
    mark
        What parts cells; `sheet` writes commas.
    spaces
        Whether spaces before a cell are none of its own, so that a quote behind them is one.
    """
    reader = csv.reader(stream, delimiter=mark, skipinitialspace=spaces)
    for row in reader:
        yield reader.line_num, [read_cell(each) for each in row]


def read_cell(text: str) -> str:
    """A cell's text without the apostrophes that keep it from being a formula."""
    return _MARKED.sub(r"\1\2", text)


def _cell(value: object) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    return _BEGINS.sub(r"\1'\2", shown(value))
