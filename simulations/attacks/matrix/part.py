"""The attack part of a run's page: the table of the matrix page, with the run's scheme as its one column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulations.attacks.matrix import words
from simulations.attacks.matrix.table import read_attacks
from simulations.report.links import Link, links
from simulations.report.page import write_report


def report_of(run: Path) -> Path:
    """Write ``RUN/report.html`` with what ``RUN/attacks/`` holds.

    Raises
    ------
    StorageError, IntegrityError, FormatError
        See `simulations.report.page.write_report`.
    """
    return write_report(run, attacks=content(run))


def content(run: Path) -> dict[str, Any] | None:
    """What ``RUN/attacks/`` holds; None where it holds no results."""
    folder = run / "attacks"
    if not any(folder.glob("*.json")):
        return None
    table = read_attacks(folder)
    return {
        "table": table,
        "words": words,
        "trial": words.trial(table),
        "verdicts": [(scheme, words.verdict(table, scheme)) for scheme in table.columns],
        "files": {(row.attack, each.scheme): _files(run, each.stem) for row in table.rows for each in row.cells},
        "notes": list(dict.fromkeys(note for each in table.results for note in each.notes)),
    }


def _files(run: Path, stem: str) -> list[Link]:
    return links(run, [f"attacks/{stem}.json", f"attacks/{stem}.png"]) if stem else []
