"""A study's table: ``poisoning.json``, ``.csv`` and ``.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medveil.files import write_json, write_text
from medveil.sheets import sheet_of
from simulations.attacks.poisoning.attacks import ATTACKS
from simulations.attacks.poisoning.rules import RULES
from simulations.attacks.poisoning.table import MARGIN, NOT_APPLICABLE, NOT_MEASURED, REFUSED, STOPPED, Cell, survived
from simulations.attacks.study.result import Bounds

JSON, CSV, MARKDOWN = "poisoning.json", "poisoning.csv", "poisoning.md"
FORMAT, VERSION = "medveil-poisoning", 1
_ARMS = ("target", "control", "chance")
_FIELDS = (
    "attack",
    "rule",
    "bad",
    "sites",
    "state",
    "reason",
    "figure",
    *(f"{arm}{end}" for arm in _ARMS for end in ("", "_low", "_high")),
    "accuracy_attacked",
    "accuracy_honest",
    "left_out",
    "seeds",
)
_SHOWN = {"succeeds": "**{}**", "above chance": "*{}*"}
_WORDS = {REFUSED: "refused", NOT_APPLICABLE: "n/a", NOT_MEASURED: "–", STOPPED: "**stops the run**"}


def document(cells: Sequence[Cell], *, missing: int) -> dict[str, Any]:
    """The table as plain data, with format and version."""
    held = {f"{attack} {rule}": {"most": most, "why": why} for (attack, rule), (most, why) in survived(cells).items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "margin": MARGIN,
        "missing_runs": missing,
        "cells": [asdict(cell) for cell in cells],
        "survived": held,
    }


def write(folder: Path, cells: Sequence[Cell], *, missing: int) -> None:
    """Write all three (StorageError where the disk refuses)."""
    write_json(folder / JSON, document(cells, missing=missing))
    write_text(folder / CSV, as_csv(cells))
    write_text(folder / MARKDOWN, as_markdown(cells))


def as_csv(cells: Sequence[Cell]) -> str:
    """One line a cell."""
    return sheet_of([_line(cell) for cell in cells], _FIELDS)


def as_markdown(cells: Sequence[Cell]) -> str:
    """A table for each number of bad sites, and one of the most that each rule held against."""
    rules = [name for name in RULES if any(cell.rule == name for cell in cells)]
    attacks = [name for name in ATTACKS if any(cell.attack == name for cell in cells)]
    parts = []
    for bad in sorted({cell.bad for cell in cells}):
        found = {(cell.attack, cell.rule): cell for cell in cells if cell.bad == bad}
        sites = next(iter(found.values())).sites
        rows = [[name, *(shown(found[name, rule]) for rule in rules)] for name in attacks]
        parts.append(f"{bad} bad of {sites} sites:\n\n{_table(['attack', *rules], rows)}")
    most = survived(cells)
    rows = [[name, *(_most(*most[name, rule]) for rule in rules)] for name in attacks]
    parts.append(f"Most bad sites held against, of those tried:\n\n{_table(['attack', *rules], rows)}")
    return "\n\n".join(parts) + "\n"


def shown(cell: Cell) -> str:
    """A cell's figure, interval and chance: bold where the attack succeeds, slanted where it is above chance."""
    measured = cell.measured
    if measured is None or measured.target is None:
        return _WORDS.get(cell.state, cell.state)
    text = f"{measured.target:.2f}{_within(measured.ci95.get('target'))} ({_number(measured.chance)})"
    if cell.state == "broken attack":
        return f"{text}, fails on its control"
    return _SHOWN.get(cell.state, "{}").format(text)


def _most(most: int, why: str) -> str:
    return f"{most}" if why in {"succeeds", STOPPED, "all that were tried"} else f"{most} ({why} beyond)"


def _line(cell: Cell) -> dict[str, object]:
    made: dict[str, object] = {name: getattr(cell, name) for name in ("attack", "rule", "bad", "sites", "state")}
    made |= {"reason": cell.reason, "seeds": cell.seeds or None}
    if cell.measured is None:
        return made
    made |= {"figure": cell.measured.text, "left_out": cell.left_out}
    for arm in _ARMS:
        within: Sequence[float | None] = cell.measured.ci95.get(arm) or (None, None)
        made |= {arm: getattr(cell.measured, arm), f"{arm}_low": within[0], f"{arm}_high": within[1]}
    if cell.accuracy is not None:
        made |= {"accuracy_attacked": cell.accuracy[0], "accuracy_honest": cell.accuracy[1]}
    return made


def _within(bounds: Bounds) -> str:
    return "" if bounds is None else f" [{bounds[0]:.2f}, {bounds[1]:.2f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
