"""Tables for a terminal, as plain text."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

from medveil.plain import shown
from medveil.times import moment

_GAP = "  "
_NARROWEST = 24
"""A last column of fewer characters than this is no column to read words in."""
_MOMENTS = frozenset({"since", "last seen", "last_seen", "submitted", "kept", "made"})
"""Heads of columns that hold moments."""


def plain_table(rows: Sequence[Mapping[str, str]], *, width: int | None = None) -> str:
    """Rows of equal keys under their heads, in columns; control characters of others' texts are shown, not obeyed.

    Where that is wider than the terminal, the last column goes on below itself, parted between words; where that is not
    enough, a row becomes a sentence. Columns of moments show them as `medveil.times.moment` does.

    Parameters
    ----------
    rows
        At least one.
    width
        Columns of the terminal; None: those of the terminal that is written to, without limit where it is none.
    """
    heads = list(rows[0])
    lines = [heads, *([_cell(head, row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    most = _terminal() if width is None else width
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    if most is None or before + widths[-1] <= most:
        return "\n".join(_padded(line, widths) for line in lines)
    if most - before >= _NARROWEST:
        return "\n".join(_below_itself(line, widths, most - before) for line in lines)
    return "\n".join(_sentence(heads, line, most) for line in lines[1:])


def _cell(head: str, text: str) -> str:
    return shown(moment(text) if head in _MOMENTS else text)


def _terminal() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _padded(line: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _below_itself(line: Sequence[str], widths: Sequence[int], room: int) -> str:
    first, *more = _parted(line[-1], room) or [""]
    left = " " * (sum(widths[:-1]) + len(_GAP) * (len(widths) - 1))
    return "\n".join([_padded([*line[:-1], first], widths), *(f"{left}{each}" for each in more)])


def _sentence(heads: Sequence[str], line: Sequence[str], most: int) -> str:
    said = "; ".join(f"{head} {cell}" for head, cell in zip(heads, line, strict=True) if cell)
    return "\n".join(_parted(said, most, indent=_GAP))


def _parted(text: str, width: int, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
