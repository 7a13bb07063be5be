"""Which images look alike is looked for once for all runs of a comparison, and never again for a run of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import at_once
import numpy as np
import pytest
import torch

from fl_client.data import neighbours
from fl_client.data.neighbours import FILE
from fl_client.data.shared import shared_source
from medveil.config import load_config
from simulations import side_by_side, statistics
from simulations.compare import compare
from simulations.config import ExperimentConfig
from simulations.folders import check_free, empty
from simulations.plan import make_plan

N = 40


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each image that is looked at."""
    found: list[int] = []
    look = neighbours.small
    monkeypatch.setattr(neighbours, "small", lambda pixels: found.append(1) or look(pixels))
    neighbours._found.clear()
    return found


def experiment(folder: Path, *more: str) -> ExperimentConfig:
    images = np.random.default_rng(0).integers(0, 256, (N, 16, 16)).astype(np.uint8)
    images[1] = images[0] // 2
    np.savez(folder / "d.npz", images=images, labels=np.arange(N) % 2)
    given = ["sites=1", "rounds=1", "data.source=npz", f"data.path={folder / 'd.npz'}", "cipher.block=8", "threads=1"]
    given += ["model.width=16", "model.depth=1", "model.heads=2", "train.epochs=1", "data.group_by=similar"]
    return load_config(ExperimentConfig, None, [*given, *more])


def test_a_run_keeps_it_in_its_folder(tmp_path: Path, looked: list[int]) -> None:
    config, out, shared = experiment(tmp_path), tmp_path / "run", tmp_path / "all"
    for each in (out, shared):
        each.mkdir()
    make_plan(config, out, shared=shared)
    assert len(looked) == N
    for places in ({"out": out}, {"out": tmp_path / "other", "shared": shared}):
        # Another process.
        neighbours._found.clear()
        make_plan(config, **places)  # type: ignore[arg-type]
    # So does one of Flower's, whose sites open their images themselves.
    neighbours._found.clear()
    shared_source(config.data, run="r", folder=out)
    assert len(looked) == N
    assert not (tmp_path / "other").exists()
    # One that was killed before it began leaves a free folder, and a run that is replaced leaves it to the next.
    check_free(out, replace=False)
    (out / "manifest.json").write_text("{}")
    empty(out, but_phantoms=False)
    assert [each.name for each in out.iterdir()] == [FILE]


def test_a_comparison_looks_once(tmp_path: Path, looked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)

    def another_process(command: list[str], **_: Any) -> object:
        neighbours._found.clear()
        return at_once.run_tied(command)

    monkeypatch.setattr(side_by_side, "run_tied", another_process)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    done = compare(experiment(tmp_path, "compare.arms=[plain, nearest-neighbour]"), tmp_path / "out")
    assert done.failed == ()
    assert len(looked) == N
    for folder in (done.folder, done.folder / "plain" / "seed-0"):
        (groups,) = json.loads((folder / FILE).read_text())["found"].values()
        assert groups[0] == groups[1]
