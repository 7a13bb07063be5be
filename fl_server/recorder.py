"""What the replies of a run say, as lines of metrics.jsonl and running totals."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from fl_server.arrays import payload
from fl_server.collect import Reply, said
from fl_server.metrics import ALL, Line, MetricsLog, has_phase, line, measures_of, metrics_of, together, total
from fl_server.site_bases import SiteBases
from fl_server.watch import Watcher
from fl_server.weights import Weights
from medveil.contract import SECONDS
from medveil.errors import FederationError

VALIDATE = "validate"
"""An evaluation on validation images alone."""
_REPORTED: dict[str, tuple[str, str | None]] = {
    "train": ("train", "validation"),
    "evaluate": ("test", "validation"),
    VALIDATE: ("validation", None),
}


class Recorder:
    """Writes a line for each reply as it arrives, and one for all sites when a phase closes.

    A train reply of round r may carry validation measures of the model that came in: they belong to round r - 1.

    Parameters
    ----------
    log
        The metrics file.
    watch
        Hears every line.
    weights
        How much each site counts in the line of all.
    bases
        What sites said that they stand on.

    Attributes
    ----------
    refused
        Reason for each site of this phase whose measures are not possible, or which stands on something else than it
        did: its reply does not count.
    by_site
        By phase, the lines of the sites that counted when the last was closed.
    validated_apart
        Whether every round is validated at all sites, so that what some measured before they trained is not written.
    """

    def __init__(self, log: MetricsLog, watch: Watcher, weights: Weights, *, bases: SiteBases) -> None:
        self._log, self._watch, self._weights, self._bases = log, watch, weights, bases
        self.refused: dict[str, str] = {}
        self.bytes_up = self.bytes_down = 0
        self._lines: dict[str, list[Line]] = {}
        self.metrics: dict[str, dict[str, float | None]] = {}
        self.by_site: dict[str, dict[str, Line]] = {}
        self.validated_apart = False

    @property
    def totals(self) -> dict[str, Any]:
        """Lines written and bytes moved, for a checkpoint."""
        return {"lines": self._log.count, "bytes_up": self.bytes_up, "bytes_down": self.bytes_down}

    def go_back(self, totals: dict[str, Any] | None) -> None:
        """Go back to what a checkpoint had seen, or to the start."""
        totals = totals or {"lines": 0, "bytes_up": 0, "bytes_down": 0}
        self._log.cut(totals["lines"])
        self.bytes_up, self.bytes_down = totals["bytes_up"], totals["bytes_down"]

    def open(self) -> None:
        """Begin a phase."""
        self._lines, self.metrics, self.refused = {}, {}, {}

    def sent(self, count: int) -> None:
        """Count bytes sent to a site."""
        self.bytes_down += count

    def took(self, reply: Reply, *, kind: str, round_: int, down: int) -> None:
        """Write the lines of one reply ("train", "evaluate", `VALIDATE`), or note why it does not count."""
        if reply.message is None:
            return
        up = payload(reply.message)
        self.bytes_up += up
        try:
            self._bases.check(reply.site, reply.message)
            metrics = metrics_of(reply.message, kind, site=reply.site)
        except FederationError as error:
            self.refused[reply.site] = said(error.problem)
            return
        self.metrics[reply.site] = metrics
        main, validation = _REPORTED[kind]
        # First what was measured first: the model that came in, and then what training made of it.
        if validation is not None and has_phase(metrics, validation) and not (kind == "train" and self.validated_apart):
            of_round = round_ - 1 if kind == "train" else round_
            self._write(
                line(round_=of_round, site=reply.site, phase=validation, measures=measures_of(metrics, validation))
            )
        self._write(
            line(
                round_=round_,
                site=reply.site,
                phase=main,
                measures=measures_of(metrics, main),
                seconds=metrics.get(SECONDS),
                bytes_up=up,
                bytes_down=down,
            )
        )

    def close(self, *, seconds: float, leaving_out: Iterable[str] = ()) -> dict[str, Line]:
        """Write the lines of all sites together.

        Parameters
        ----------
        seconds
            Wall time of the phase.
        leaving_out
            Sites whose update was left out: their measures do not count.

        Returns
        -------
        dict
            The line of each phase measured, by phase.
        """
        made = {}
        self.by_site = {}
        left_out = set(leaving_out)
        for phase, lines in self._lines.items():
            counted = [each for each in lines if each["site"] not in left_out]
            self.by_site[phase] = {each["site"]: each for each in counted}
            traffic = {name: total(lines, name) for name in ("bytes_up", "bytes_down")}
            wall = None if traffic["bytes_down"] is None else seconds
            measures = together(counted, functools.partial(self._weights.among, phase=phase))
            made[phase] = line(
                round_=lines[0]["round"], site=ALL, phase=phase, measures=measures, seconds=wall, **traffic
            )
        self._lines = {}
        for each in made.values():
            self._write(each)
        self._lines = {}
        return made

    def _write(self, made: Line) -> None:
        self._log.append(made)
        self._lines.setdefault(made["phase"], []).append(made)
        self._watch.line(made)
