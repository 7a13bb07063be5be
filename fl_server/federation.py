"""One federated run, from waiting for sites to the summary."""

from __future__ import annotations

import time
from typing import Any, cast

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from fl_server.arrays import to_record, to_tensors
from fl_server.checked import Checked
from fl_server.collect import Collector, Nodes
from fl_server.config import ServerSettings
from fl_server.draining import Drain
from fl_server.held import SaysHeld
from fl_server.initial import Initial, device_name, initial_model
from fl_server.manifest import Manifest, writing
from fl_server.measuring import Measuring
from fl_server.metrics import MetricsLog
from fl_server.phases import Phases, failed, seeded
from fl_server.preflight import check_same_keys, preflight
from fl_server.pretrained import leave_pretrained
from fl_server.recorder import VALIDATE, Recorder, Summed
from fl_server.rows import SiteRow
from fl_server.runnable import check_run
from fl_server.secagg.said import said_of
from fl_server.secagg.summed_run import SummedRun, Told
from fl_server.site_bases import SiteBases
from fl_server.standing import Standing
from fl_server.strategies import make_strategy
from fl_server.summary import read_summary, summarise
from fl_server.survey import Survey
from fl_server.turnout import turnout
from fl_server.watch import Watcher
from fl_server.watching import watcher_of
from fl_server.weights import Weights
from medveil.basis import WEIGHTS
from medveil.contract import KEEP_ROUND, RunConfig
from medveil.counting import StatisticsConfig
from medveil.errors import FederationError
from medveil.files import write_json
from medveil.paths import run_folder
from medveil.wire import Tensors
from models.described import in_words


class Federation:
    """A run of sites that train one model together.

    Parameters
    ----------
    grid
        Flower's grid, or any other that reaches the sites.
    run
        What server and sites agree on; its `run` names the run.
    settings
        What only the server needs to know.
    watch
        Hears what happens, as it happens.
    told
        What the sums of a run with secure aggregation are bound to.
    drain
        Whether it is to stop between two rounds.
    """

    def __init__(
        self,
        grid: Grid,
        run: RunConfig,
        settings: ServerSettings,
        *,
        watch: Watcher | None = None,
        told: Told | None = None,
        drain: Drain | None = None,
    ) -> None:
        self.config, self.settings, self.server = run, settings, settings.server
        self.folder = run_folder(settings.out, name=run.name, run=run.run)
        self._watch = watcher_of(watch or Watcher(), self.folder, run, self.server)
        self._collector = Collector(grid)
        self._manifest = Manifest(self.folder)
        self._phases = Phases(
            self._collector, self._manifest, self._watch, rounds=run.rounds, seconds=self.server.round_deadline
        )
        self._at = Standing(self.folder / "checkpoints", run.run, self.server)
        self._sites: list[SiteRow] = []
        self._weights = Weights({}, most_share=self.server.most_share)
        self._recorder = self._recording()
        self._held = SaysHeld(self._manifest, most_share=self.server.most_share, summed=run.secagg.on)
        self._told = told or Told()
        self._drain = drain or Drain()
        self._summed: SummedRun | None = None

    @property
    def travelling(self) -> Tensors:
        """The tensors that travel, as they are now; none before the sites were asked."""
        return self._at.tensors

    def run(self) -> dict[str, Any]:
        """Run, or go on from the newest checkpoint.

        Returns
        -------
        dict
            The summary, as written to summary.json. A run that has already ended returns the summary it left.

        Raises
        ------
        ConfigError, PolicyError
            The settings cannot be run, or the strategy's guarantee needs more sites.
        FederationError
            Sites are missing or disagree, or a round has no usable aggregate.
        DrainedError
            The server was drained between two rounds.
        StorageError
            The run folder cannot be written, or another process writes there.
        """
        with writing(self.folder):
            return self._run()

    # -- the run -----------------------------------------------------------------------------------------------------

    def _run(self) -> dict[str, Any]:
        if not self.settings.resume:
            self._manifest.begin(self.config, self.settings, device=device_name())
        elif not self._manifest.reopen(self.config, self.settings):
            self._watch.say(f"this run has already {self._manifest.document['status']}: {self.folder}")
            return read_summary(self.folder / "summary.json")
        with self._manifest.following():
            check_run(self.config, self.settings)
            self._drain.stop_before(1, rounds=self.config.rounds)
            asked = self.config.counted
            return self._federate() if asked is None else self._counted(asked)

    def _counted(self, asked: StatisticsConfig) -> dict[str, Any]:
        survey = Survey(
            self.config,
            asked,
            self.settings,
            folder=self.folder,
            collector=self._collector,
            phases=self._phases,
            manifest=self._manifest,
            watch=self._watch,
            told=self._told,
        )
        return survey.made()

    def _federate(self) -> dict[str, Any]:
        initial = initial_model(self.config)
        self._manifest.stand_on({**self.settings.basis, WEIGHTS: initial.hash})
        self._manifest.update(model=initial.described)
        self._watch.say(f"model: {in_words(initial.described)}")
        self._sites = preflight(
            self._collector, run=self.config, settings=self.settings, model_hash=initial.hash, say=self._phases.say
        )
        before = list(self._manifest.document["sites"])
        check_same_keys(self._sites, before)
        self._watch.sites(self._sites)
        self._manifest.update(sites=[row.as_data() for row in self._sites])
        self._weigh(before)
        names = {row.node: row.site for row in self._sites}
        strategy = Checked(
            make_strategy(self.server, names),
            config=self.server,
            sites=names,
            weights=self._weights,
            wire=self.config.wire,
            kind=self.config.kind,
            packed=self.config.packed,
            least_norm=initial.least_norm,
            joins=[row.join for row in self._sites if row.join is not None],
        )
        self._recorder.validated_apart = self._validates_apart
        self._summed = SummedRun.of(
            self.config,
            self.settings,
            self._sites,
            self._told,
            phases=self._phases,
            recorder=self._recorder,
            manifest=self._manifest,
        )
        self._measuring = Measuring(
            self.settings,
            seed=self.config.seed,
            sites=self._sites,
            collector=self._collector,
            phases=self._phases,
            recorder=self._recorder,
            summed=self._summed,
        )
        self._start(initial, strategy)
        if self._validates_apart and not self._at.round:
            self._validate(strategy)
        while self._at.round < self._rounds and not self._at.stopping.stops:
            self._drain.stop_before(self._at.round + 1, rounds=self.config.rounds)
            self._train(self._at.round + 1, strategy)
        return self._finish(strategy)

    def _weigh(self, before: list[dict[str, Any]]) -> None:
        """Fix how much each site weighs: by what it declared when the run began, capped by share."""
        parts = ("train", "validation", "test")
        # A run that an older MedVeil began has only the table of its sites.
        rows = {row["site"]: {part: row[f"n_{part}"] for part in parts} for row in before}
        fixed = self._manifest.document.get("weights") or rows
        self._weights = Weights.of(self._sites, fixed, most_share=self.server.most_share)
        self._recorder = self._recording()
        self._manifest.update(weights=self._weights.as_data())
        self._held.say(self._weights, [row.site for row in self._sites])

    def _recording(self) -> Recorder:
        # A run that an older MedVeil began knows of no site what it stands on.
        said = self._manifest.document.get("site_bases", {})
        bases = SiteBases(said, lambda known: self._manifest.update(site_bases=known))
        log, summed = MetricsLog(self.folder / "metrics.jsonl"), self.config.secagg.on
        return Recorder(log, self._watch, self._weights, bases=bases, summed=summed)

    def _start(self, initial: Initial, strategy: Checked) -> None:
        """Start from the initial model, or from the newest whole checkpoint."""
        self._at.tensors = initial.tensors
        damaged: list[str] = []
        found = self._at.newest(damaged) if self.settings.resume else None
        if found is None:
            self._recorder.go_back(None)
            self._manifest.update(left_out=[])
            self._watch.goes_on(0)
            return
        self._at.go_on(found)
        strategy.state = found.state
        self._phases.left_out = list(found.scalars["left_out"])
        self._recorder.go_back(found.scalars["totals"])
        self._watch.goes_on(self._at.round)
        went_on = f"resuming after round {self._at.round} of {self.config.rounds}"
        if self._manifest.lengthened_after(self._at.round):
            # It may have stopped for want of patience, and is told to go on.
            self._at.stopping.go_on()
            went_on += "; the rounds before were scheduled for fewer"
        if damaged:
            went_on += f"; skipped as damaged: {'; '.join(damaged)}"
        self._watch.say(went_on)
        self._manifest.update(left_out=self._phases.left_out, went_on=went_on)

    def _train(self, round_: int, strategy: Checked) -> None:
        """One round: train at the sites, check, aggregate, write down, keep."""
        nodes = Nodes(
            turnout(self._collector, self.server, self._sites, round_=round_, going_on=self.settings.going_on)
        )
        with seeded(f"{self.config.seed}/{round_}"):
            config = ConfigRecord({} if self._at.best.round is None else {KEEP_ROUND: self._at.best.round})
            messages = list(strategy.configure_train(round_, to_record(self._at.tensors), config, cast("Grid", nodes)))
        began, summed = time.monotonic(), None
        try:
            if self._summed is None:
                arrays = self._gathered(round_, messages, strategy)
            else:
                with self._at.spent.training():
                    arrays, means = self._summed.trained(round_, messages, strategy)
                summed = Summed("train", round_, means.metrics, means.sites)
        except FederationError as error:
            if error.cure is not None:
                raise
            cure = f"mend that, then {self.settings.going_on}"
            raise FederationError(error.problem, where=error.where, cure=cure) from error
        finally:
            self._phases.say_left_out(round_, strategy.left_out)
        asked = [self._collector.name(each.metadata.dst_node_id) for each in messages]
        self._held.say(self._weights, asked, strategy.left_out)
        assert arrays is not None  # Checked raises where there is no aggregate.
        self._at.tensors, self._at.round = to_tensors(arrays), round_
        made = self._recorder.close(seconds=time.monotonic() - began, leaving_out=strategy.left_out, summed=summed)
        if "validation" in made:
            self._see(round_ - 1)
        if self._validates_apart:
            self._validate(strategy)
        self._save(strategy)

    def _gathered(self, round_: int, messages: list[Message], strategy: Checked) -> ArrayRecord | None:
        """Have sites train, and let the strategy make a model of their updates, one by one."""
        with self._at.spent.training():
            replies = self._phases.exchange(messages, self._recorder, kind="train", round_=round_)
        strategy.left_out |= failed(replies, self._recorder)
        usable = [each.message for each in replies if each.message and each.site not in strategy.left_out]
        return strategy.aggregate_train(round_, usable)[0]

    def _finish(self, strategy: Checked) -> dict[str, Any]:
        """Choose the round whose model is left, measure it at every site, and write the summary."""
        rounds = self._at.round
        kept = self._choose(strategy)
        self._measuring.measure("evaluate", self._at, strategy)
        status = "stopped-early" if rounds < self._rounds else "finished"
        totals = self._recorder.totals
        summary = summarise(
            self.config,
            self._recorder.metrics,
            self._weights,
            status=status,
            rounds=rounds,
            seconds=round(self._at.spent.wall, 3),
            cpu_seconds=self._at.spent.as_summary() if self.settings.sites_are_here else None,
            bytes_up=totals["bytes_up"],
            bytes_down=totals["bytes_down"],
            kept=kept,
            summed=self._recorder.summed if self._summed is not None else None,
            sites_of_sum=self._recorder.sites_of_sum,
            secagg=said_of(self._manifest.document),
        )
        left = leave_pretrained(self.folder, self.config, self._at.tensors, summary=summary, sites=self._sites)
        if left is not None:
            self._watch.say(f"for another run: model.pretrained={left}")
        write_json(self.folder / "summary.json", summary)
        if self._summed is not None:
            self._summed.settled_last(self._at.round, rounds)
        self._manifest.end(status)
        if self._summed is not None:
            self._summed.take_leave(self._collector, rounds)
        self._watch.ended(summary)
        return summary

    def _choose(self, strategy: Checked) -> dict[str, Any]:
        """Go back to the best round, where that is wanted and it is not the last; says which model is left."""
        last = self._at.round
        if self._at.best.wanted and self._at.round and not self._validates_apart:
            self._validate(strategy)
        kept = self._at.best.described(last)
        if kept["round"] != last:
            found = self._at.go_back(kept["round"])
            strategy.state = found.state
            self._watch.say(f"the model of round {found.round} is left: its {kept['by']} was best")
        return kept

    @property
    def _validates_apart(self) -> bool:
        """Whether all sites measure the model after each round: where they take turns in training, and rounds compete.

        Those that train next would be others each time, and what they measure could not be compared.
        """
        return self.server.fraction < 1 and (self.server.patience > 0 or self._at.best.wanted)

    def _validate(self, strategy: Checked) -> None:
        """Have the model that is at hand measured on every site's validation images."""
        self._measuring.measure(VALIDATE, self._at, strategy)
        self._see(self._at.round)

    def _see(self, round_: int) -> None:
        """Take in what the phase that just closed measured on validation images."""
        self._at.see(round_, self._recorder.measured("validation", self.server.monitor))

    # -- parts of it -------------------------------------------------------------------------------------------------

    def _save(self, strategy: Checked) -> None:
        self._at.save(strategy.state, {"left_out": self._phases.left_out, "totals": self._recorder.totals})
        if self._summed is not None:
            self._summed.settled("train", self._at.round)

    @property
    def _rounds(self) -> int:
        """Rounds of training: none where the model is only measured."""
        return self.config.rounds if self.config.evaluated is None else 0
