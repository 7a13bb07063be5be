"""What one batch of an experiment costs here: read, hidden, trained on and answered as a run of it would."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from crypto.base import Reading
from crypto.cipher import make_cipher
from crypto.config import config_of_run
from crypto.keys import SimulatedKey
from fl_client.config import site_name
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import open_source, read_many
from fl_client.data.store_build import as_rows, ciphertext_row
from fl_client.masked import reconstructed
from fl_client.site_model import patch_order
from fl_client.training import RoundPlan, predict, train_round
from fl_client.workbench import pick_device, workbench
from fl_server.arrays import to_wire
from fl_server.initial import initial_model
from medveil.contract import PACKED
from medveil.wire import encode, pack
from models.policy import Policy
from models.travel import trainable
from simulations.plan import Plan

T = TypeVar("T")
_SEED = 0
_TURNS, _LONGEST_S = 7, 2.0
"""Turns at most, and seconds after which none is begun."""


@dataclass(frozen=True)
class Probe:
    """What one batch cost.

    Attributes
    ----------
    batch
        Images in it.
    read, hide, train, answer
        Seconds an image: decoded, hidden, trained on once, answered once. Of processor time, which other programs
        hardly disturb; on a GPU of time.
    started
        Seconds of processor time that this program took to come so far, as each run does.
    stretch
        Seconds that pass for a second of processor time: above 1 where others want the same cores, below it where
        several cores work.
    memory
        Bytes that this process held at most; on a GPU those of the GPU.
    row
        Bytes of an image in the store.
    sent
        Bytes of tensors each way, of a site in a round.
    held
        Bytes of the tensors that travel, as a checkpoint keeps them.
    parts
        The images of each site.
    """

    batch: int
    read: float
    hide: float
    train: float
    answer: float
    started: float
    stretch: float
    memory: int
    row: int
    sent: int
    held: int
    parts: tuple[Parts, ...]


@dataclass(frozen=True)
class _OneBatch:
    """A batch as a part of a store is read."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    reading: Reading

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[Any]:
        """The images, whatever the epoch."""
        made: npt.NDArray[Any] = self.images[indices]
        return made


class _Watch:
    """Takes the time of work that is repeated: its fastest turn, and how much others stretch all of them."""

    def __init__(self, gpu: bool) -> None:
        self._gpu = gpu
        self._wall = self._spent = 0.0

    def timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """What work made, and the seconds of its fastest turn."""
        turns: list[float] = []
        began = time.perf_counter()
        while len(turns) < _TURNS and (not turns or time.perf_counter() - began < _LONGEST_S):
            wall, spent = time.perf_counter(), time.process_time()
            made = work()
            if self._gpu:
                torch.cuda.synchronize()
            wall, spent = time.perf_counter() - wall, time.process_time() - spent
            turns.append(wall if self._gpu else spent)
            self._wall += wall
            self._spent += spent
        return made, min(turns)

    @property
    def stretch(self) -> float:
        """Seconds that passed for a second of processor time; on a GPU, where time is counted itself, 1."""
        return 1.0 if self._gpu or not self._spent else self._wall / self._spent


def probe(plan: Plan) -> Probe:
    """Take one batch of a plan through all that is done with it; nothing is left on disk.

    The first step pays for what a process makes once; of those after it the fastest counts.

    Raises
    ------
    MedVeilError
        As a run of the plan.
    """
    started = time.process_time()
    watch = _Watch(pick_device(plan.experiment.device).type == "cuda")
    experiment, run = plan.experiment, plan.run
    if experiment.threads > 0:
        torch.set_num_threads(experiment.threads)
    source = open_source(experiment.data) if plan.source is None else plan.source
    deal = partial(site_parts, source, experiment.data, sites=plan.sites.sites, seed=experiment.seed)
    parts = tuple(deal(index=index) for index in range(plan.sites.sites))
    chosen = np.resize(parts[0].train, min(experiment.train.batch_size, max(len(each.train) for each in parts)))
    pixels, read = watch.timed(lambda: read_many(source, np.unique(chosen)))
    keys = {"none": None, "shared": SimulatedKey(_SEED, "shared"), "per-site": SimulatedKey(_SEED, site_name(0))}
    size = run.image_size
    cipher = make_cipher(config_of_run(run.cipher), keys[run.keys], channels=run.channels, height=size, width=size)
    nonces = np.zeros((len(pixels), 16), np.uint8) if cipher.per_image else None
    hidden, hide = (pixels, 0.0) if source.hidden is not None else watch.timed(lambda: cipher.encrypt(pixels, nonces))
    shape, dtype = ciphertext_row(cipher)
    order = np.resize(np.arange(len(pixels)), len(chosen))
    labels = np.array([source.items[i].label for i in np.unique(chosen).tolist()], np.int64)
    part = _OneBatch(hidden[order], labels[order], cipher.reading)
    train, answer = _steps(plan, part, patch_order(cipher), watch)
    initial = initial_model(run)
    encoded = encode(initial.tensors, run.wire)
    travels = to_wire({PACKED: pack(encoded)} if run.packed else encoded)
    return Probe(
        batch=len(chosen),
        read=read / len(pixels),
        hide=hide / len(pixels),
        train=train / len(chosen),
        answer=answer / len(chosen),
        started=started,
        stretch=watch.stretch,
        memory=_memory(experiment.device),
        row=as_rows(np.zeros((1, *shape), dtype), dtype).nbytes,
        sent=sum(len(each.data) for each in travels.values()),
        held=sum(each.nbytes for each in initial.tensors.values()),
        parts=parts,
    )


def _steps(plan: Plan, part: _OneBatch, order: npt.NDArray[np.int64] | None, watch: _Watch) -> tuple[float, float]:
    """Seconds of a step on a batch, and of answering it."""
    run = plan.run
    config = replace(plan.experiment.train, epochs=1, minutes=0.0)
    bench = workbench(run, pick_device(plan.experiment.device))
    names = trainable(bench.model, Policy(run.keys, run.stem_init, run.stem_train), config.scope)
    rng = np.random.default_rng(_SEED)
    round_plan = RoundPlan(round=1, rounds=run.rounds, seed=_SEED, rng=rng, pi=order, masked=run.masked)

    def trained() -> object:
        return train_round(bench.model, part, config, round_plan, trainable=names)

    trained()
    _, train = watch.timed(trained)

    def answered() -> object:
        if run.masked is None:
            return predict(bench.model, part, config)
        return reconstructed(bench.model, part, config, run.masked, rng=rng, pi=order)

    _, answer = watch.timed(answered)
    bench.reset()
    return train, answer


def _memory(device: str) -> int:
    if pick_device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
