"""What runs will take, from what one batch of each took (`simulations.probe`) and how many there are."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.config import to_mapping
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig
from simulations.plan import make_plan

if TYPE_CHECKING:
    from simulations.probe import Probe

_COSTLESS = ("lr", "lr_warmup", "weight_decay", "beta_2", "clip", "label_smoothing")
"""Settings of training whose value changes no cost."""
_OF_NO_COST = ("name", "seed", "compare")
_THIEVES = 2
"""Times that the test images are answered for a thief, where something is hidden."""


@dataclass(frozen=True)
class Estimate:
    """What a run, or several, will take.

    Attributes
    ----------
    started
        Seconds until a run's program has come to its first image.
    training, hiding, answering
        Seconds of steps, of reading and hiding images, and of measuring on validation and test images: of processor
        time, or of a GPU's.
    seconds
        All of it as it will pass here, one thing after another.
    memory
        Bytes that a run's process holds at most.
    disk
        Bytes that are left: stores and checkpoints.
    up, down
        Bytes of tensors that sites send, and are sent.
    """

    started: float = 0.0
    training: float = 0.0
    hiding: float = 0.0
    answering: float = 0.0
    seconds: float = 0.0
    memory: int = 0
    disk: int = 0
    up: int = 0
    down: int = 0

    @property
    def spent(self) -> float:
        """Seconds of processor time, or of a GPU's, without what a program takes to start."""
        return self.training + self.hiding + self.answering

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.started + other.started,
            self.training + other.training,
            self.hiding + other.hiding,
            self.answering + other.answering,
            self.seconds + other.seconds,
            max(self.memory, other.memory),
            self.disk + other.disk,
            self.up + other.up,
            self.down + other.down,
        )


class Estimates:
    """Estimates of experiments, of which one batch is taken of all that cost the same.

    Parameters
    ----------
    scratch
        A folder for what has to be drawn to be measured; the caller removes it.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._known: dict[str, tuple[Probe, ExperimentConfig]] = {}

    def of(self, experiment: ExperimentConfig) -> Estimate | None:
        """What a run of it will take; None of a baseline, which trains in no batches of its own.

        Raises
        ------
        MedVeilError
            It cannot be run.
        """
        if experiment.federation in BASELINES:
            return None
        key = _cost_of(experiment)
        if key not in self._known:
            from simulations.probe import probe  # noqa: PLC0415 - torch loads here

            with tempfile.TemporaryDirectory(dir=self._scratch) as out:
                own = copy.deepcopy(experiment)
                if own.data.source == "phantoms" and not Path(own.data.path or "").is_dir():
                    own.data.path = str(self._scratch / "phantoms")
                plan = make_plan(own, Path(out))
                self._known[key] = probe(plan), plan.experiment
        found, resolved = self._known[key]
        return estimate(found, resolved)

    @property
    def batches(self) -> Sequence[int]:
        """The sizes of the batches that were taken."""
        return [found.batch for found, _ in self._known.values()]


def estimate(found: Probe, experiment: ExperimentConfig) -> Estimate:
    """What a run takes whose batches are like one that was probed; `experiment` is as it was resolved."""
    train, validation, test = (
        sum(len(getattr(part, name)) for part in found.parts) for name in ("train", "validation", "test")
    )
    rounds, share = experiment.rounds, min(1.0, experiment.server.fraction)
    views = experiment.data.views
    stored = train * max(1, views) + validation + test
    epochs = rounds * share * experiment.train.epochs
    looked = stored + (train * epochs if views == 0 else 0)
    by_clock = rounds * share * len(found.parts) * experiment.train.minutes * 60
    fitted = experiment.stem.warmup * train * found.train
    steps = fitted + (by_clock / found.stretch if by_clock else epochs * train * found.train)
    measured = (rounds * share * experiment.evaluate_first + 1) * validation
    hidden = experiment.keys.policy != "none"
    answered = (measured + test * (1 + _THIEVES * hidden)) * experiment.predict.views
    kept = min(rounds, experiment.server.keep_checkpoints or rounds)
    hiding, answering = looked * (found.read + found.hide), answered * found.answer
    sent = round(found.sent * rounds * share * len(found.parts))
    return Estimate(
        started=found.started,
        training=steps,
        hiding=hiding,
        answering=answering,
        seconds=(found.started + steps + hiding + answering) * found.stretch,
        memory=found.memory + len(found.parts) * found.held,
        disk=stored * found.row + kept * found.held,
        up=sent,
        down=sent + found.sent * len(found.parts),
    )


def _cost_of(experiment: ExperimentConfig) -> str:
    """What experiments share that cost the same."""
    settings: dict[str, Any] = {
        name: value for name, value in to_mapping(experiment).items() if name not in _OF_NO_COST
    }
    settings["train"] = {name: value for name, value in settings["train"].items() if name not in _COSTLESS}
    return json.dumps(settings, sort_keys=True, default=str)
