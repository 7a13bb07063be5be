"""The table as JSON, as CSV with a line for each cell, and as Markdown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from medveil.files import write_json, write_text
from medveil.sheets import sheet_of
from simulations.attacks.matrix import words as figures
from simulations.attacks.study.result import ARMS
from simulations.attacks.tradeoff import words
from simulations.attacks.tradeoff.study import FORMAT, VERSION
from simulations.attacks.tradeoff.table import Cell, Row, Table, Worth, findings

JSON, CSV, MARKDOWN = "matrix.json", "matrix.csv", "matrix.md"
_PLACE = ("keys", "stem_init", "stem_train", "scope", "layer")
_WORTH = (
    "utility",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "test_images",
    "seeds",
    "twin_accuracy",
    "below_plain",
)
_FIELDS = (
    *_PLACE,
    *_WORTH,
    "view",
    "attack",
    "malicious",
    "state",
    "reason",
    "metric",
    "unit",
    *(f"{arm}{end}" for arm in ARMS for end in ("", "_low", "_high")),
    "share",
    "keys_measured",
    "images",
    "seconds",
)
_SHOWN = {"succeeds": "**{}**", "above chance": "*{}*"}


def document(table: Table) -> dict[str, Any]:
    """The table as plain data, with format and version."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": table.name,
        "headline": words.headline(table),
        "missing": table.missing,
        "conclusions": dict(words.conclusions(table)),
        "places": [
            {"place": each.row.place.text, "leaks": each.leaks, "unknown": each.unknown, "holds": each.holds}
            for each in findings(table)
        ],
        "cells": _lines(table),
    }


def write(folder: Path, table: Table) -> None:
    """Write all three (StorageError where the disk refuses)."""
    write_json(folder / JSON, document(table))
    write_text(folder / CSV, sheet_of(_lines(table), _FIELDS))
    write_text(folder / MARKDOWN, as_markdown(table))


def as_markdown(table: Table) -> str:
    """A table for each view: places down, utility and attackers across."""
    parts = [words.headline(table)]
    for view in table.views:
        names = [each.name for each in table.attackers]
        heads = ["policy", "scope", "layer", "accuracy", "twin", "below plain", *names]
        rows = [
            [*_place(row), *_worth(row.worth), *(_cell(row.cell(view.name, name)) for name in names)]
            for row in table.rows
        ]
        parts.append(f"{view.name}: {view.text}\n\n{_table(heads, rows)}")
    told = [f"- {name}: {text}" for name, text in words.conclusions(table)]
    return "\n\n".join([*parts, "\n".join(told)]) + "\n"


def _place(row: Row) -> list[str]:
    return [str(row.place.policy), row.place.scope, row.place.layer.name]


def _worth(worth: Worth) -> list[str]:
    twin = "" if worth.twin is None else figures.number(worth.twin)
    below = "" if worth.below is None else f"{worth.below:.1f}"
    return [f"{words.worth(worth)} {words.within(worth)}".strip(), twin, below]


def _cell(cell: Cell) -> str:
    shown = words.figure(cell)
    if not shown:
        return {"not applicable": "n/a", "not measured": "–"}.get(cell.state, cell.state)
    assert cell.result is not None
    main = cell.result.metrics[cell.result.main]
    text = f"{shown} {figures.within(main, 'target')} ({figures.number(main.chance)})".replace("  ", " ")
    if cell.state == "broken attack":
        return f"{text}, fails on its control"
    return _SHOWN.get(cell.state, "{}").format(text)


def _lines(table: Table) -> list[dict[str, Any]]:
    malicious = {each.name: each.malicious for each in table.attackers}
    made = []
    for row in table.rows:
        head = {**_place_data(row), **_worth_data(row.worth)}
        made += [{**head, **_cell_data(cell), "malicious": malicious[cell.attack]} for cell in row.cells]
    return made


def _place_data(row: Row) -> dict[str, Any]:
    policy = row.place.policy
    return dict(
        zip(_PLACE, (policy.keys, policy.init, policy.train, row.place.scope, row.place.layer.name), strict=True)
    )


def _worth_data(worth: Worth) -> dict[str, Any]:
    values = (worth.accuracy, *worth.interval)
    accuracy, low, high = (None if math.isnan(each) else each for each in values)
    told = (worth.state, accuracy, low, high, worth.n, worth.seeds, worth.twin, worth.below)
    return dict(zip(_WORTH, told, strict=True))


def _cell_data(cell: Cell) -> dict[str, Any]:
    made: dict[str, Any] = {"view": cell.view, "attack": cell.attack, "state": cell.state, "reason": cell.reason}
    result = cell.result
    main = None if result is None else result.metrics.get(result.main)
    if result is None or main is None:
        return made
    made |= {"metric": result.main, "unit": main.unit, "share": cell.share}
    made |= {"keys_measured": result.keys, "images": result.n, "seconds": round(result.seconds, 1)}
    for arm in ARMS:
        low, high = main.ci95.get(arm) or (None, None)
        made |= {arm: getattr(main, arm), f"{arm}_low": low, f"{arm}_high": high}
    return made


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(each.replace('|', '/') for each in line)} |" for line in lines)
