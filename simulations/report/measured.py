"""The arms of a comparison, measured from their run folders."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fl_client.intervals import Interval
from medveil.errors import DataError
from simulations.equivalence import Equivalence, equivalence_test, prediction_agreement, same_sites
from simulations.near import near_of
from simulations.predictions import Sites
from simulations.report.record import ALL, Mapping, RunRecord, number, read_run, section
from simulations.resampling import METRICS
from simulations.statistics import Estimate, at_chance, estimate, mean_metric, resampling_note

NOT_TESTED = "There were no test images, so there are no scores"


@dataclass(frozen=True)
class ArmResult:
    """One arm of a comparison and where its runs are.

    Parameters
    ----------
    name, policy
        How it is called, and what it is.
    twin
        Name of the arm on plaintext that it should equal, or None.
    runs
        Run folders, one for each seed.
    baseline
        Whether it is no ViT, and no federation: what the others have to beat.
    whole
        Name of the arm that trains all of the model where this one trains less, or None.
    """

    name: str
    policy: str
    twin: str | None
    runs: list[Path]
    baseline: bool = False
    whole: str | None = None


class Score(NamedTuple):
    """A metric of one arm: mean over seeds and sites, its 95 % interval, and the mean over sites of each seed.

    `rests` says what the mean rests on; `pooled` is the same metric over the images of all sites together.
    """

    mean: float
    interval: Interval
    each: tuple[float, ...]
    rests: Estimate
    pooled: Estimate

    @property
    def judged(self) -> Interval:
        """The interval to judge by: that over all images where the mean over sites has none."""
        return self.pooled.interval if self.rests.withheld else self.interval


@dataclass(frozen=True)
class Pair:
    """An arm beside its plaintext twin, over the seeds both have; `reason` says why there is nothing to say."""

    twin: str
    seeds: tuple[int, ...] = ()
    agreement: float | None = None
    equivalence: Equivalence | None = None
    reason: str = ""


class Baseline(NamedTuple):
    """What is told of a baseline: its processor time, whether nothing in it is drawn, and how many splits it answered.

    Runs of one split are one answer where nothing is drawn, however many seeds they bear.
    """

    cpu_seconds: float | None
    deterministic: bool
    splits: int


class Costs(NamedTuple):
    """What an arm's runs took, in the mean; None where they did not write it down.

    `training` and `cpu` are seconds of processor time, of training rounds and of all; `up` and `down` bytes of tensors
    that a site sends and is sent in a round.
    """

    training: float | None = None
    cpu: float | None = None
    parameters: float | None = None
    up: float | None = None
    down: float | None = None
    commits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What one arm came to.

    `beside` pairs it with each baseline, where it is none itself; `full` with the arm that trains all of the model.
    """

    arm: ArmResult
    seeds: tuple[int, ...]
    hidden: bool
    scores: dict[str, Score]
    majority_rate: float | None
    at_chance: bool
    pair: Pair | None
    thief: dict[str, dict[str, float | None]]
    seconds: float | None
    bytes_up: float | None
    bytes_down: float | None
    note: str
    folders: tuple[tuple[int, Path], ...] = ()
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    baseline: Baseline | None = None
    beside: tuple[Pair, ...] = ()
    full: Pair | None = None
    near: dict[int, str] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)

    @property
    def strongest(self) -> Pair | None:
        """The pair with the baseline that comes out best beside it; None where there is none to compare with."""
        known = [(each.equivalence.difference, each) for each in self.beside if each.equivalence is not None]
        return min(known, key=lambda pair: pair[0])[1] if known else None


def measure_arms(rows: Sequence[ArmResult]) -> list[Measured]:
    """Measure every arm from its run folders.

    Raises
    ------
    DataError
        There is no arm, an arm has no run with predictions, or two runs of one seed.
    StorageError, IntegrityError, FormatError
        A run folder cannot be read.
    """
    if not rows:
        raise DataError("there is no arm to compare")
    runs = {row.name: _by_seed(row) for row in rows}
    baselines = [row.name for row in rows if row.baseline]
    return [_measured(row, runs, [] if row.baseline else baselines) for row in rows]


def _by_seed(row: ArmResult) -> dict[int, RunRecord]:
    found: dict[int, RunRecord] = {}
    for folder in row.runs:
        record = read_run(folder)
        seed = int(record.manifest.get("seed", 0))
        if seed in found:
            raise DataError(f"has two runs of seed {seed}", where=row.name, cure="one run for each seed")
        if record.predictions:
            found[seed] = record
    if not found:
        raise DataError("has no run with predictions", where=row.name, cure="run it to its end")
    return dict(sorted(found.items()))


def _measured(row: ArmResult, runs: dict[str, dict[int, RunRecord]], baselines: Sequence[str]) -> Measured:
    own = runs[row.name]
    sites: list[Sites] = [record.predictions for record in own.values()]
    scores = {metric: _score(sites, metric) for metric in METRICS}
    summaries = [record.summary or {} for record in own.values()]
    tested = any(len(each) for one in sites for each in one.values())
    return Measured(
        arm=row,
        seeds=tuple(own),
        hidden=next(iter(own.values())).run_config.get("keys", "none") != "none",
        scores=scores,
        majority_rate=_mean(each.get("majority_rate") for each in summaries),
        at_chance=at_chance(scores["auroc"].judged),
        pair=_pair(own, runs.get(row.twin), row.twin) if row.twin else None,
        thief={key: _worth(summaries, key) for key in ("owner", "wrong_key", "public_stem")},
        seconds=_mean(each.get("seconds") for each in summaries),
        bytes_up=_mean(each.get("bytes_up") for each in summaries),
        bytes_down=_mean(each.get("bytes_down") for each in summaries),
        note=resampling_note(sites) if tested else NOT_TESTED,
        folders=tuple((seed, record.folder) for seed, record in own.items()),
        baseline=_baseline(summaries) if row.baseline else None,
        beside=tuple(_pair(own, runs[name], name) for name in baselines),
        full=_pair(own, runs[row.whole], row.whole) if row.whole in runs else None,
        near={seed: said for seed, record in own.items() if (said := _near(record))},
        costs=_costs(list(own.values())),
        curves={measure: _curve(list(own.values()), measure) for measure in ("loss", "accuracy", "auroc")},
    )


def _curve(records: list[RunRecord], measure: str) -> list[tuple[int, float]]:
    """Validation round by round, the mean of the seeds that came so far."""
    found: dict[int, list[float]] = {}
    for record in records:
        for round_, value in record.curve("validation", measure, ALL):
            found.setdefault(round_, []).append(value)
    return [(round_, statistics.fmean(values)) for round_, values in sorted(found.items())]


def _score(sites: list[Sites], metric: str) -> Score:
    each = tuple(mean_metric([one], metric) for one in sites)
    found, pooled = estimate(sites, metric), estimate(sites, metric, pooled=True)
    return Score(found.value, found.interval, each, found, pooled)


def _baseline(summaries: list[Mapping]) -> Baseline:
    found = [section(each, "baseline") for each in summaries]
    return Baseline(
        _mean(each.get("cpu_seconds") for each in found),
        all(each.get("deterministic") is True for each in found),
        len({str(each.get("split")) for each in found}),
    )


def _costs(records: list[RunRecord]) -> Costs:
    summaries = [record.summary or {} for record in records]
    # A baseline of an older MedVeil says it in its own place.
    spent = [
        section(each, "cpu_seconds") or {"all": section(each, "baseline").get("cpu_seconds")} for each in summaries
    ]
    rounds = [line for record in records for line in record.metrics if line["phase"] == "train" and line["site"] != ALL]
    commits = {str(each) for record in records for each in record.manifest.get("commits") or []}
    return Costs(
        training=_mean(each.get("training") for each in spent),
        cpu=_mean(each.get("all") for each in spent),
        parameters=_mean(map(_parameters, records)),
        up=_mean(each.get("bytes_up") for each in rounds),
        down=_mean(each.get("bytes_down") for each in rounds),
        commits=tuple(sorted(commits)),
    )


def _parameters(record: RunRecord) -> Any:
    """Of the model, or of a baseline that has some."""
    chosen = section(section(record.summary, "baseline"), "chosen")
    return chosen.get("parameters", section(record.manifest, "model").get("parameters"))


def _near(record: RunRecord) -> str:
    """What a run said of test images that look like a training image; empty where it said nothing."""
    near = near_of(record.summary or {})
    return "" if near is None else str(near)


def _pair(own: dict[int, RunRecord], twin: dict[int, RunRecord] | None, name: str) -> Pair:
    """Two arms over the seeds both have."""
    seeds = tuple(sorted(set(own) & set(twin or {})))
    if twin is None or not seeds:
        return Pair(name, reason="the twin was not run" if twin is None else "no seed in common")
    a, b = [own[seed].predictions for seed in seeds], [twin[seed].predictions for seed in seeds]
    try:
        # Where several sites answer what the other arm answers once, no answer of it is the other's.
        agreement = prediction_agreement(a, b) if same_sites(a, b) else None
        return Pair(name, seeds, agreement, equivalence_test(a, b))
    except DataError as error:
        return Pair(name, seeds, reason=str(error))


def _worth(summaries: list[Mapping], key: str) -> dict[str, float | None]:
    found = [section(section(each, "thief"), key) for each in summaries]
    return {metric: _mean(each.get(metric) for each in found) for metric in ("accuracy", "auroc")}


def _mean(values: Iterable[Any]) -> float | None:
    found = [made for value in values if (made := number(value)) is not None]
    return statistics.fmean(found) if found else None
