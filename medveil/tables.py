"""Tables for a terminal, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medveil.plain import shown

_GAP = "  "


def plain_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of equal keys under their heads, in columns; control characters of others' texts are shown, not obeyed.

    Parameters
    ----------
    rows
        At least one.
    """
    heads = list(rows[0])
    lines = [heads, *([shown(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    padded = (_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
