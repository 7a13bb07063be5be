"""A model measured at every site of a run, in messages of its own: after a round, and when training is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fl_server.arrays import to_record
from fl_server.checked import Checked
from fl_server.collect import Collector, Nodes
from fl_server.config import ServerSettings
from fl_server.metrics import Line
from fl_server.phases import Phases, failed, seeded
from fl_server.recorder import VALIDATE, Recorder, Summed
from fl_server.rows import SiteRow
from fl_server.secagg.summed_run import SummedRun
from fl_server.standing import Standing
from medveil.contract import MEASURE
from medveil.errors import FederationError


class Measuring:
    """Has all sites of a run measure the model it stands at.

    Parameters
    ----------
    settings
        The server's own.
    seed
        The run's.
    sites
        All that take part.
    collector, phases, recorder
        The run's.
    summed
        Opens sums of what sites measured; None where each tells its own.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        seed: int,
        sites: Sequence[SiteRow],
        collector: Collector,
        phases: Phases,
        recorder: Recorder,
        summed: SummedRun | None,
    ) -> None:
        self._settings, self._seed, self._sites = settings, seed, sites
        self._collector, self._phases, self._recorder, self._summed = collector, phases, recorder, summed

    def measure(self, kind: str, at: Standing, strategy: Checked) -> dict[str, Line]:
        """Ask for the measures of one kind of messages ("evaluate" or `VALIDATE`).

        Returns
        -------
        dict
            The line of all sites of each phase, by phase.

        Raises
        ------
        FederationError
            No site came back in time, or none could measure it.
        """
        seconds = self._settings.server.wait_for_sites
        nodes = self._collector.wait_until(lambda n: n >= len(self._sites), seconds=seconds)
        if not nodes:
            away = ", ".join(row.site for row in self._sites)
            problem = f"none of {away} came back within {seconds:g} s"
            raise FederationError(problem, where=kind, cure=f"start them again, then {self._settings.going_on}")
        config = ConfigRecord({MEASURE: "validation"} if kind == VALIDATE else {})
        with seeded(f"{self._seed}/{kind}"):
            asked = strategy.configure_evaluate(at.round, to_record(at.tensors), config, cast("Grid", Nodes(nodes)))
            messages = list(asked)
        began = time.monotonic()
        if self._summed is not None:
            means = self._summed.measured(kind, at.round, messages)
            summed = Summed(kind, at.round, means.metrics, means.sites)
            return self._recorder.close(seconds=time.monotonic() - began, summed=summed)
        replies = self._phases.exchange(messages, self._recorder, kind=kind, round_=at.round)
        missing = failed(replies, self._recorder)
        self._phases.say_left_out(at.round, missing)
        if len(missing) == len(replies):
            reasons = "".join(f"; {site}: {reason}" for site, reason in missing.items())
            raise FederationError(f"no site measured the final model{reasons}", where=kind)
        return self._recorder.close(seconds=time.monotonic() - began)
