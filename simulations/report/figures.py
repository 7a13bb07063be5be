"""Charts as SVG that belongs to its page: the page's font, the page's colours in light and dark, text that is text.

Matplotlib draws with sentinel colours, and each is replaced by a CSS variable of medveil/pages/style.css. The same data
give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, RULE, ACCENT, PAPER = "#010101", "#010102", "#010103", "#010104", "#010105"
SERIES = tuple(f"#01020{place}" for place in range(1, 7))
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", ACCENT: "accent", PAPER: "paper"} | {
    colour: f"series-{place}" for place, colour in enumerate(SERIES, start=1)
}
MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
_FONT = 11.5
_LETTER = 6.3
_LONGEST = 17
_WIDTH = 328
_HEIGHT = 214

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart with the name it is labelled by."""

    name: str
    points: Points
    main: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """One row of a dot-and-interval chart."""

    name: str
    value: float
    low: float
    high: float
    each: tuple[float, ...] = ()
    hidden: bool = True
    baseline: bool = False


def curves(
    lines: Sequence[Line],
    *,
    name: str,
    label: str,
    reference: tuple[str, float] | None = None,
    title: str = "",
) -> Markup:
    """Values over rounds, labelled at the ends of their lines.

    Parameters
    ----------
    lines
        The main line is drawn last and heavier; beyond `SERIES` the others turn grey and share one label.
    name
        Prefix of every id, unique in the page.
    label
        What a screen reader says.
    reference
        A level to compare with, and its name.
    title
        Of the upright axis: what it measures, and in which unit.
    """
    figure, axes = canvas(width=_WIDTH, height=_HEIGHT, name=name)
    sites = [line for line in lines if not line.main and not line.dashed]
    crowd = len(sites) > len(SERIES)
    labels: list[tuple[float, str, str]] = []
    for place, line in enumerate(sites):
        if crowd:
            _draw(axes, line, MUTED, marker=None, faint=True)
        else:
            _draw(axes, line, SERIES[place], marker=MARKERS[place])
            labels.append((line.points[-1][1], shortened(line.name), SERIES[place]))
    if crowd:
        labels.append((statistics.median(line.points[-1][1] for line in sites), "each site", MUTED))
    for line in lines:
        if line.main or line.dashed:
            _draw(axes, line, INK if line.main else MUTED, marker=None)
            labels.append((line.points[-1][1], shortened(line.name), INK if line.main else MUTED))
    if reference is not None:
        axes.axhline(reference[1], color=MUTED, linewidth=1, linestyle=(0, (1, 3)), zorder=1)
        labels.append((reference[1], reference[0], MUTED))
    _finish_curves(figure, axes, labels, title=title)
    return page_svg(figure, name=name, label=label)


@dataclass(frozen=True)
class Trace:
    """A line in a square of shares, its colour, and its number: the number decides how it is dashed."""

    points: Sequence[tuple[float, float]]
    colour: str
    place: int


class Point(NamedTuple):
    """A dot in a square of shares with the interval of its height, where it has one."""

    x: float
    y: float
    interval: tuple[float, float] | None


def square(
    paths: Sequence[Trace],
    *,
    name: str,
    label: str,
    titles: tuple[str, str],
    points: Sequence[Point] = (),
    diagonal: bool = True,
) -> Markup:
    """Shares over shares, from 0 to 1 both, with the diagonal dotted where it means something."""
    figure, axes = canvas(width=_WIDTH, height=_WIDTH - 30, name=name)
    figure.subplots_adjust(left=0.15, right=0.97, top=0.97, bottom=0.16)
    axes.grid(visible=True, color=RULE, linewidth=1)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 3)), zorder=1)
    for each in paths:
        x, y = zip(*each.points, strict=True)
        dash = _DASHES[(each.place - 1) % len(_DASHES)]
        axes.plot(x, y, color=each.colour, linewidth=1.8, linestyle=dash, zorder=3)
    for point in points:
        if point.interval is not None:
            axes.plot([point.x] * 2, point.interval, color=ACCENT, linewidth=1.4, zorder=2)
    if points:
        axes.plot([each.x for each in points], [each.y for each in points], "o-", color=ACCENT, markersize=6, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.set_xlabel(titles[0], color=MUTED, fontsize=_FONT, labelpad=3)
    axes.set_ylabel(titles[1], color=MUTED, fontsize=_FONT, labelpad=3)
    axes.spines["left"].set_visible(False)
    return page_svg(figure, name=name, label=label)


def dots(rows: Sequence[Dot], *, name: str, label: str, reference: float | None = None, title: str = "") -> Markup:
    """One row for each arm: its name, below it the mean as a dot, its interval as a line, single seeds as rings."""
    step = 38
    foot = 52 if title else 36
    height = step * len(rows) + foot + 8
    figure, axes = canvas(width=_WIDTH, height=height, name=name)
    figure.subplots_adjust(left=0.03, right=0.97, top=1 - 8 / height, bottom=foot / height)
    axes.set_ylim(len(rows) - 0.3, -0.6)
    axes.set_yticks([])
    axes.grid(visible=True, axis="x", color=RULE, linewidth=1)
    for place, row in enumerate(rows):
        colour = MUTED if row.baseline else ACCENT if row.hidden else INK
        marker = "D" if row.baseline else "o" if row.hidden else "s"
        axes.plot([row.low, row.high], [place] * 2, color=colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
        axes.plot(row.each, [place] * len(row.each), "o", markersize=8, color="none", markeredgecolor=MUTED, zorder=2)
        axes.plot([row.value], [place], marker, markersize=6.5, color=colour, zorder=4)
        axes.annotate(
            shortened(row.name, 40),
            (0.005, place - 0.36),
            xycoords=axes.get_yaxis_transform(),
            color=INK,
            fontsize=_FONT,
            va="center",
            parse_math=False,
        )
    if reference is not None:
        axes.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (1, 3)), zorder=1)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(title, color=MUTED, fontsize=_FONT, labelpad=3)
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    return page_svg(figure, name=name, label=label)


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A name for a chart: printable, and cut with an ellipsis where it is too long."""
    clean = "".join(each if each.isprintable() else " " for each in name)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def canvas(*, width: int, height: int, name: str) -> tuple[Figure, Axes]:
    """A figure of this size in CSS pixels, with one set of axes in the page's manner."""
    # 72 points to the inch makes one unit of the drawing one CSS pixel at natural size.
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_gid(f"{name}-axes")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    axes.tick_params(length=0, pad=6, labelsize=_FONT, colors=MUTED)
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def _draw(axes: Axes, line: Line, colour: str, *, marker: str | None, faint: bool = False) -> None:
    rounds, values = zip(*line.points, strict=True)
    lonely = len(rounds) == 1
    axes.plot(
        rounds,
        values,
        color=colour,
        linewidth=2.6 if line.main else 1.3,
        linestyle=(0, (4, 3)) if line.dashed else "-",
        marker=("o" if lonely and marker is None else marker) if lonely or len(rounds) <= 30 else None,
        markersize=6 if line.main else 4,
        alpha=0.5 if faint else None,
        zorder=4 if line.main else 3,
    )


def _finish_curves(figure: Figure, axes: Axes, labels: list[tuple[float, str, str]], *, title: str) -> None:
    # At least as wide as the longest fixed label, so that charts beside each other have axes of one width.
    margin = (max(len("majority"), *(len(text) for _, text, _ in labels)) * _LETTER + 16) / _WIDTH
    figure.subplots_adjust(left=0.215 if title else 0.115, right=1 - margin, top=0.965, bottom=0.175)
    axes.grid(visible=True, axis="y", color=RULE, linewidth=1)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.02, y=0.08)
    first, last = axes.dataLim.intervalx
    if last - first < 1:
        # One round alone: what matplotlib makes of a range of nothing has ticks at parts of rounds.
        axes.set_xlim(first - 1, last + 1)
        axes.set_xticks([first])
    axes.set_xlabel("round", color=MUTED, fontsize=_FONT, labelpad=3)
    axes.set_ylabel(title, color=MUTED, fontsize=_FONT, labelpad=9)
    low, high = axes.get_ylim()
    height = _HEIGHT * (0.965 - 0.175)
    wanted = [(value - low) / (high - low) * height for value, _, _ in labels]
    for (_, text, colour), place in zip(labels, spread(wanted, gap=14, low=0, high=height), strict=True):
        axes.annotate(
            text,
            (1.0, place / height),
            xytext=(8, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            fontsize=_FONT,
            fontweight="bold" if colour == INK else "normal",
            va="center",
            annotation_clip=False,
            parse_math=False,
        )


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places as near as they can be to those wanted, at least `gap` apart, in [low, high] as far as there is room.

    The sum of squared moves is least: pool adjacent violators on the places less their rank times the gap.
    """
    order = sorted(range(len(wanted)), key=lambda each: wanted[each])
    blocks: list[tuple[float, int]] = []
    for rank, each in enumerate(order):
        blocks.append((wanted[each] - rank * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, n), (second, m) = blocks[-2:]
            blocks[-2:] = [((first * n + second * m) / (n + m), n + m)]
    flat = [mean for mean, count in blocks for _ in range(count)]
    top = max(low, high - (len(order) - 1) * gap)
    made = [0.0] * len(order)
    for rank, each in enumerate(order):
        made[each] = min(max(flat[rank], low), top) + rank * gap
    return made


def page_svg(figure: Figure, *, name: str, label: str) -> Markup:
    """A figure as SVG for a page; `label` is what a screen reader says."""
    raw = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(raw.getvalue())
    # ElementTree escapes what it writes.
    return Markup(_adopted(root, name=name, label=label))


def _adopted(root: ElementTree.Element, *, name: str, label: str) -> str:
    box = root.get("viewBox", "")
    for element in root.iter():
        for child in [each for each in element if _plain(each.tag) in {"metadata", "style"}]:
            element.remove(child)
    for element in root.iter():
        element.tag = _plain(element.tag)
        element.attrib = {_plain(key): _rewritten(_plain(key), value, name) for key, value in element.attrib.items()}
    root.attrib = {"viewBox": box, "role": "img", "aria-label": label, "class": "chart"}
    return ElementTree.tostring(root, encoding="unicode")


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]


def _rewritten(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "d":
        return " ".join(value.split())
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    if key == "style":
        value = re.sub(r"font-family:[^;]*;?\s*", "", value)
        value = re.sub(r"font:\s*((?:(?:bold|\d+)\s+)?)([\d.]+px)[^;]*", _font, value)
        value = re.sub(r"#[0-9a-f]{6}", lambda found: _variable(found.group()), value)
    return value


def _font(found: re.Match[str]) -> str:
    weight = found.group(1).strip()
    return f"font-size: {found.group(2)}" + (f"; font-weight: {weight}" if weight else "")


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour


def described(what: str, points: Points) -> str:
    """A chart's main line in words, for those who do not see it."""
    if not points or not all(math.isfinite(value) for _, value in points):
        return what
    (first, start), (last, end) = points[0], points[-1]
    if first == last:
        return f"{what}: {end:.3f} at round {last}"
    return f"{what}: from {start:.3f} at round {first} to {end:.3f} at round {last}"
