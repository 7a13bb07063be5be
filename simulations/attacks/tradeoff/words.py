"""What a table says in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simulations.attacks.matrix import words
from simulations.attacks.study.result import FEWEST_IMAGES, FEWEST_KEYS
from simulations.attacks.tradeoff.table import (
    MOST_BELOW,
    NOT_MEASURED,
    Cell,
    Finding,
    Table,
    Worth,
    best_against,
    findings,
    held_nowhere,
)
from simulations.attacks.tradeoff.utility import FAILED, MEASURED

_MOST_NAMED = 6
STATES = {**words.STATES, NOT_MEASURED: words.STATES["not measured"], FAILED: words.STATES["failed"]}


def headline(table: Table) -> str:
    """Whether any place reaches the aim; where none does, by what the nearest misses it."""
    aim = f"at chance for every attacker but the malicious server, and at most {MOST_BELOW:g} points below plain"
    found = findings(table)
    held = [each for each in found if each.holds]
    if held:
        return f"{len(held)} of {len(found)} places are {aim}: {listed(each.row.place.text for each in held)}."
    if not found:
        return "No place here can be run."
    nearest = found[0]
    return f"No place here is {aim}. The nearest is {nearest.row.place.text}: {missed(nearest)}."


def missed(found: Finding) -> str:
    """By what a place misses the aim."""
    parts = []
    if found.leaks:
        parts.append(f"something is recovered by {listed(found.leaks)}")
    if found.unknown:
        parts.append(f"nothing is known of {listed(found.unknown)}")
    below = found.row.worth.below
    if below is None:
        parts.append("its accuracy is not known")
    elif found.costs_too_much:
        parts.append(f"it is {below:.1f} points below plain")
    return "; ".join(parts) or "nothing"


def conclusions(table: Table) -> list[tuple[str, str]]:
    """For each attacker, what a consortium that fears that one alone would choose; and what nothing here gives."""
    made, open_ = [], []
    nowhere = held_nowhere(table)
    for attacker in table.attackers:
        row = best_against(table, attacker)
        if row is None:
            open_ += [] if attacker.name in nowhere else [attacker.name]
            continue
        cost = "" if row.worth.below is None else f", {points(row.worth.below)}"
        made.append((attacker.name, f"{row.place.text}: accuracy {words.number(row.worth.accuracy)}{cost}"))
    if nowhere:
        made.append(("nothing here holds against", ", ".join(nowhere)))
    if open_:
        made.append(("no place where it recovers nothing was found and measured", ", ".join(open_)))
    return made


def trial(table: Table) -> str:
    """A warning where figures rest on fewer keys or images than a finding takes; else empty."""
    few = [each for each in table.results if each.keys < FEWEST_KEYS or each.images_per_key < FEWEST_IMAGES]
    if not few:
        return ""
    return (
        f"{len(few)} of {len(table.results)} measurements are trials: a finding takes at least {FEWEST_KEYS} keys and "
        f"{FEWEST_IMAGES} images for each."
    )


def worth(found: Worth) -> str:
    """Accuracy with its interval; the state where there is none."""
    return words.number(found.accuracy) if found.state == MEASURED else found.state


def within(found: Worth) -> str:
    """The interval in brackets."""
    return f"[{found.interval.low:.3f}, {found.interval.high:.3f}]" if found.state == MEASURED else ""


def points(below: float) -> str:
    """How far below plain, or above it."""
    return f"{abs(below):.1f} points {'below' if below >= 0 else 'above'} plain"


def figure(cell: Cell) -> str:
    """The main figure; empty where there is none."""
    main = None if cell.result is None else cell.result.metrics.get(cell.result.main)
    return "" if main is None or main.target is None else words.number(main.target)


def listed(names: Iterable[str]) -> str:
    """Names by commas; many of them by their number."""
    found: Sequence[str] = list(names)
    shown = ", ".join(found[:_MOST_NAMED])
    return shown if len(found) <= _MOST_NAMED else f"{shown} and {len(found) - _MOST_NAMED} more"
