"""Docstrings as Markdown: what NumPy's style takes from reStructuredText would else stand raw on the API's pages."""

from __future__ import annotations

import re

from docsite.tables import table

_BORDER = re.compile(r"=+(  +=+)+$")
_CITED = re.compile(r"(?<=\])_(?!\w)")
_REFERENCE = re.compile(r"\.\. \[(\d+)\] +(.*(?:\n +\S.*)*)")
_BEFORE_CODE = re.compile(r",? ?::$", re.MULTILINE)


def as_markdown(text: str) -> str:
    """A docstring with Markdown's tables, references and code in place of reStructuredText's."""
    lines = _tables(text.split("\n"))
    text = _REFERENCE.sub(_listed, _CITED.sub("", "\n".join(lines)))
    return _BEFORE_CODE.sub(":", text)


def _listed(found: re.Match[str]) -> str:
    return f"{found[1]}. {' '.join(found[2].split())}"


def _tables(lines: list[str]) -> list[str]:
    """Simple tables between borders of ``=``, as Markdown's."""
    made: list[str] = []
    while lines:
        if not _BORDER.match(lines[0]):
            made.append(lines.pop(0))
            continue
        until = next((at for at, line in enumerate(lines) if at and not line), len(lines))
        made += _table(lines[:until]).split("\n")
        lines = lines[until:]
    return made


def _table(lines: list[str]) -> str:
    """One table: a row between the first two of three borders heads it."""
    spans = [found.span() for found in re.finditer("=+", lines[0])]
    borders = [at for at, line in enumerate(lines) if _BORDER.match(line)]
    ends = [end for _, end in spans[:-1]] + [None]
    rows: list[tuple[str, ...]] = []
    for line in (line for at, line in enumerate(lines) if at not in borders):
        cells = tuple(line[start:end].strip() for (start, _), end in zip(spans, ends, strict=True))
        # A row that begins with nothing goes on with the one before.
        more = rows.pop() if rows and not cells[0] else ("",) * len(cells)
        rows.append(tuple(f"{before} {cell}".strip() for before, cell in zip(more, cells, strict=True)))
    headed = len(borders) > 2
    return table(rows[0] if headed else ("",) * len(spans), rows[1:] if headed else rows).rstrip()
