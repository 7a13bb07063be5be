"""`medveil-sim pays`: whether pre-training pays, at equal processor time and seed by seed.

An experiment is trained in one place, by the clock: alone for all its minutes (recipe small-data), and from each trunk
that was pre-trained for a share of them (recipe pre-train) and is fine-tuned for the rest (recipe fine-tune). What is
gained is read on validation images, as of an ablation; trunks keep away from what these runs are tested on.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medveil import plain
from medveil.bounded import word
from medveil.config import load_config, to_mapping
from medveil.errors import EXIT_OK, ConfigError
from medveil.files import make_folder, write_text
from medveil.pretraining import MASKED, WAYS
from medveil.tied import run_tied
from medveil.versions import medveil_version
from medveil.yaml_core import written_yaml
from simulations.ablation import LOCK, Ablation, measured_in
from simulations.arms import ARMS, as_experiment
from simulations.config import ExperimentConfig, check_seeds, refuse_pixels
from simulations.confs import find_conf
from simulations.folders import many
from simulations.plan import make_plan
from simulations.pretraining import RUN, as_pretraining
from simulations.side_by_side import Job
from simulations.switches import with_recipe

ALONE = "no pre-training"
PIECES = 10
"""Rounds that a pre-training is cut into: what a machine that ends it costs is one."""


@dataclass(frozen=True)
class Trunk:
    """What is pre-trained: in which way, and on whose images; None: the experiment's own."""

    way: str = MASKED
    file: Path | None = None

    @property
    def name(self) -> str:
        """What its arm is called."""
        return self.way if self.file is None else f"{self.way} on {self.file.stem}"


def trunk_of(text: str) -> Trunk:
    """What a command line names as WAY or WAY:FILE (ConfigError where it is neither)."""
    way, _, file = text.partition(":")
    if way not in WAYS:
        raise ConfigError(f"is '{word(way)}'", where="--trunk", cure=f"{' or '.join(WAYS)}, and :FILE behind it")
    return Trunk(way, find_conf(file) if file else None)


def pays(
    config: ExperimentConfig,
    out: Path,
    *,
    trunks: Sequence[Trunk] = (Trunk(),),
    share: float = 0.5,
    jobs: int = 1,
    command: str | None = None,
) -> Ablation:
    """Train alone and from trunks, under every seed of the ``compare`` section, and put them side by side.

    Each training is a process of its own; one that finished is kept, and one that was cut off goes on.

    Parameters
    ----------
    config, out
        The experiment, of which ``train.minutes`` are those of each arm; and the folder.
    trunks
        What is pre-trained.
    share
        Of the minutes, what pre-training takes.
    jobs
        Trainings side by side.
    command
        What was typed for it, for the documents it leaves.

    Raises
    ------
    ConfigError
        There are no minutes, no seeds, two trunks of one name, or a trunk or experiment that cannot be.
    PartialError
        Nothing was trained alone to its end.
    StorageError
        Another process works in this folder; which one and since when.
    """
    _refuse(config, trunks, share)
    with many(out, LOCK, jobs=jobs) as folder:
        if config.data.source == "phantoms" and config.data.path is None:
            config.data.path = str(folder / "phantoms")
        return _Paying(config, folder, tuple(trunks), config.train.minutes, share).done(jobs, command)


def trainings(
    config: ExperimentConfig, out: Path, *, trunks: Sequence[Trunk], share: float
) -> list[tuple[str, ExperimentConfig]]:
    """Every training there would be, by its name; a trunk's own weights are not there yet, and cost as fresh ones do.

    Raises
    ------
    ConfigError
        As `pays`.
    """
    _refuse(config, trunks, share)
    return _Paying(config, out, tuple(trunks), config.train.minutes, share).trainings()


def _refuse(config: ExperimentConfig, trunks: Sequence[Trunk], share: float) -> None:
    refuse_pixels(config, "pays")
    if config.train.minutes <= 0:
        raise ConfigError("is 0: time is what is held equal", where="train.minutes", cure="60, for example")
    if not 0 < share < 1:
        raise ConfigError(f"is {share:g}", where="--share", cure="above 0 and below 1")
    check_seeds(config)
    if not trunks or len({each.name for each in trunks}) < len(trunks):
        raise ConfigError("names no trunk, or a trunk twice", where="pays", cure="each once")


@dataclass(frozen=True)
class _Paying:
    """What is held equal, and where it lies."""

    config: ExperimentConfig
    out: Path
    trunks: tuple[Trunk, ...]
    minutes: float
    share: float

    def done(self, jobs: int, command: str | None) -> Ablation:
        """Pre-train, train and write the table."""
        seeds = self.config.compare.seeds
        befores = [(self._before(trunk, seed), self._weights(trunk, seed)) for seed in seeds for trunk in self.trunks]
        self._check([before for before, _ in befores])
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            failed = {weights for weights in pool.map(lambda each: _pretrained(*each), befores) if weights is not None}
        planned = {ALONE: [self._job(ALONE, self._alone(seed), seed) for seed in seeds]}
        spent: dict[str, Path] = {}
        for trunk in self.trunks:
            ready = [seed for seed in seeds if self._weights(trunk, seed) not in failed]
            planned[trunk.name] = [self._job(trunk.name, self._tuned(trunk, seed), seed) for seed in ready]
            spent |= {
                job.name: self._weights(trunk, seed) for job, seed in zip(planned[trunk.name], ready, strict=True)
            }
        about: dict[str, Any] = {"name": self.config.name, "told": [], "command": command, "medveil": medveil_version()}
        made = measured_in(planned, self.out, about, jobs=jobs, spent=_cpu_of(spent))
        return Ablation(made.folder, made.rows, (*made.failed, *(each.stem for each in sorted(failed))))

    def trainings(self) -> list[tuple[str, ExperimentConfig]]:
        """All of it, by name."""
        seeds = self.config.compare.seeds
        alone = [(f"{ALONE} seed {seed}", self._alone(seed)) for seed in seeds]
        made = []
        for trunk in self.trunks:
            made += [(f"{trunk.name} seed {seed}, its trunk", self._before(trunk, seed)) for seed in seeds]
            rest = [(seed, self._timed(self._alone(seed), self.minutes * (1 - self.share))) for seed in seeds]
            made += [(f"{trunk.name} seed {seed}", experiment) for seed, experiment in rest]
        return [*alone, *made]

    def _alone(self, seed: int) -> ExperimentConfig:
        return self._timed(with_recipe(self._central(seed), "small-data"), self.minutes)

    def _tuned(self, trunk: Trunk, seed: int) -> ExperimentConfig:
        made = self._central(seed)
        made.model.pretrained = str(self._weights(trunk, seed))
        return self._timed(with_recipe(made, "fine-tune"), self.minutes * (1 - self.share))

    def _before(self, trunk: Trunk, seed: int) -> ExperimentConfig:
        made = with_recipe(self._central(seed), "pre-train")
        if trunk.file is not None:
            own, made.data = made.data, load_config(ExperimentConfig, trunk.file).data
            made.data.image_size, made.data.channels = own.image_size, own.channels
            made.data.views, made.data.augment = own.views, own.augment
        made.pretrain.task, made.model.init = trunk.way, "mimetic"
        made = self._timed(made, self.minutes * self.share)
        made.rounds, made.name = PIECES, f"{self.config.name} {trunk.name}"
        return as_pretraining(made)

    def _central(self, seed: int) -> ExperimentConfig:
        return as_experiment(self.config, ARMS["centralised"], seed)

    def _timed(self, made: ExperimentConfig, minutes: float) -> ExperimentConfig:
        made.rounds, made.train.minutes = 1, minutes
        return made

    def _check(self, befores: Sequence[ExperimentConfig]) -> None:
        """Refuse before anything is trained what could not be (ConfigError, DataError); one seed stands for all."""
        from simulations.run import check_model  # noqa: PLC0415 - torch loads here

        for each in (self._alone(self.config.compare.seeds[0]), *befores[: len(self.trunks)]):
            check_model(make_plan(each, self.out / "checked", shared=self.out))

    def _weights(self, trunk: Trunk, seed: int) -> Path:
        return self.out / "trunks" / f"{trunk.name.replace(' ', '-')}-seed-{seed}.safetensors"

    def _job(self, name: str, experiment: ExperimentConfig, seed: int) -> Job:
        return Job(f"{name} seed {seed}", experiment, self.out / name.replace(" ", "-") / f"seed-{seed}", paged=False)


def _pretrained(before: ExperimentConfig, weights: Path) -> Path | None:
    """Pre-train where that was not done; the weights that there are none of, as it failed.

    Raises
    ------
    ConfigError
        There are such weights, of other settings.
    """
    console, settings = plain.stderr_console(), weights.with_suffix(".yaml")
    if weights.exists():
        if load_config(ExperimentConfig, settings) != before:
            cure = "the same settings again, or name another folder"
            raise ConfigError("was pre-trained under other settings", where=weights, cure=cure)
        plain.say(console, f"{weights.stem}: kept")
        return None
    make_folder(weights.parent)
    write_text(settings, written_yaml(to_mapping(before), flow=False))
    plain.say(console, f"{weights.stem}: is pre-trained")
    program = str(Path(sys.executable).parent / "medveil-sim")
    words = [program, "pretrain", str(settings), "--out", str(weights)]
    done = run_tied(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == EXIT_OK:
        return None
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    plain.say(console, f"{weights.stem}: failed: {said[-1].removeprefix('error: ')}")
    return weights


def _cpu_of(weights: Mapping[str, Path]) -> dict[str, float]:
    """Seconds of processor time that pre-training took, by the names of the runs that begin with it."""
    from fl_server.summary import read_summary  # noqa: PLC0415

    found = {job: read_summary(path.with_suffix(RUN) / "summary.json") for job, path in weights.items()}
    return {job: float((each.get("cpu_seconds") or {}).get("all") or 0.0) for job, each in found.items()}
