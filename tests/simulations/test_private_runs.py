"""Whole runs with privacy: what they leave, how they go on, and what is refused before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fl_client.simulated_host import SimulatedHost
from medveil.config import load_config
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig
from simulations.plan import make_plan
from simulations.run import resume_experiment, run_experiment

PROMISED = [
    *("privacy.unit=example", "privacy.epsilon=6", "privacy.delta=1e-2", "train.scope=last-1-blocks"),
    *("keys.policy=per-site", "stem.init=adapted", "stem.train=frozen", "evaluate_first=false", "rounds=2"),
]


def config(tiny_settings: list[str], *more: str) -> ExperimentConfig:
    return load_config(ExperimentConfig, None, [*tiny_settings, *PROMISED, *more])


@pytest.mark.usefixtures("fresh_sites")
def test_a_run_keeps_its_promise_and_says_so_and_a_resumed_one_is_the_same(
    tmp_path: Path, tiny_settings: list[str]
) -> None:
    torch.set_num_threads(1)
    done = run_experiment(config(tiny_settings), tmp_path / "run", progress=False)
    told = done.summary["privacy"]
    assert {name: told[name] for name in ("unit", "epsilon", "delta", "clip")} == {
        "unit": "example",
        "epsilon": 6.0,
        "delta": 1e-2,
        "clip": 1.0,
    }
    assert set(told["sites"]) == {"site-1", "site-2"}
    assert all(5.8 < each <= 6.0 for each in told["sites"].values())
    assert "epsilon 6 at delta 0.01 for each training image; at most " in done.report.read_text()
    phases = {json.loads(line)["phase"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert phases == {"train", "test", "validation"}
    assert RunConfig.from_json(json.dumps(_recorded(tmp_path / "run"))).private is not None

    ledger = tmp_path / "run" / "sites" / "site-1" / "privacy.json"
    newest = tmp_path / "run" / "checkpoints" / "round-0002.safetensors"
    charged, made = _without_times(ledger), load_file(newest)
    newest.unlink()
    _reopened(tmp_path / "run")
    again = resume_experiment(tmp_path / "run", progress=False)
    remade = load_file(newest)
    assert all(np.array_equal(remade[name], each) for name, each in made.items())
    assert again.summary["privacy"] == told
    assert _without_times(ledger) == charged


@pytest.mark.usefixtures("fresh_sites")
def test_sites_that_tell_no_measure_of_theirs_tell_what_a_sum_under_masks_cost(
    tmp_path: Path, tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(SimulatedHost, "tells_own", lambda self, site: False)
    masked = ("secagg.on=true", "secagg.colluding=0", "kind=delta", "sites=3", "data.phantoms.sites=3")
    settings = config(tiny_settings, *masked, "server.min_updates=3", "rounds=1")
    summary = run_experiment(settings, tmp_path / "run", progress=False).summary
    assert set(summary["privacy"]["sites"]) == {"site-1", "site-2", "site-3"}
    assert all(0 < each <= 6.0 for each in summary["privacy"]["sites"].values())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("federation=svm", "trains without noise"),
        ("stem.train=local", "'stem.train' is local"),
        ("train.mixup=0.2", "'train.mixup' mixes two images"),
        ("evaluate_first=true", "'evaluate_first' measures the model of every round"),
        ("server.patience=2", "server.patience: 'patience' chooses the model by what sites measure, and no noise"),
        ("server.keep=best", "server.keep: 'keep' chooses the model by what sites measure, and no noise covers that"),
    ],
)
def test_what_would_be_void_is_refused_before_images_are_looked_at(
    tmp_path: Path, tiny_settings: list[str], more: str, why: str
) -> None:
    settings = [more, "data.path=/nowhere.npz", *(["keys.policy=none", "stem.train=averaged"] if "svm" in more else [])]
    settings += ["stem.init=public"] if "svm" in more else []
    with pytest.raises(ConfigError, match=why):
        make_plan(config(tiny_settings, *settings), tmp_path / "run")


def _recorded(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "manifest.json").read_text())["run_config"]
    return {"format": "medveil-run", "version": 3, **found}


def _reopened(folder: Path) -> None:
    """As a run that was killed before its last checkpoint."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["status"] = "interrupted"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _without_times(ledger: Path) -> list[dict[str, object]]:
    document = json.loads(ledger.read_bytes())
    return [{**each, "at": ""} for run in document["runs"] for each in run["rounds"]]
