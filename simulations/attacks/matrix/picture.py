"""The table as a picture, for slides and papers: ``matrix.png``, on paper of its own like the attacks' figures."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medveil.files import write_bytes
from simulations.attacks.matrix import words
from simulations.attacks.matrix.table import Cell, Table
from simulations.attacks.study.figures import INK, MUTED, PAPER

_DPI = 150
_LEGEND = 0.34
_CELL, _HEIGHT, _HEAD = 1.3, 0.62, 1.9
_LOOK = {
    "succeeds": ("#f3c9bf", "#6d1404", ""),
    "above": ("#fae3b4", "#5a3d00", ""),
    "chance": ("#dfe8f2", "#1d3a5c", ""),
    "broken": ("#ecece8", INK, "xxx"),
    "inapplicable": ("#ecece8", MUTED, "///"),
    "unscored": ("#ecece8", MUTED, "---"),
    "unmeasured": (PAPER, MUTED, "\\\\\\"),
    "diagnostic": (PAPER, INK, ""),
}
"""Fill, ink and hatching by a state's name; never green, and hatched where nothing was shown."""


def draw(table: Table, path: Path) -> None:
    """Write the picture.

    Raises
    ------
    StorageError
        The disk refuses it.
    """
    groups = [words.holds(row.knowledge) for row in table.attacks]
    lines: list[int | str] = []
    for at, held in enumerate(groups):
        if at == 0 or held != groups[at - 1]:
            lines.append(held)
        lines.append(at)
    width = max(7.5, _HEAD + _CELL * len(table.columns) + 0.2)
    legend = _LEGEND * len([each for each in words.STATES.values() if each.word]) + 0.5
    height = 1.3 + _HEIGHT * sum(isinstance(each, int) for each in lines) + 0.4 * len(set(groups)) + legend
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    _text(axes, 0.2, 0.3, words.title(table), size=13, weight="bold")
    for place, line in enumerate(textwrap.wrap(words.headline(table), int(width * 13))[:2]):
        _text(axes, 0.2, 0.57 + 0.18 * place, line, size=8, colour=MUTED)
    for place, scheme in enumerate(table.columns):
        _text(axes, _HEAD + _CELL * (place + 0.5), 1.05, scheme, size=8, weight="bold", ha="center")
    top = 1.2
    for each in lines:
        if isinstance(each, str):
            _text(axes, 0.2, top + 0.24, f"The attacker has {each}", size=8, colour=MUTED)
            top += 0.4
            continue
        row = table.attacks[each]
        _text(axes, 0.2, top + _HEIGHT / 2, row.attack, size=9)
        for place, cell in enumerate(row.cells):
            _cell(axes, cell, left=_HEAD + _CELL * place, top=top)
        top += _HEIGHT
    _legend(axes, top + 0.3, width)
    packed = io.BytesIO()
    figure.savefig(packed, format="png", facecolor=PAPER, metadata={"Software": None})
    write_bytes(path, packed.getvalue())


def _cell(axes: Axes, cell: Cell, *, left: float, top: float) -> None:
    state = words.STATES[cell.state]
    _box(axes, state.name, left=left + 0.03, top=top + 0.03, width=_CELL - 0.06, height=_HEIGHT - 0.06)
    ink = _LOOK[state.name][1]
    middle = left + _CELL / 2
    main = cell.main
    if main is None or main.target is None:
        _text(axes, middle, top + _HEIGHT / 2, state.word, size=7, colour=ink, ha="center", boxed=True)
        return
    hatched = bool(_LOOK[state.name][2])
    lines = ((words.number(main.target), 8.5), (words.within(main, "target"), 6.8), (words.chance(main), 6.8))
    for place, (text, size) in enumerate(lines):
        _text(axes, middle, top + 0.15 + 0.165 * place, text, size=size, colour=ink, ha="center", boxed=hatched)


def _legend(axes: Axes, top: float, width: float) -> None:
    shown = [each for each in words.STATES.values() if each.word]
    for place, state in enumerate(shown):
        at = top + _LEGEND * place
        _box(axes, state.name, left=0.2, top=at, width=1.2, height=0.24)
        _text(axes, 0.8, at + 0.12, state.word, size=6.8, colour=_LOOK[state.name][1], ha="center", boxed=True)
        _text(axes, 1.55, at + 0.12, textwrap.fill(state.meaning, int((width - 1.7) * 14)), size=7.5)


def _box(axes: Axes, name: str, *, left: float, top: float, width: float, height: float) -> None:
    fill, _, hatch = _LOOK[name]
    axes.add_patch(
        Rectangle((left, top), width, height, facecolor=fill, edgecolor="#c4c6c1", hatch=hatch, linewidth=0.6)
    )


def _text(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    colour: str = INK,
    ha: str = "left",
    weight: str = "normal",
    boxed: bool = False,
) -> None:
    behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0} if boxed and text else None
    axes.text(
        x, y, text, fontsize=size, color=colour, ha=ha, va="center", fontweight=weight, bbox=behind, parse_math=False
    )
