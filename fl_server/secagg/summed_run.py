"""What a run with secure aggregation does with a round: a model, and measures, of sums alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Message

from fl_server.checked import Checked
from fl_server.collect import Collector, said
from fl_server.config import ServerSettings
from fl_server.manifest import Manifest
from fl_server.phases import Phases, failed
from fl_server.recorder import Recorder
from fl_server.rows import SiteRow
from fl_server.secagg.joined import joins_of
from fl_server.secagg.kept import Kept
from fl_server.secagg.summing import Opened, Summing
from medveil.contract import RunConfig
from medveil.errors import AggregationError, FederationError, MedVeilError
from medveil.log import logger
from medveil.measures import RANGES
from medveil.secagg.sums import COUNT, EVALUATE, TRAIN, VALIDATE, Means, count_of, means_of
from medveil.summed_messages import number_of

_LEAVE_SECONDS = 60.0
_COARSE = 1e-3
"""Rounding of a mean, as a part of its length, that is worth a line."""
_log = logger("server")


@dataclass(frozen=True)
class Told:
    """What binds a run's sums to what server and sites agreed on, and who takes down what sites agreed to open.

    Parameters
    ----------
    settings
        Digest of what the sites were told, as `medveil.audit_messages.digest_of_config`.
    record
        Takes down an event, and its details.
    """

    settings: str = ""
    record: Callable[[str, dict[str, Any]], None] = lambda event, details: None


class SummedRun:
    """The rounds of one run.

    Parameters
    ----------
    summing
        Asks sites for their sums.
    phases, recorder, manifest
        The run's.
    going_on
        How a run goes on that stops here.
    """

    def __init__(
        self, summing: Summing, phases: Phases, recorder: Recorder, manifest: Manifest, *, going_on: str
    ) -> None:
        self._summing, self._phases, self._going_on = summing, phases, going_on
        self._recorder, self._manifest = recorder, manifest

    @classmethod
    def of(
        cls,
        run: RunConfig,
        settings: ServerSettings,
        sites: Sequence[SiteRow],
        told: Told,
        *,
        phases: Phases,
        recorder: Recorder,
        manifest: Manifest,
    ) -> SummedRun | None:
        """Of these sites; None where the server sees each update.

        Raises
        ------
        FederationError
            One of them would be more of a sum than `server.most_share`.
        """
        roster = settings.summing
        if not run.secagg.on or roster is None:
            return None
        summing = Summing(
            run,
            roster,
            joins=joins_of(sites, most_share=settings.server.most_share),
            nodes={row.site: row.node for row in sites},
            settings=told.settings,
            folder=manifest.path.parent,
            attempts=manifest.document.get("attempts", {}),
            note=lambda attempts: manifest.update(attempts=attempts),
            record=told.record,
            fewest=settings.server.min_updates,
            most_share=settings.server.most_share,
        )
        return cls(summing, phases, recorder, manifest, going_on=settings.going_on)

    def trained(self, round_: int, messages: list[Message], strategy: Checked) -> tuple[ArrayRecord | None, Means]:
        """Have sites train, and let the strategy make a model of the mean of what they did.

        Raises
        ------
        AggregationError
            Too few sites are left to open a sum, or it is none that sites may give.
        FederationError
            The strategy made no model of it.
        """
        size = sum(each.size for each in strategy.base.values())
        opened = self._opened(TRAIN, round_, messages, size=size, sums=count_of(TRAIN), lost=strategy.left_out)
        summed, means = opened.sum, _means(TRAIN, opened)
        try:
            arrays, _ = strategy.aggregate_mean(
                round_, summed.mean, sites=len(summed.survivors), examples=summed.examples, like=opened.like
            )
        except FederationError:
            # Opened again it would be refused again.
            self.settled(TRAIN, round_)
            raise
        before = [each for each in self._manifest.document.get("sums", []) if each["round"] < round_]
        sites = list(summed.survivors)
        self._manifest.update(sums=[*before, {"round": round_, "sites": sites, "clipped": means.clipped}])
        if summed.rounding > _COARSE:
            text = "round %d: rounding moved the mean of updates by %.2g of its length; %s"
            _log.warning(text, round_, summed.rounding, "a smaller secagg.clip, or secagg.bits=32")
        if means.clipped:
            _log.warning("round %d: %d of %d updates were scaled to the clip", round_, means.clipped, len(sites))
        return arrays, means

    def measured(self, kind: str, round_: int, messages: list[Message]) -> Means:
        """Have sites measure a model; errors as `trained`."""
        lost: dict[str, str] = {}
        try:
            return _means(kind, self._opened(kind, round_, messages, size=0, sums=count_of(kind), lost=lost))
        finally:
            self._phases.say_left_out(round_, lost)

    def counted(
        self, round_: int, messages: list[Message], *, cells: int
    ) -> tuple[list[float], tuple[str, ...], dict[str, str]]:
        """Have sites count; the sum of each cell, whose sums they are, and who is not in them; errors as `trained`."""
        lost: dict[str, str] = {}
        opened = self._opened(COUNT, round_, messages, size=0, sums=cells, lost=lost)
        return opened.sum.sums, opened.sum.survivors, lost

    def settled(self, kind: str, round_: int) -> None:
        """Of a sum nothing is wanted any more: what it came to is on disk, or is refused."""
        self._summing.forget(number_of(kind, round_))

    def settled_last(self, round_: int, rounds: int) -> None:
        """The same of a run's last sums, over the model that is left and that of the last round."""
        self.settled(EVALUATE, round_)
        self.settled(VALIDATE, rounds)

    def take_leave(self, collector: Collector, rounds: int) -> None:
        """Tell sites that the run has ended for good; one that does not hear it keeps its key for longer, no more."""
        try:
            replies = collector.collect(self._summing.leave(rounds, collector.online()), seconds=_LEAVE_SECONDS)
        except MedVeilError as error:
            _log.warning("the sites were not told that the run has ended: %s", error)
            return
        for reply in replies:
            if reply.problem is not None:
                _log.info("%s was not told that the run has ended: %s", reply.site, said(reply.problem))

    def _opened(
        self, kind: str, round_: int, messages: list[Message], *, size: int, sums: int, lost: dict[str, str]
    ) -> Opened:
        number = number_of(kind, round_)
        ask = functools.partial(self._phases.ask, recorder=self._recorder, round_=round_)
        left = self._summing.left_behind(number, messages)
        try:
            if left is not None:
                self._go_on(left)
                lost |= left.lost
                agreed = left.agreed
                _log.warning("round %d: opening what %s agreed to before", round_, ", ".join(agreed.survivors))
                opened = self._summing.finished(agreed, ask=ask)
            else:
                task = self._summing.begin(number, messages)
                replies = self._phases.exchange(messages, self._recorder, kind=kind, round_=round_)
                lost |= failed(replies, self._recorder)
                usable = [reply for reply in replies if reply.site not in lost]
                heard = lambda: self._recorder.heard  # noqa: E731
                opened = self._summing.opened(task, usable, size=size, sums=sums, ask=ask, lost=lost, heard=heard)
        except AggregationError as error:
            if error.reason == "norm":
                self.settled(kind, round_)
            reasons = "".join(f"; {site}: {reason}" for site, reason in sorted(lost.items()))
            cure = error.cure or f"mend that, then {self._going_on}"
            raise AggregationError(
                error.problem + reasons, where=error.where, cure=cure, reason=error.reason
            ) from error
        return opened

    def _go_on(self, left: Kept) -> None:
        """Begin the phase where the process before stopped; of an older MedVeil nothing that replies said is known."""
        if left.heard is None:
            self._recorder.open()
        else:
            self._recorder.goes_on(left.heard)


def _means(kind: str, opened: Opened) -> Means:
    means = means_of(kind, opened.sum.sums)
    return Means(means.clipped, _possible(means.metrics), opened.sum.survivors)


def _possible(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Means that can be: what a site put into a sum nobody sees, and a sum that cannot be tells nothing."""
    made: dict[str, Any] = {}
    for name, value in metrics.items():
        fault = None if value is None else RANGES[name].fault(value)
        if fault is not None:
            _log.warning("the sum of '%s' %s: it does not count", name, fault)
        made[name] = value if fault is None else None
    return made
