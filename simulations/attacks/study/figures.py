"""The figure beside ``NAME.json``: every metric with its control, chance and wrong key, and rows of images.

A PNG on paper of its own, so that it reads the same on a light page and on a dark one. Arms differ by shape as well as
by colour, and a control that lies on the target shows as a ring around it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from medveil.files import write_bytes
from simulations.attacks.study.attack import Picture
from simulations.attacks.study.result import Measured, Result

INK, MUTED, RULE, PAPER = "#1b1d20", "#5c6168", "#dfe0dc", "#fdfdfc"
_DPI = 150
_WIDTH, _EDGE = 8.6, 0.3
_COLUMN = (_WIDTH - 2 * _EDGE) / 2
_AXES, _LEFT = (2.9, 1.2), 0.8
_PANEL = 2.0
_LINE = 0.175
_IMAGE = 1.4
_SHOWN = 4


class _Arm(NamedTuple):
    label: str
    colour: str
    style: dict[str, Any]


_ARMS = {
    "chance": _Arm("chance", "#b8480b", {"marker": "x", "markersize": 5, "linestyle": (0, (4, 3))}),
    "wrong_key": _Arm("wrong key", "#a13f86", {"marker": "D", "markersize": 4}),
    "target": _Arm("target", "#0b62b0", {"marker": "o", "markersize": 4.5}),
    "control": _Arm(
        "control",
        INK,
        {"marker": "s", "markersize": 8, "markerfacecolor": "none", "linestyle": (0, (1, 2))},
    ),
}
"""In the order they are drawn."""
_ROWS = ("target", "control", "wrong_key", "chance")


def draw(result: Result, pictures: list[Picture], path: Path) -> None:
    """Write the figure of a result as PNG, readable by its owner only where it shows images.

    Raises
    ------
    StorageError
        The disk refuses it.
    """
    panels = _panels(result)
    lines = _subtitle(result)
    header = 0.75 + _LINE * len(lines) + 0.35
    height = header + _PANEL * -(-len(panels) // 2) + (_IMAGE * len(pictures) + 0.2 if pictures else 0)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    _head(figure, result, lines)
    for place, panel in enumerate(panels):
        top = header + _PANEL * (place // 2)
        left = _EDGE + _COLUMN * (place % 2)
        _panel(_axes(figure, left=left + _LEFT, top=top + 0.4, width=_AXES[0], height=_AXES[1]), panel)
    for row, picture in enumerate(pictures):
        _images(figure, picture, top=height - _IMAGE * (len(pictures) - row))
    packed = io.BytesIO()
    figure.savefig(packed, format="png", facecolor=PAPER, metadata={"Software": None})
    write_bytes(path, packed.getvalue(), mode=0o600 if pictures else 0o644)


def _axes(figure: Figure, *, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _text(figure: Figure, text: str, *, left: float, top: float, **style: Any) -> None:
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - top / down, text, **{"color": INK, "va": "top", "parse_math": False, **style})


def _panels(result: Result) -> list[list[Measured]]:
    """Metrics to be drawn together: the points of a series, else one. What nothing defines is left out."""
    found: dict[str, list[Measured]] = {}
    for name, each in result.metrics.items():
        if each.target is not None or each.control is not None:
            found.setdefault(each.series or name, []).append(each)
    return list(found.values())


def _head(figure: Figure, result: Result, lines: list[str]) -> None:
    _text(figure, f"{result.attack}: {result.verdict}", left=_EDGE, top=0.28, fontsize=15, fontweight="bold")
    for place, line in enumerate(lines):
        _text(figure, line, left=_EDGE, top=0.68 + _LINE * place, fontsize=8.5, color=MUTED)
    shown = {arm for each in result.metrics.values() for arm in _ARMS if getattr(each, arm) is not None}
    handles = [
        Line2D([], [], color=_ARMS[arm].colour, label=_label(arm, result), linewidth=1.6, **_ARMS[arm].style)
        for arm in _ROWS
        if arm in shown
    ]
    across, down = figure.get_size_inches()
    where = ((_EDGE - 0.05) / across, 1 - (0.72 + _LINE * len(lines)) / down)
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=where,
        ncols=len(handles) or 1,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        borderaxespad=0,
        handlelength=2.6,
    )


def _label(arm: str, result: Result) -> str:
    if arm == "control":
        return "unprotected control" if result.control == "none" else f"control: {result.control}"
    return _ARMS[arm].label


def _subtitle(result: Result) -> list[str]:
    target = result.target
    hidden = f"{target['scheme']}, blocks of {target['block']}{', negated' if target['negate'] else ''}"
    shape = f"{target['height']}x{target['width']}x{target['channels']}"
    text = (
        f"Target: {hidden}, images {shape}. The attacker knows: {', '.join(result.knowledge)}. "
        f"Keys: {result.keys}; images: {result.n}; control: {result.control or 'none'}. "
        "Lines and bands are 95 % intervals with the key as the unit."
    )
    return [line for each in (text, *result.notes) for line in textwrap.wrap(each, width=118)]


def _panel(axes: Axes, metrics: list[Measured]) -> None:
    axes.set_facecolor(PAPER)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, labelsize=8, colors=MUTED)
    axes.set_axisbelow(True)
    if len(metrics) > 1:
        _curve(axes, metrics)
    else:
        _dots(axes, metrics[0])
    heading = "\n".join(textwrap.wrap(_heading(metrics), width=50))
    axes.set_title(heading, loc="left", fontsize=9, color=INK, pad=6, parse_math=False)


def _heading(metrics: list[Measured]) -> str:
    text = metrics[0].text.partition(", from ")[0] if len(metrics) > 1 else metrics[0].text
    return text if metrics[0].unit in text else f"{text} ({metrics[0].unit})"


def _dots(axes: Axes, measured: Measured) -> None:
    """One row for each arm: the mean, and its interval as a line."""
    shown = [arm for arm in _ROWS if getattr(measured, arm) is not None]
    for row, arm in enumerate(shown):
        value, (_, colour, style) = getattr(measured, arm), _ARMS[arm]
        low, high = measured.ci95.get(arm) or (value, value)
        axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([value], [row], **{**style, "linestyle": "none"}, color=colour, markeredgewidth=1.4)
        axes.annotate(
            _number(value), (value, row), (0, 6), textcoords="offset points", fontsize=7.5, ha="center", color=colour
        )
    axes.set_ylim(len(shown) - 0.4, -0.85)
    axes.set_yticks(range(len(shown)), [_ARMS[arm].label for arm in shown])
    axes.grid(visible=True, axis="x", color=RULE, linewidth=0.8)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    if _is_share([measured]):
        axes.set_xlim(-0.06, 1.06)


def _curve(axes: Axes, metrics: list[Measured]) -> None:
    """A line for each arm over what the series runs over, on a logarithmic axis."""
    at = [float(each.at or 0.0) for each in metrics]
    for arm, (_, colour, style) in _ARMS.items():
        values = [getattr(each, arm) for each in metrics]
        if any(value is None for value in values):
            continue
        bands = [each.ci95.get(arm) or (value, value) for each, value in zip(metrics, values, strict=True)]
        axes.fill_between(at, [low for low, _ in bands], [high for _, high in bands], color=colour, alpha=0.18, lw=0)
        axes.plot(at, values, color=colour, linewidth=1.6, **style)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(at, [f"{each:g}" for each in at])
    axes.set_xlabel(metrics[0].along or "", fontsize=8, color=MUTED, labelpad=2)
    axes.grid(visible=True, axis="y", color=RULE, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if _is_share(metrics):
        axes.set_ylim(-0.06, 1.08)


def _is_share(metrics: Iterable[Measured]) -> bool:
    """Whether all values lie between 0 and 1, and the axis can say so."""
    return all(
        each.unit in {"share", "SSIM", "correlation"}
        and all(low >= -0.05 for low, _ in (bounds for bounds in each.ci95.values() if bounds))
        for each in metrics
    )


def _number(value: float) -> str:
    if abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _images(figure: Figure, picture: Picture, *, top: float) -> None:
    label = "\n".join(textwrap.wrap(picture.label, 22))
    _text(figure, label, left=_EDGE + 1.75, top=top + _IMAGE / 2, fontsize=9, ha="right", va="center")
    for place, image in enumerate(picture.images[:_SHOWN]):
        edge = _IMAGE - 0.1
        axes = _axes(figure, left=_EDGE + 1.95 + place * (edge + 0.1), top=top, width=edge, height=edge)
        axes.set_axis_off()
        axes.imshow(_shown(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _shown(image: npt.NDArray) -> npt.NDArray[np.uint8]:
    eight = (image >> 8 if image.dtype == np.uint16 else image).astype(np.uint8)
    return np.moveaxis(eight, 0, -1) if len(eight) == 3 else eight[0]
