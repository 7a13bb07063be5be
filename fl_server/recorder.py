"""What the replies of a run say, as lines of metrics.jsonl and running totals."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fl_server.arrays import payload
from fl_server.collect import Reply, said
from fl_server.metrics import ALL, LINE, Line, MetricsLog, has_phase, line, measures_of, metrics_of, together, total
from fl_server.same_sites import Measured
from fl_server.site_bases import SiteBases
from fl_server.watch import Watcher
from fl_server.weights import Weights
from medveil.contract import SECONDS
from medveil.errors import FederationError

VALIDATE = "validate"
"""An evaluation on validation images alone."""
HEARD = {
    "metrics": {str: {str: (float, None)}},
    "lines": [LINE],
    **dict.fromkeys(("moved_up", "bytes_up", "bytes_down"), int),
    "seconds": float,
}
"""Shape of what `Recorder.heard` gives."""
_WITHOUT_SUM = ("auroc",)
_REPORTED: dict[str, tuple[str, str | None]] = {
    "train": ("train", "validation"),
    "evaluate": ("test", "validation"),
    VALIDATE: ("validation", None),
}


@dataclass(frozen=True)
class Summed:
    """What the sites of a sum measured together, in one phase of messages ("train", "evaluate", `VALIDATE`).

    Parameters
    ----------
    kind, round
        The messages, and their round.
    metrics
        By the contract's keys.
    sites
        Whose sum it is.
    """

    kind: str
    round: int
    metrics: Mapping[str, float | None]
    sites: tuple[str, ...]

    @property
    def phases(self) -> list[str]:
        """What something was measured on, as `Recorder` writes it down."""
        main, validation = _REPORTED[self.kind]
        return [*([validation] if validation is not None and has_phase(self.metrics, validation) else []), main]

    def round_of(self, phase: str) -> int:
        """The round whose model it was."""
        return self.round - 1 if self.kind == "train" and phase == "validation" else self.round

    def measures(self, phase: str) -> Line:
        """The measures of a phase that have a sum."""
        found = measures_of(self.metrics, phase)
        return {name: value for name, value in found.items() if name not in _WITHOUT_SUM}


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
    summed
        Whether updates and measures come as sums of all sites: then no reply carries tensors.

    Attributes
    ----------
    refused
        Reason for each site of this phase whose measures are not possible, or which stands on something else than it
        did: its reply does not count.
    by_site
        By phase, the lines of the sites that counted when the last was closed; of a sum, the one line of all.
    summed
        What was summed when the last phase was closed, by the contract's keys.
    sites_of_sum
        Whose sum that was.
    validated_apart
        Whether every round is validated at all sites, so that what some measured before they trained is not written.
    """

    def __init__(
        self, log: MetricsLog, watch: Watcher, weights: Weights, *, bases: SiteBases, summed: bool = False
    ) -> None:
        self._log, self._watch, self._weights, self._bases = log, watch, weights, bases
        self._summed, self._moved_up = summed, 0
        self._opened, self._before = time.monotonic(), 0.0
        self.refused: dict[str, str] = {}
        self.bytes_up = self.bytes_down = 0
        self._lines: dict[str, list[Line]] = {}
        self._written: list[Line] = []
        self.metrics: dict[str, dict[str, float | None]] = {}
        self.by_site: dict[str, dict[str, Line]] = {}
        self.summed: Mapping[str, float | None] = {}
        self.sites_of_sum: tuple[str, ...] = ()
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
        self._lines, self.metrics, self.refused, self._moved_up = {}, {}, {}, 0
        self._written = []
        self._opened, self._before = time.monotonic(), 0.0

    @property
    def heard(self) -> dict[str, Any]:
        """What the replies of this phase said, as plain data: a run that stops in it goes on from there."""
        return {
            "metrics": self.metrics,
            "lines": self._written,
            "moved_up": self._moved_up,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "seconds": self._before + time.monotonic() - self._opened,
        }

    def goes_on(self, heard: Mapping[str, Any]) -> None:
        """Begin a phase with what its replies said to the process before, which is written down again."""
        self.open()
        self.metrics = {site: dict(metrics) for site, metrics in heard["metrics"].items()}
        for each in heard["lines"]:
            self._write(dict(each))
        self._moved_up, self._before = heard["moved_up"], heard["seconds"]
        self.bytes_up, self.bytes_down = heard["bytes_up"], heard["bytes_down"]

    def sent(self, count: int) -> None:
        """Count bytes sent to a site."""
        self.bytes_down += count

    def moved(self, *, up: int) -> None:
        """Count bytes of tensors that came in a step in which nothing is measured."""
        self.bytes_up += up
        self._moved_up += up

    def took(self, reply: Reply, *, kind: str, round_: int, down: int) -> None:
        """Write the lines of one reply ("train", "evaluate", `VALIDATE`), or note why it does not count."""
        if reply.message is None:
            return
        up = payload(reply.message)
        self.bytes_up += up
        try:
            self._bases.check(reply.site, reply.message)
            metrics = metrics_of(reply.message, site=reply.site, tensors=kind == "train" and not self._summed)
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

    def took_all(self) -> None:
        """All replies of a phase came that will: keep what their sites stand on, before one of them counts."""
        self._bases.write()

    def close(
        self,
        *,
        seconds: float,
        leaving_out: Iterable[str] = (),
        summed: Summed | None = None,
    ) -> dict[str, Line]:
        """Write the lines of all sites together.

        Parameters
        ----------
        seconds
            Wall time of the phase, in this process.
        leaving_out
            Sites whose update was left out: their measures do not count.
        summed
            What all sites of a sum measured together, in place of the mean of what each told.

        Returns
        -------
        dict
            The line of each phase measured, by phase.
        """
        made: dict[str, Line] = {}
        self.by_site, self.summed = {}, {} if summed is None else summed.metrics
        self.sites_of_sum = () if summed is None else summed.sites
        left_out = set(leaving_out)
        for phase in dict.fromkeys([*self._lines, *([] if summed is None else summed.phases)]):
            lines = self._lines.get(phase, [])
            counted = [each for each in lines if each["site"] not in left_out]
            self.by_site[phase] = {each["site"]: each for each in counted}
            traffic = {name: total(lines, name) for name in ("bytes_up", "bytes_down")}
            wall = None if traffic["bytes_down"] is None else self._before + seconds
            if traffic["bytes_up"] is not None:
                traffic["bytes_up"] += self._moved_up
            measures = together(counted, functools.partial(self._weights.among, phase=phase))
            if summed is not None:
                measures |= summed.measures(phase)
            round_ = lines[0]["round"] if summed is None else summed.round_of(phase)
            made[phase] = line(round_=round_, site=ALL, phase=phase, measures=measures, seconds=wall, **traffic)
            if summed is not None:
                self.by_site[phase] = {ALL: made[phase]}
        self._lines = {}
        for each in made.values():
            self._write(each)
        self._lines = {}
        return made

    def measured(self, phase: str, name: str) -> Measured:
        """One measure of a phase of those that were closed last, by site; of a sum there is one for all."""
        lines = self.by_site.get(phase, {})
        known = {site: values[name] for site, values in lines.items() if values[name] is not None}
        weigh = _equally if self._summed else functools.partial(self._weights.among, phase=phase)
        return Measured(known, weigh)

    def _write(self, made: Line) -> None:
        self._log.append(made)
        self._lines.setdefault(made["phase"], []).append(made)
        self._written.append(made)
        self._watch.line(made)


def _equally(sites: Iterable[str]) -> dict[str, float]:
    return dict.fromkeys(sites, 1.0)
