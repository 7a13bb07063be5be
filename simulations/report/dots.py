"""Runs as dots over the value that a setting had: what a sweep found along a range."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, NullLocator

from simulations.report.figures import ACCENT, MUTED, RULE, canvas, page_svg

_WIDTH, _HEIGHT = 328, 214
_FONT = 11.5


def dots_over(
    dots: Sequence[tuple[float, float]],
    *,
    name: str,
    label: str,
    titles: tuple[str, str],
    logarithmic: bool = False,
) -> Markup:
    """Dots at (value of the setting, score).

    Parameters
    ----------
    name
        Prefix of every id, unique in the page.
    label
        What a screen reader says.
    titles
        Of the level and the upright axis.
    logarithmic
        Whether values are told apart by their ratios, where they span a power of ten.
    """
    figure, axes = canvas(width=_WIDTH, height=_HEIGHT, name=name)
    figure.subplots_adjust(left=0.18, right=0.96, top=0.965, bottom=0.2)
    axes.grid(visible=True, axis="y", color=RULE, linewidth=1)
    axes.spines["left"].set_visible(False)
    values = [x for x, _ in dots]
    # Within a decade no power of ten need lie among them, and the axis would have no number.
    if logarithmic and max(values) >= 10 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        whole = all(float(each).is_integer() for each in values)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole))
    axes.plot(*zip(*dots, strict=True), "o", markersize=6, color=ACCENT, alpha=0.7, markeredgecolor=MUTED, zorder=3)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.05, y=0.1)
    axes.set_xlabel(titles[0], color=MUTED, fontsize=_FONT, labelpad=3, parse_math=False)
    axes.set_ylabel(titles[1], color=MUTED, fontsize=_FONT, labelpad=6)
    return page_svg(figure, name=name, label=label)
