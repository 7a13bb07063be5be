"""The page of a study: ``poisoning.html``, one file that fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from medveil.files import write_text
from simulations.attacks.poisoning.attacks import ATTACKS, Poisoning
from simulations.attacks.poisoning.export import CSV, JSON, MARKDOWN
from simulations.attacks.poisoning.rules import CONTROL, RULES, Rule
from simulations.attacks.poisoning.table import (
    MARGIN,
    NOT_APPLICABLE,
    NOT_MEASURED,
    REFUSED,
    STOPPED,
    Cell,
    survived,
)
from simulations.report import page
from simulations.report.links import links

PAGE = "poisoning.html"


class State(NamedTuple):
    """How a state is shown: its class in the style sheet, its word, and what that means."""

    name: str
    word: str
    meaning: str


STATES = {
    "succeeds": State("succeeds", "poisoned", "Beyond what the honest twin has, by the margin fixed beforehand."),
    "above chance": State("above", "a little", "Beyond the honest twin, by less than the margin."),
    "at chance": State("chance", "held", "No more than the honest twin: the same run without an attack."),
    STOPPED: State("succeeds", "stops the run", "The server ended the run: nobody has a model of it."),
    "broken attack": State("broken", "broken attack", "It fails on the plain mean too, and says nothing of the rule."),
    REFUSED: State("inapplicable", "refused", "The rule's guarantee does not reach to so many bad sites."),
    NOT_APPLICABLE: State("inapplicable", "not applicable", "The attack needs what it cannot have under this rule."),
    NOT_MEASURED: State("unmeasured", "not measured", "It was not run."),
}


class Shown(NamedTuple):
    """A cell as it is shown."""

    state: State
    figure: str
    within: str
    twin: str
    accuracy: str
    why: str


class Held(NamedTuple):
    """How many bad sites a rule held against."""

    most: int
    why: str


class Part(NamedTuple):
    """The table of one number of bad sites."""

    bad: int
    sites: int
    rows: list[tuple[Poisoning, list[Shown]]]


def write_page(folder: Path, cells: Sequence[Cell], *, name: str, missing: int) -> Path:
    """Write the page of what was measured.

    Parameters
    ----------
    folder
        Where it goes.
    cells
        The table.
    name
        Of the experiment.
    missing
        Runs that are missing.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    attacks = [each for each in ATTACKS.values() if any(cell.attack == each.name for cell in cells)]
    rules = [each for each in RULES.values() if any(cell.rule == each.name for cell in cells)]
    most = survived(cells)
    style = Path(page.__file__).with_name("matrix.css").read_text(encoding="utf-8")
    text = page.render(
        "poisoning.html",
        title=f"Bad hospitals: {name}",
        headline=headline(cells, rules),
        missing=missing,
        margin=MARGIN,
        control=CONTROL,
        rules=rules,
        attacks=attacks,
        parts=[_part(bad, cells, attacks, rules) for bad in sorted({cell.bad for cell in cells})],
        survived=[(each, [Held(*most[each.name, rule.name]) for rule in rules]) for each in attacks],
        states=list(dict.fromkeys(STATES.values())),
        seeds=sorted({cell.seeds for cell in cells if cell.seeds}),
        own_style=Markup(style),
        files=links(folder, (CSV, JSON, MARKDOWN)),
    )
    path = folder / PAGE
    write_text(path, text)
    return path


def headline(cells: Sequence[Cell], rules: Sequence[Rule]) -> str:
    """What came of it for each rule, in a sentence."""
    parts = []
    for rule in rules:
        own = [cell for cell in cells if cell.rule == rule.name and cell.state in _KNOWN]
        if own:
            lost = sum(cell.state in _LOST for cell in own)
            parts.append(f"{rule.name} in {lost} of {len(own)}")
    return f"Poisoned or stopped: {', '.join(parts)}." if parts else "Nothing has been measured yet."


_LOST = ("succeeds", STOPPED)
_KNOWN = (*_LOST, "above chance", "at chance")


def _part(bad: int, cells: Sequence[Cell], attacks: Sequence[Poisoning], rules: Sequence[Rule]) -> Part:
    found = {(cell.attack, cell.rule): cell for cell in cells if cell.bad == bad}
    sites = next(iter(found.values())).sites
    return Part(bad, sites, [(each, [_shown(found[each.name, rule.name]) for rule in rules]) for each in attacks])


def _shown(cell: Cell) -> Shown:
    measured, state = cell.measured, STATES[cell.state]
    if measured is None or measured.target is None:
        return Shown(state, "", "", "", "", cell.reason)
    within = measured.ci95.get("target")
    twin = "" if measured.chance is None else f"honest twin {measured.chance:.2f}"
    both = cell.accuracy
    accuracy = "" if both is None or math.isnan(both[0]) else f"accuracy {both[0]:.2f} of {both[1]:.2f}"
    interval = "" if within is None else f"[{within[0]:.2f}, {within[1]:.2f}]"
    # Where accuracy is what is judged, it is the figure itself.
    return Shown(state, f"{measured.target:.2f}", interval, twin, "" if measured.direction == "lower" else accuracy, "")
