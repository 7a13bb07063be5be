"""What was counted, for people: a page that needs nothing but itself, and a table for spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from fl_server.counts_template import PAGE as TEMPLATE
from fl_server.metrics import ALL
from medveil.counting import AGES, CLASSES, INTENSITIES, SCANNERS
from medveil.files import write_text
from medveil.sheets import sheet

PAGE, SHEET = "statistics.html", "statistics.csv"
_HEADS = ("histogram", "cell", "site", "images")
_TITLES = {
    CLASSES: "Classes",
    AGES: "Ages, in years",
    SCANNERS: "Scanners",
    INTENSITIES: "Intensities, 0 (black) to 255, as shares of each image's pixels",
}


def write_pages(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write page and table of statistics.json's contents into a run folder; returns the page (StorageError)."""
    write_text(folder / SHEET, as_sheet(document))
    write_text(folder / PAGE, as_page(document))
    return folder / PAGE


def as_sheet(document: Mapping[str, Any]) -> str:
    """A row a number: of all sites together, then of each that told its own."""
    rows: list[tuple[object, ...]] = [_HEADS]
    for name, histogram in document["histograms"].items():
        each = {ALL: histogram["counts"], **{site: own[name] for site, own in document["by_site"].items()}}
        rows += [
            (name, cell, site, count)
            for site, counts in each.items()
            for cell, count in zip(histogram["cells"], counts, strict=True)
        ]
    return sheet(rows)


def as_page(document: Mapping[str, Any]) -> str:
    """The page, as HTML."""
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["images"] = images
    figures = [_figure(name, histogram, document) for name, histogram in document["histograms"].items()]
    return made.from_string(TEMPLATE).render(document=document, figures=figures)


def images(count: float) -> str:
    """A number of images; of intensities it may be a part of one."""
    return f"{count:.0f}" if float(count).is_integer() else f"{count:.1f}"


def _figure(name: str, histogram: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    largest = max(histogram["counts"], default=0.0) or 1.0
    own = {site: counts[name] for site, counts in document["by_site"].items()}
    # Scanners that nobody has would be most of the page.
    shown = [
        (cell, count, 100 * count / largest, [counts[place] for counts in own.values()])
        for place, (cell, count) in enumerate(zip(histogram["cells"], histogram["counts"], strict=True))
        if count or name != SCANNERS
    ]
    quantiles = histogram["percentiles"]
    return {
        "title": _TITLES[name],
        "rows": shown,
        "sites": list(own),
        "total": histogram["total"],
        "left": len(histogram["cells"]) - len(shown),
        "untold": len(histogram["untold"]),
        "percentiles": "" if quantiles is None else ", ".join(f"{key} {value:g}" for key, value in quantiles.items()),
    }
