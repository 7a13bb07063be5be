"""How images are dealt: a bar a site, as long as its training images are many, in pieces a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from simulations.report.figures import INK, MUTED, RULE, SERIES, canvas, page_svg, shortened
from simulations.report.record import number

_WIDTH = 680
_ROW, _FOOT, _HEAD = 22, 46, 26
_FONT = 11.5
_MOST_SITES, _MOST_CLASSES = 60, 12
_LONGEST = 80


def dealt(classes: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """The training images of each site by class; None where a site told no counts, or there are too many to draw.

    Parameters
    ----------
    classes
        Class names.
    rows
        ``site`` and ``counts``, one a class, as the sites said before round 1.
    """
    counts = [[number(each) for each in row["counts"]] for row in rows]
    known = all(each is not None for row in counts for each in row)
    if not known or not counts or not 0 < len(classes) <= _MOST_CLASSES or len(rows) > _MOST_SITES:
        return None
    height = _HEAD + _ROW * len(rows) + _FOOT
    figure, axes = canvas(width=_WIDTH, height=height, name="dealt")
    figure.subplots_adjust(left=0.16, right=0.97, top=1 - _HEAD / height, bottom=_FOOT / height)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=True, axis="x", color=RULE, linewidth=1)
    axes.spines["left"].set_visible(False)
    left = [0.0] * len(rows)
    for place, name in enumerate(classes):
        own = [float(row[place] or 0) for row in counts]
        colour, faint = SERIES[place % len(SERIES)], 1.0 if place < len(SERIES) else 0.5
        axes.barh(range(len(rows)), own, left=left, height=0.66, color=colour, alpha=faint, label=shortened(name))
        left = [before + each for before, each in zip(left, own, strict=True)]
    axes.set_yticks(
        range(len(rows)), [shortened(str(row.get("site", ""))) for row in rows], color=INK, parse_math=False
    )
    axes.set_xlabel("training images", color=MUTED, fontsize=_FONT, labelpad=3)
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False, fontsize=_FONT, borderpad=0, handlelength=1
    )
    for text in legend.get_texts():
        text.set_color(INK)
        text.set_parse_math(False)
    names = [shortened(name, _LONGEST) for name in classes]
    said = "; ".join(
        f"{shortened(str(row.get('site', '')), _LONGEST)} {sum(map(float, filter(None, own))):.0f} ("
        + ", ".join(f"{name} {float(each or 0):.0f}" for name, each in zip(names, own, strict=True))
        + ")"
        for row, own in zip(rows, counts, strict=True)
    )
    return page_svg(figure, name="dealt", label=f"Training images of each site by class: {said}")
