"""The page: ``matrix.html``, with the figure as ``matrix.png`` beside it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from medveil.files import write_text
from simulations.attacks.matrix import words as figures
from simulations.attacks.tradeoff import words
from simulations.attacks.tradeoff.export import CSV, JSON, MARKDOWN
from simulations.attacks.tradeoff.places import LAYERS
from simulations.attacks.tradeoff.table import MOST_BELOW, Cell, Row, Table, findings
from simulations.attacks.tradeoff.utility import MEASURED
from simulations.report import page
from simulations.report.links import links
from simulations.report.scatter import Spot, Titles, print_scatter, scatter

PAGE, PICTURE = "matrix.html", "matrix.png"
_AIM_SHARE = 0.05
"""Of the way from chance to the control: where the line of the aim is drawn; no verdict rests on it."""
_TITLES = Titles(
    x="points of accuracy below plain FedAvg",
    y="most that leaks: 0 chance, 1 as unprotected",
    filled="the server reads updates",
    ring="it reads sums",
)
_LEGEND = ("succeeds", "above chance", "at chance", "broken attack", "not applicable", "not measured", "failed")


class Shown(NamedTuple):
    """A cell as it is shown."""

    state: Any
    figure: str
    within: str
    chance: str
    control: str
    why: str


class Line(NamedTuple):
    """A place as it is shown under a view."""

    row: Row
    cells: list[Shown]


def write_page(folder: Path, table: Table, *, spent: dict[str, str]) -> Path:
    """Write page and picture.

    Parameters
    ----------
    folder
        Where they go.
    table
        The table.
    spent
        What it took, in words by what it is.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    style = Path(page.__file__).with_name("matrix.css").read_text(encoding="utf-8")
    spots = _spots(table)
    chart = None
    if spots:
        label = f"{_TITLES.y}, over {_TITLES.x}: " + "; ".join(f"{s.group} {s.x:.1f}, {s.y:.2f}" for s in spots[:40])
        aim = (MOST_BELOW, _AIM_SHARE)
        chart = scatter(spots, _TITLES, name="tradeoff", label=label, aim=aim)
        print_scatter(folder / PICTURE, spots, _TITLES, aim=aim)
    text = page.render(
        "tradeoff.html",
        title=f"Utility against leakage: {table.name}",
        headline=words.headline(table),
        trial=words.trial(table),
        table=table,
        views=[(view, _groups(table, view.name)) for view in table.views],
        baseline=f"{words.worth(table.baseline)} {words.within(table.baseline)}",
        conclusions=words.conclusions(table),
        nearest=[(each.row.place.text, words.missed(each)) for each in findings(table)[:8]],
        layers=list(LAYERS.values()),
        states=[words.STATES[name] for name in _LEGEND],
        chart=chart,
        spent=list(spent.items()),
        most_below=MOST_BELOW,
        words=words,
        figures=figures,
        own_style=Markup(style),
        files=links(folder, (CSV, JSON, MARKDOWN, PICTURE)),
    )
    path = folder / PAGE
    write_text(path, text, mode=0o600)
    return path


def _groups(table: Table, view: str) -> list[tuple[str, list[Line]]]:
    """Places by policy."""
    lines = [Line(row, [_shown(row.cell(view, each.name)) for each in table.attackers]) for row in table.rows]
    return [(str(policy), list(own)) for policy, own in groupby(lines, key=lambda each: each.row.place.policy)]


def _shown(cell: Cell) -> Shown:
    result = cell.result
    main = None if result is None else result.metrics.get(result.main)
    state = words.STATES[cell.state]
    if main is None or main.target is None:
        return Shown(state, "", "", "", "", cell.reason)
    control = f"control {figures.number(main.control)}"
    within = figures.within(main, "target") or figures.without(main, "target")
    return Shown(state, figures.number(main.target), within, figures.chance(main), control, cell.reason)


def _spots(table: Table) -> list[Spot]:
    """Each measured place by the most that any attacker but the malicious server gets under any view."""
    honest = {each.name for each in table.attackers if not each.malicious}
    made = []
    for row in table.rows:
        below = row.worth.below
        shares = [each.share for each in row.cells if each.attack in honest and each.share is not None]
        if row.worth.state == MEASURED and below is not None and shares:
            made.append(Spot(str(row.place.policy), below, max(shares), not row.place.layer.summed))
    return made
