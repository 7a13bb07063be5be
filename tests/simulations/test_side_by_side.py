"""Runs side by side: what is kept, gone on with and begun anew, wherever the command before was killed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import at_once
import numpy as np
import pytest
import torch
from rich.console import Console

from fl_server import checkpoints
from medveil.config import load_config, to_mapping
from medveil.errors import BasisError
from medveil.files import write_text
from medveil.yaml_core import written_yaml
from simulations import side_by_side, statistics
from simulations.config import ExperimentConfig
from simulations.run import run_experiment
from simulations.side_by_side import Job, Way, run_all, ways_of
from simulations.standing import Comparable

ROUNDS = 3


@pytest.fixture(autouse=True)
def at_once_and_without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(side_by_side, "run_tied", at_once.run_tied)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    monkeypatch.setattr("simulations.cli.report_of", lambda run: write_text(run / "report.html", "") or run)


def experiment(path: Path, *more: str) -> ExperimentConfig:
    given = ["sites=1", f"rounds={ROUNDS}", "data.source=npz", f"data.path={path}", "cipher.block=8", "threads=1"]
    given += ["model.width=16", "model.depth=1", "model.heads=2", "train.epochs=1", "train.batch_size=16"]
    return load_config(ExperimentConfig, None, [*given, *more])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    write(tmp_path / "d.npz")
    return Job("plain seed 0", experiment(tmp_path / "d.npz"), tmp_path / "plain" / "seed-0")


def write(path: Path, *, flipped: int = 0) -> None:
    labels = np.arange(40) % 2
    labels[:flipped] = 1 - labels[:flipped]
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (40, 16, 16)).astype(np.uint8), labels=labels)


class Killed(BaseException):
    """In the place of a signal that nobody can catch: nothing of ours handles it."""


def killed_after_a_round(job: Job) -> None:
    """Leave what kill -9 leaves after the first round's checkpoint."""
    whole = checkpoints.save

    def save(*args: Any, **given: Any) -> None:
        whole(*args, **given)
        raise Killed

    job.folder.parent.mkdir()
    write_text(job.settings, written_yaml(to_mapping(job.experiment), flow=False))
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(checkpoints, "save", save)
        run_experiment(job.experiment, job.folder, progress=False, report=lambda run: run)
    manifest = json.loads((job.folder / "manifest.json").read_text())
    (job.folder / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))


def go(job: Job, *, at_once: int = 1) -> tuple[dict[str, Way], dict[str, str], str]:
    """What was to be done, what failed and what was said."""
    console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    ways, told = ways_of([job], Comparable())
    failed = run_all([job], ways, at_once=at_once, console=console)
    return ways, failed, "\n".join([*told, console.export_text()])


def rounds_of(job: Job) -> list[int]:
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    return [line["round"] for line in lines if line["phase"] == "train" and line["site"] == "all"]


def manifest(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.folder / "manifest.json").read_text())
    return found


def test_a_run_that_was_killed_goes_on_where_it_was(job: Job) -> None:
    killed_after_a_round(job)
    first = manifest(job)["run"]
    ways, failed, said = go(job)
    assert (list(ways.values()), failed) == ([Way.GOES_ON], {})
    assert "plain seed 0: goes on" in said
    assert manifest(job)["run"] == first
    assert len(manifest(job)["resumed"]) == 1
    assert rounds_of(job) == [1, 2, 3]
    ways, failed, said = go(job)
    assert list(ways.values()) == [Way.KEPT]
    assert "plain seed 0: kept" in said
    # One that was killed as its page was written has only that to make.
    (job.folder / "report.html").unlink()
    assert list(go(job)[0].values()) == [Way.GOES_ON]
    assert rounds_of(job) == [1, 2, 3]
    assert job.has_finished
    # Other images than it finished on are refused: a table is of one data set.
    write(Path(str(job.experiment.data.path)), flipped=4)
    with pytest.raises(BasisError, match="labels"):
        go(job)


def test_a_run_that_cannot_go_on_begins_anew(job: Job) -> None:
    killed_after_a_round(job)
    first = manifest(job)["run"]
    write(Path(str(job.experiment.data.path)), flipped=4)
    ways, failed, said = go(job)
    assert (list(ways.values()), failed) == ([Way.BEGINS], {})
    assert "begins anew: the labels changed" in said
    assert manifest(job)["run"] != first
    assert rounds_of(job) == [1, 2, 3]


def test_a_run_under_other_settings_is_neither_kept_nor_lost_to_refused_ones(job: Job) -> None:
    go(job)
    first = manifest(job)["run"]
    refused = Job(job.name, experiment(Path(str(job.experiment.data.path)), "train.lr=-1"), job.folder)
    ways, failed, said = go(refused)
    assert list(ways.values()) == [Way.BEGINS]
    assert "'lr' is out of its range" in failed[job.name]
    assert "failed" in said
    assert manifest(job)["run"] == first
    assert list(ways_of([job], Comparable())[0].values()) == [Way.KEPT]
    # Killed between the old run's end and the new one's beginning: nothing there is taken for either.
    other = Job(job.name, experiment(Path(str(job.experiment.data.path)), "train.lr=0.01"), job.folder)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(side_by_side, "run_tied", killed)
        go(other)
    for each in (job, other):
        assert list(ways_of([each], Comparable())[0].values()) == [Way.BEGINS]
    assert go(other)[1] == {}
    assert manifest(other)["run"] != first


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_runs_that_fight_over_cores_are_told_of(job: Job) -> None:
    go(job)
    greedy = Job(job.name, job.experiment, job.folder)
    greedy.experiment.threads = 0
    write_text(job.settings, written_yaml(to_mapping(job.experiment), flow=False))
    assert "threads=1 is one" in go(greedy, at_once=2)[2]
    assert "threads=1 is one" not in go(greedy)[2]
