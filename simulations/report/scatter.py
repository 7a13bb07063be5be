"""What a choice gives away over what it costs: a dot a place, each group with a colour and a shape of its own."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medveil.files import write_bytes
from simulations.report.figures import INK, MARKERS, MUTED, PAPER, RULE, SERIES, canvas, page_svg, shortened

_WIDTH, _PLOT, _LINE, _FOOT = 420, 270, 17, 56
_FONT = 11.5
_PRINTED: Mapping[str, str] = {
    INK: "#1b1d20",
    MUTED: "#5c6168",
    RULE: "#dfe0dc",
    PAPER: "#fdfdfc",
    **dict(zip(SERIES, ("#0b62b0", "#b8480b", "#00795c", "#a13f86", "#7a6400", "#3d7d9c"), strict=True)),
}
"""Colours on paper of its own, by the sentinels that a page replaces by its own colours."""
_DPI = 150


class Spot(NamedTuple):
    """A dot: its group, what it costs, what it gives away, and whether it is filled."""

    group: str
    x: float
    y: float
    filled: bool


class Titles(NamedTuple):
    """What the axes measure, and what a filled dot and a ring are."""

    x: str
    y: str
    filled: str
    ring: str


def scatter(spots: Sequence[Spot], titles: Titles, *, name: str, label: str, aim: tuple[float, float]) -> Markup:
    """The chart as part of a page.

    Parameters
    ----------
    spots
        The dots.
    titles
        What they mean.
    name
        Prefix of every id, unique in the page.
    label
        What a screen reader says.
    aim
        The most that would be taken on both axes: the corner below it is marked.
    """
    figure, axes = canvas(width=_WIDTH, height=_height(spots), name=name)
    _draw(axes, spots, titles, aim=aim, colours={})
    return page_svg(figure, name=name, label=label)


def print_scatter(path: Path, spots: Sequence[Spot], titles: Titles, *, aim: tuple[float, float]) -> None:
    """The same as a PNG on paper of its own (StorageError where the disk refuses)."""
    figure = Figure(figsize=(_WIDTH / 72, _height(spots) / 72), dpi=_DPI, facecolor=_PRINTED[PAPER])
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(_PRINTED[PAPER])
    _draw(axes, spots, titles, aim=aim, colours=_PRINTED)
    packed = io.BytesIO()
    figure.savefig(packed, format="png", facecolor=_PRINTED[PAPER], metadata={"Software": None})
    write_bytes(path, packed.getvalue())


def _height(spots: Sequence[Spot]) -> int:
    """Of the whole drawing: the plot, its title, and a line for each group and for what dots and rings are."""
    return 10 + _PLOT + _FOOT + _LINE * (len({each.group for each in spots}) + 2) + 14


def _draw(
    axes: Axes, spots: Sequence[Spot], titles: Titles, *, aim: tuple[float, float], colours: Mapping[str, str]
) -> None:
    def of(colour: str) -> str:
        return colours.get(colour, colour)

    groups = list(dict.fromkeys(each.group for each in spots))
    height = _height(spots)
    axes.set_position((0.13, 1 - (_PLOT + 10) / height, 0.84, _PLOT / height))
    axes.grid(visible=True, color=of(RULE), linewidth=1)
    axes.set_axisbelow(True)
    for at, line in ((aim[0], axes.axvline), (aim[1], axes.axhline)):
        line(at, color=of(MUTED), linewidth=1, linestyle=(0, (1, 3)), zorder=1)
    handles = []
    for place, group in enumerate(groups):
        # Six colours by six shapes: where colours come back, shapes differ.
        colour = of(SERIES[place % len(SERIES)])
        marker = MARKERS[(place + place // len(SERIES)) % len(MARKERS)]
        for filled in (True, False):
            own = [each for each in spots if each.group == group and each.filled is filled]
            face = colour if filled else "none"
            axes.plot(
                [each.x for each in own],
                [each.y for each in own],
                marker,
                color=colour,
                markerfacecolor=face,
                markersize=7,
                zorder=3,
            )
        handles.append(Line2D([], [], linestyle="", marker=marker, color=colour, label=shortened(group, 44)))
    for filled, text in ((True, titles.filled), (False, titles.ring)):
        face = of(INK) if filled else "none"
        handles.append(
            Line2D([], [], linestyle="", marker="o", color=of(INK), markerfacecolor=face, label=shortened(text, 44))
        )
    below = -_FOOT / _PLOT
    legend = axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, below), frameon=False, fontsize=_FONT
    )
    for each in legend.get_texts():
        each.set_color(of(INK))
        each.set_parse_math(False)
    axes.set_ylim(-0.04, 1.04)
    axes.margins(x=0.06)
    axes.set_xlabel(titles.x, color=of(MUTED), fontsize=_FONT, labelpad=4)
    axes.set_ylabel(titles.y, color=of(MUTED), fontsize=_FONT, labelpad=4)
    axes.tick_params(length=0, pad=6, labelsize=_FONT, colors=of(MUTED))
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(of(RULE))
