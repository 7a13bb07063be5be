"""Running a baseline: the run folder that any arm leaves, made without a federation.

`nearest-neighbour` and `svm` have no rounds and nothing drawn: of one split they give one answer, whatever the seed.
`cnn` has the experiment's rounds, is checkpointed after each, and goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from threadpoolctl import threadpool_limits

from fl_client.config import TrainConfig
from fl_client.site_files import write_predictions
from fl_server import checkpoints
from fl_server.best_round import BestRound
from fl_server.checkpoints import Checkpoint
from fl_server.config import ServerSettings
from fl_server.early_stopping import EarlyStopping
from fl_server.initial import device_name
from fl_server.manifest import Manifest, writing
from fl_server.metrics import ALL, MetricsLog, line, measures_of, together
from fl_server.same_sites import Measured
from fl_server.spent import Spent
from fl_server.summary import summarise
from fl_server.weights import Weights
from medveil.basis import WEIGHTS
from medveil.config import from_mapping
from medveil.contract import SERVER_KEY
from medveil.files import write_json
from medveil.predicting import PredictConfig
from models.vit import model_hash
from simulations.baselines.cnn import Network, build
from simulations.baselines.names import CNN, DETERMINISTIC, NEAREST, TEXTS
from simulations.baselines.nearest import nearest_neighbour
from simulations.baselines.pooled import PooledPart, Probabilities, pool
from simulations.baselines.scores import Answers
from simulations.baselines.svm import svm
from simulations.plan import Plan

_RECIPE = 1
"""Version of what the baselines do: a run goes on under the same one only."""
_POOLED = "pooled"
"""What lines of metrics call the place where all sites' images are trained on."""
_NO_THIEF: dict[str, Any] = {"owner": None, "wrong_key": None, "public_stem": None, "notes": {}}


def run_baseline(plan: Plan, *, resume: bool = False) -> None:
    """Run a baseline and leave manifest, metrics, predictions and summary.

    Raises
    ------
    MedVeilError
        The images or settings cannot serve it, or changed since it began.
    """
    settings = ServerSettings.from_json(str(plan.run_config(resume=resume)[SERVER_KEY]))
    with writing(plan.out):
        manifest = Manifest(plan.out)
        if not resume:
            manifest.begin(plan.run, settings, device=device_name())
        elif not manifest.reopen(plan.run, settings):
            return
        # Torch's threads are those of its sites; what scikit-learn and numpy multiply by has threads of its own.
        with manifest.following(), threadpool_limits(limits=plan.experiment.threads or None):
            _Run(plan, settings, manifest).run()


class _Run:
    """One baseline at work."""

    def __init__(self, plan: Plan, settings: ServerSettings, manifest: Manifest) -> None:
        self._plan, self._settings, self._manifest = plan, settings, manifest
        self._name = plan.experiment.federation
        self._log = MetricsLog(plan.out / "metrics.jsonl")
        self._spent = Spent()
        self._stopping = EarlyStopping.of(settings.server)
        self._best = BestRound(settings.server)

    def run(self) -> None:
        run = self._plan.run
        model = None
        if self._name == CNN:
            model = build(classes=len(run.classes), channels=run.channels, size=run.image_size, seed=run.seed)
        weights = hashlib.sha256(f"{self._name}/{_RECIPE}".encode()).hexdigest() if model is None else model_hash(model)
        self._manifest.stand_on({**self._settings.basis, WEIGHTS: weights})
        self._pooled = pool(self._plan, weights=weights)
        self._pooled.hold()
        rows = [site.row(run.classes) for site in self._pooled.sites]
        counts = {row["site"]: {part: row[f"n_{part}"] for part in ("train", "validation", "test")} for row in rows}
        self._weights = Weights.of([], counts, most_share=self._settings.server.most_share)
        self._manifest.update(sites=rows, weights=self._weights.as_data())
        if model is None:
            self._log.cut(0)
            self._spent = Spent()
            found = nearest_neighbour(self._pooled) if self._name == NEAREST else svm(self._pooled)
            self._finish(found, rounds=0, kept={"round": 0, "by": None, "value": None})
            return
        train = from_mapping(TrainConfig, run.train, where="train")
        asked = from_mapping(PredictConfig, run.predict, where="predict")
        self._train(Network(model, self._pooled, train, rounds=run.rounds, seed=run.seed, asked=asked))

    # -- the network -------------------------------------------------------------------------------------------------

    def _train(self, network: Network) -> None:
        round_ = self._go_back(network)
        while round_ < self._plan.run.rounds and not self._stopping.stops:
            round_ += 1
            self._pooled.hold()
            began = time.monotonic()
            with self._spent.training():
                made = network.train(round_)
            measures = {"loss": made.loss, "accuracy": made.accuracy, "n": made.n}
            for site in (_POOLED, ALL):
                seconds = time.monotonic() - began
                self._log.append(line(round_=round_, site=site, phase="train", measures=measures, seconds=seconds))
            self._see(round_, self._measured("validation", self._pooled.validation, network, round_))
            self._save(network, round_)
        kept = self._best.described(round_)
        if kept["round"] != round_:
            found = checkpoints.load_round(self._plan.out / "checkpoints", kept["round"], run=self._plan.run.run)
            network.load(found.tensors)
        answers = Answers(
            network.answers_at_last(self._pooled.validation),
            network.answers_at_last(self._pooled.test),
            network.described(),
        )
        self._finish(answers, rounds=round_, kept=kept)

    def _go_back(self, network: Network) -> int:
        """Take up the newest whole checkpoint of a run that is resumed; the round it is of."""
        found = None
        if self._settings.resume:
            found = checkpoints.load_newest(self._plan.out / "checkpoints", run=self._plan.run.run)
        if found is None:
            self._log.cut(0)
            self._spent = Spent()
            return 0
        network.load(found.tensors)
        self._log.cut(int(found.scalars["lines"]))
        self._spent = Spent(found.scalars)
        self._stopping.state, self._best.state = found.scalars["early_stopping"], found.scalars["best_round"]
        if self._manifest.lengthened_after(found.round):
            self._stopping.go_on()
        return found.round

    def _save(self, network: Network, round_: int) -> None:
        scalars = {
            "early_stopping": self._stopping.state,
            "best_round": self._best.state,
            "lines": self._log.count,
            **self._spent.as_scalars(),
        }
        made = Checkpoint(run=self._plan.run.run, round=round_, tensors=network.tensors(), scalars=scalars)
        keep = self._settings.server.keep_checkpoints
        checkpoints.save(self._plan.out / "checkpoints", made, keep=keep, also=self._best.round)

    def _see(self, round_: int, measured: Mapping[str, Mapping[str, Any]]) -> None:
        monitor = self._settings.server.monitor
        known = {site: each[monitor] for site, each in measured.items() if each[monitor] is not None}
        found = Measured(known, lambda sites: self._weights.among(sites, "validation"))
        self._stopping.see(round_, found)
        self._best.see(round_, found)

    # -- what every baseline leaves ----------------------------------------------------------------------------------

    def _measured(self, phase: str, part: PooledPart, network: Network, round_: int) -> dict[str, dict[str, Any]]:
        return self._write(phase, self._metrics(phase, part, network.answers(part)), round_)

    def _metrics(self, phase: str, part: PooledPart, said: Probabilities) -> dict[str, dict[str, float | None]]:
        """Metrics of a part at each site, under the keys of the contract; None where undefined."""
        dealt = self._pooled.dealt(part, said, phase)
        made = {}
        for site in self._pooled.sites:
            labels = site.images.store.part(phase).labels
            found = site.setup.leaving.measured(phase, labels, dealt[site.setup.name])
            if phase == "test":
                found |= site.setup.leaving.majority(labels)
            made[site.setup.name] = {key: value if math.isfinite(value) else None for key, value in found.items()}
        return made

    def _write(
        self, phase: str, metrics: Mapping[str, Mapping[str, float | None]], round_: int
    ) -> dict[str, dict[str, Any]]:
        """Write the lines of a phase, of each site and of all; the measures of each site."""
        measured = {site: measures_of(each, phase) for site, each in metrics.items()}
        lines = [line(round_=round_, site=site, phase=phase, measures=each) for site, each in measured.items()]
        mean = together(lines, lambda sites: self._weights.among(sites, phase))
        for each in (*lines, line(round_=round_, site=ALL, phase=phase, measures=mean)):
            self._log.append(each)
        return measured

    def _finish(self, answers: Answers, *, rounds: int, kept: dict[str, Any]) -> None:
        spent, wall = self._spent.as_summary(), self._spent.wall
        if self._name in DETERMINISTIC:
            self._write("validation", self._metrics("validation", self._pooled.validation, answers.validation), rounds)
        metrics = self._metrics("test", self._pooled.test, answers.test)
        self._write("test", metrics, kept["round"])
        self._keep_predictions(answers.test)
        status = "stopped-early" if rounds < self._plan.run.rounds and self._name == CNN else "finished"
        made = summarise(
            self._plan.run,
            metrics,
            self._weights,
            status=status,
            rounds=rounds,
            seconds=round(wall, 3),
            cpu_seconds=spent,
            bytes_up=None,
            bytes_down=None,
            kept=kept,
            baseline={
                "name": self._name,
                "text": TEXTS[self._name],
                "deterministic": self._name in DETERMINISTIC,
                "cpu_seconds": spent["all"],
                "chosen": answers.chosen,
                "split": self._split(),
            },
        )
        # There is no key, and so nothing to say of a thief.
        write_json(self._plan.out / "summary.json", {**made, "thief": _NO_THIEF})
        self._manifest.end(status)

    def _keep_predictions(self, said: Probabilities) -> None:
        dealt = self._pooled.dealt(self._pooled.test, said, "test")
        for site in self._pooled.sites:
            part = site.images.store.part("test")
            tested = {"ids": part.ids, "groups": site.images.source.group_names(part.ids), "labels": part.labels}
            write_predictions(site.setup.documents, **tested, probabilities=dealt[site.setup.name])

    def _split(self) -> str:
        """Digest of which images were trained on, chosen by and tested on, wherever they were dealt to."""
        parts = [sorted(part.ids) for part in (self._pooled.train, self._pooled.validation, self._pooled.test)]
        return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()
