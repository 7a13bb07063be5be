"""A run that counts images: each site is asked once, and what comes back is numbers, or sums of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fl_server.collect import Collector, Reply, said
from fl_server.config import ServerSettings
from fl_server.counts import STATISTICS_FILE, Counts, checked_sums, counts_in, statistics_of, total_of
from fl_server.counts_page import write_pages
from fl_server.manifest import Manifest
from fl_server.metrics import MetricsLog
from fl_server.phases import Phases, failed
from fl_server.preflight import preflight
from fl_server.recorder import Recorder
from fl_server.rows import SiteRow
from fl_server.secagg.summed_run import SummedRun, Told
from fl_server.site_bases import SiteBases
from fl_server.summary import counted_summary
from fl_server.watch import Watcher
from fl_server.weights import Weights
from medveil.contract import CONFIG, ROUND, RunConfig
from medveil.counting import STATISTICS, StatisticsConfig, from_a_row
from medveil.errors import FederationError
from medveil.files import write_json

_ROUND = 0
"""Before any: nothing was trained."""


@dataclass
class Tally:
    """What has come: each site's floor, and its numbers where it tells its own."""

    cells: dict[str, list[str]]
    summed: bool
    floors: dict[str, int] = field(default_factory=dict)
    by_site: dict[str, Counts] = field(default_factory=dict)


class CountsRecorder(Recorder):
    """Takes replies of numbers of images into a tally; nothing of them is a measure, or a line of metrics.jsonl."""

    def __init__(self, folder: Path, watch: Watcher, tally: Tally) -> None:
        log, bases = MetricsLog(folder / "metrics.jsonl"), SiteBases({}, lambda known: None)
        super().__init__(log, watch, Weights({}, most_share=1.0), bases=bases, summed=tally.summed)
        self._tally = tally

    def took(self, reply: Reply, *, kind: str, round_: int, down: int) -> None:
        """Take one reply in, or note why it does not count."""
        if reply.message is None:
            return
        try:
            floor, counts = counts_in(reply.message, self._tally.cells, site=reply.site, summed=self._tally.summed)
        except FederationError as error:
            self.refused[reply.site] = said(error.problem)
            return
        self._tally.floors[reply.site] = floor
        if not self._tally.summed:
            self._tally.by_site[reply.site] = counts


@dataclass(frozen=True)
class Survey:
    """One run's.

    Parameters
    ----------
    run, asked, settings
        The run, what it counts, and the server's own settings.
    folder
        Of the run.
    collector, phases, manifest, watch, told
        As of a run that trains (`fl_server.federation`).
    """

    run: RunConfig
    asked: StatisticsConfig
    settings: ServerSettings
    folder: Path
    collector: Collector
    phases: Phases
    manifest: Manifest
    watch: Watcher
    told: Told

    def made(self) -> dict[str, Any]:
        """Ask all sites, and leave what they counted; returns the summary.

        Raises
        ------
        FederationError
            Too few sites are there or agree, none answers, or the sum cannot be opened.
        StorageError
            The run folder cannot be written.
        """
        began = time.monotonic()
        rows = preflight(self.collector, run=self.run, settings=self.settings, model_hash="", say=self.phases.say)
        self.manifest.update(sites=[row.as_data() for row in rows])
        tally = Tally(self.asked.cells(self.run.classes), self.run.secagg.on)
        counts, sites, missing = self._asked_for(rows, tally)
        document = statistics_of(
            self.run,
            self.asked,
            counts,
            by_site=tally.by_site,
            sites=sites,
            floors={site: tally.floors[site] for site in sites if site in tally.floors},
            missing=missing,
        )
        write_json(self.folder / STATISTICS_FILE, document)
        page = write_pages(self.folder, document)
        summary = counted_summary(self.run, sites, page=page.name, seconds=round(time.monotonic() - began, 3))
        write_json(self.folder / "summary.json", summary)
        self.manifest.end("finished")
        self.watch.say(f"counted at {', '.join(sites)}: {page}")
        self.watch.ended(summary)
        return summary

    def _asked_for(self, rows: list[SiteRow], tally: Tally) -> tuple[Counts, list[str], dict[str, str]]:
        """The numbers of all, whose they are, and why others' are not among them."""
        recorder = CountsRecorder(self.folder, self.watch, tally)
        messages = [self._message(row) for row in rows]
        summed = SummedRun.of(
            self.run,
            self.settings,
            rows,
            self.told,
            phases=self.phases,
            recorder=recorder,
            manifest=self.manifest,
        )
        if summed is not None:
            sums, sites, missing = summed.counted(_ROUND, messages, cells=sum(map(len, tally.cells.values())))
            self.phases.say_left_out(_ROUND, missing)
            made = from_a_row(checked_sums(sums, tally.cells), tally.cells)
            summed.settled(STATISTICS, _ROUND)
            summed.take_leave(self.collector, _ROUND)
            return made, list(sites), missing
        replies = self.phases.exchange(messages, recorder, kind=STATISTICS, round_=_ROUND)
        missing = failed(replies, recorder)
        self.phases.say_left_out(_ROUND, missing)
        if not tally.by_site:
            reasons = "".join(f"; {site}: {reason}" for site, reason in missing.items())
            raise FederationError(f"no site counted its images{reasons}", where=STATISTICS)
        return total_of(tally.by_site, tally.cells), sorted(tally.by_site), missing

    def _message(self, row: SiteRow) -> Message:
        content = RecordDict({CONFIG: ConfigRecord({ROUND: _ROUND})})
        return Message(content, message_type=MessageType.EVALUATE, dst_node_id=row.node, group_id=STATISTICS)
