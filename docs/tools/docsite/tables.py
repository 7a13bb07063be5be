"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under their heads, as GitHub and MkDocs read them."""
    return "\n".join([_line(heads), _line(["---"] * len(heads)), *map(_line, rows)]) + "\n"


def code(text: str) -> str:
    """Text as code in a cell; nothing where there is none."""
    return f"`{text}`" if text else ""


def safe(text: str) -> str:
    """Text of the program as Markdown shows it: ``<`` and ``*`` are meant."""
    for mark in ("\\", "<", "*", "_", "["):
        text = text.replace(mark, f"\\{mark}")
    return text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(each.split()).replace("|", "\\|") for each in cells) + " |"
