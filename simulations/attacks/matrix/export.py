"""The table as CSV, one line for each metric, and as Markdown, one line for each attack."""

from __future__ import annotations

from medveil.sheets import sheet_of
from simulations.attacks.matrix import words
from simulations.attacks.matrix.table import Cell, Table
from simulations.attacks.study.result import ARMS

_FIELDS = (
    "scheme",
    "attack",
    "kind",
    "knowledge",
    "state",
    "reason",
    "metric",
    "main",
    "unit",
    "direction",
    *(f"{arm}{end}" for arm in ARMS for end in ("", "_low", "_high")),
    "margin",
    "keys",
    "images_per_key",
    "n",
    "seconds",
)


def as_csv(table: Table) -> str:
    """One line for each metric of each cell; a cell without figures has one line with its state and its reason."""
    made: list[dict[str, object]] = []
    for row in table.rows:
        for cell in row.cells:
            head = {
                "scheme": cell.scheme,
                "attack": row.attack,
                "kind": row.kind,
                "knowledge": "; ".join(row.knowledge),
                "state": cell.state,
                "reason": words.why(cell) or words.held_to(cell),
                "margin": row.margin,
            }
            made += [{**head, **each} for each in _metrics(cell) or [{}]]
    return sheet_of(made, _FIELDS)


def _metrics(cell: Cell) -> list[dict[str, object]]:
    result = cell.result
    if result is None:
        return []
    made: list[dict[str, object]] = []
    for name, each in result.metrics.items():
        line: dict[str, object] = {
            "metric": name,
            "main": name == result.main,
            "unit": each.unit,
            "direction": each.direction,
            "keys": result.keys,
            "images_per_key": result.images_per_key,
            "n": result.n,
            "seconds": round(result.seconds, 1),
        }
        for arm in ARMS:
            low, high = each.ci95.get(arm) or (None, None)
            line |= {arm: getattr(each, arm), f"{arm}_low": low, f"{arm}_high": high}
        made.append({key: "" if value is None else value for key, value in line.items()})
    return made


def as_markdown(table: Table) -> str:
    """Attacks down, schemes across: the main figure with its interval, chance, and the verdict in words."""
    lines = [_line("attack", "the attacker has", *table.columns), _line("---", "---", *("---" for _ in table.columns))]
    lines += [_line(row.attack, words.holds(row.knowledge), *map(_cell, row.cells)) for row in table.attacks]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    word, main = words.STATES[cell.state].word, cell.main
    if main is None or main.target is None:
        return word
    held = words.held_to(cell)
    parts = (
        f"{word}:",
        words.number(main.target),
        words.within(main, "target"),
        words.chance(main),
        f"({held})" if held else "",
    )
    return " ".join(each for each in parts if each)


def _line(*cells: str) -> str:
    return "| " + " | ".join(each.replace("|", "\\|").replace("\n", " ") for each in cells) + " |"
