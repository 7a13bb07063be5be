"""How a run went, round by round: charts, and the numbers behind them."""

from __future__ import annotations

from typing import Any, NamedTuple

from markupsafe import Markup

from simulations.report import figures
from simulations.report.record import ALL, RunRecord, number

_CHARTS = (
    ("loss", "Loss", "cross-entropy, nats"),
    ("accuracy", "Accuracy", "share of images"),
    ("auroc", "AUROC", "area"),
)

_PIXELS = (("loss", "Reconstruction loss", "squared error"),)


class Chart(NamedTuple):
    """A drawn chart and its heading."""

    heading: str
    drawing: Markup


def charts(run: RunRecord) -> list[Chart]:
    """A chart of each measure over rounds, by site and over all; none of a measure nobody made."""
    majority = number((run.summary or {}).get("majority_rate"))
    references = {"accuracy": None if majority is None else ("majority", majority), "auroc": ("chance", 0.5)}
    made = []
    for measure, heading, title in _PIXELS if run.pixels else _CHARTS:
        lines = [figures.Line(site, run.curve("validation", measure, site)) for site in run.curve_sites]
        if measure == "loss":
            lines.append(figures.Line("training", run.curve("train", measure, ALL), dashed=True))
        lines.append(figures.Line(ALL, main := run.curve("validation", measure, ALL), main=True))
        drawn = [line for line in lines if line.points]
        # One point is no curve: what was fitted at once has no rounds.
        if any(len(line.points) > 1 for line in drawn):
            label = figures.described(f"{heading} over rounds, mean of all sites", main)
            level = references.get(measure)
            chart = figures.curves(drawn, name=f"curve-{measure}", label=label, reference=level, title=title)
            made.append(Chart(heading, chart))
    return made


def rounds(run: RunRecord) -> list[dict[str, Any]]:
    """The numbers behind the curves: one row for each round, over all sites."""
    table: dict[int, dict[str, Any]] = {}
    for line in run.metrics:
        if line["site"] != ALL:
            continue
        row = table.setdefault(line["round"], {"round": line["round"], "train": {}, "validation": {}, "test": {}})
        if line["phase"] in row:
            row[line["phase"]] = line
    return [table[each] for each in sorted(table)]
