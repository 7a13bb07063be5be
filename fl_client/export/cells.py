"""Cells of cards: numbers and texts as they stand in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FEWEST_SHOWN = 10
"""Fewest images that a card tells the number of."""


def count(number: int, smallest: int) -> str:
    """A number of images; a small one is not told."""
    return f"fewer than {smallest}" if number < smallest else str(number)


def number(value: float | None, *, whole: bool = False) -> str:
    """A measure with three decimals, or whole."""
    if value is None:
        return "not measured"
    return f"{value:.0f}" if whole else f"{value:.3f}"


def names(classes: Sequence[str]) -> str:
    """Class names in a row."""
    return ", ".join(text(name) for name in classes)


def text(said: str) -> str:
    """Text that comes from a configuration, as it is in Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in said)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def has_tests(facts: Mapping[str, Any]) -> bool:
    """Whether the site has a test part at all; an older MedVeil did not say."""
    found = facts.get("held_out")
    return not isinstance(found, Mapping) or found.get("tested") is not False
