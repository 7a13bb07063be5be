"""A search at toy size, with Optuna's own sampler: on validation alone, and the same if it was interrupted."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from medveil import plain
from medveil.config import load_config
from medveil.errors import ConfigError, PartialError
from simulations import api, search
from simulations.config import ExperimentConfig
from simulations.points import Range
from simulations.report.dots import dots_over
from simulations.side_by_side import Job
from simulations.sweep import laid_over

RATES = {"train.lr": Range(1e-4, 1e-1, "log"), "train.optimizer": ("adamw", "sgd"), "model.depth": Range(1, 3, "int")}


def score(experiment: ExperimentConfig) -> float:
    """Best at a rate of 0.01 with SGD."""
    return 0.9 - 0.1 * abs(math.log10(experiment.train.lr) + 2) - 0.2 * (experiment.train.optimizer == "adamw")


@pytest.fixture(autouse=True)
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """No run is made: its settings are its score. The jobs that would have been run, in their order."""
    ran: list[Job] = []

    def carry_out(planned: dict[str, list[Job]], *_: Any, after: Any, **__: Any) -> dict[str, str]:
        failed = {}
        for job in (each for own in planned.values() for each in own):
            ran.append(job)
            if job.experiment.train.lr > 0.05:
                failed[job.name] = "the training loss is not finite"
            else:
                after(job)
        return failed

    def measured(job: Job) -> dict[str, Any]:
        found = score(job.experiment) + 0.01 * job.experiment.seed
        return {"accuracy": found, "auroc": None, "loss": 1 - found, "seconds": 2.0, "cpu_seconds": 1.0}

    monkeypatch.setattr(search, "carry_out", carry_out)
    monkeypatch.setattr(search, "measured", measured)
    return ran


@pytest.fixture
def base(tiny_settings: list[str]) -> ExperimentConfig:
    return load_config(ExperimentConfig, None, [*tiny_settings, "rounds=1", "model.depth=1", "compare.seeds=[1, 2]"])


def test_without_optuna_it_is_said_what_to_install(
    base: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"needs Optuna; pip install 'medveil\[search\]'"):
        api.search(base, tmp_path / "S", over=RATES)


def test_it_comes_to_the_better_settings_by_validation_alone(
    base: ExperimentConfig, tmp_path: Path, scored: list[Job]
) -> None:
    pytest.importorskip("optuna")
    made = api.search(base, tmp_path / "S", over=RATES, trials=30)
    trials = made.trials()
    assert len(trials) == 30
    assert len(scored) == 60
    # The better half of the trials is nearer than drawing at random would be.
    assert made.best["train.optimizer"] == "sgd"
    assert made.best["accuracy"] > 0.9
    late = [each for each in trials[15:] if each["train.optimizer"] == "sgd"]
    assert len(late) > 10
    assert made.best["accuracy"] == pytest.approx(max(each["accuracy"] or 0 for each in trials))
    assert {each["model.depth"] for each in trials} == {1, 2, 3}
    for each in trials:
        whole = each["train.lr"] <= 0.05
        assert (each["accuracy"] is None, each["problem"] is None) == (not whole, whole)
    assert made.failed == tuple(f"trial {each['trial']}" for each in trials if each["accuracy"] is None)
    text = (made.folder / "search.json").read_text() + (made.folder / "search.csv").read_text()
    assert "test" not in text.replace(str(tmp_path), "")
    assert 'id="course-' in made.report.read_text()


def test_one_that_was_interrupted_goes_on_as_it_would_have(
    base: ExperimentConfig, tmp_path: Path, scored: list[Job]
) -> None:
    pytest.importorskip("optuna")
    whole = api.search(base, tmp_path / "WHOLE", over=RATES, trials=14, seeds=[1]).trials()
    scored.clear()
    api.search(base, tmp_path / "PARTS", over=RATES, trials=5, seeds=[1])
    parts = api.search(base, tmp_path / "PARTS", over=RATES, trials=14, seeds=[1])
    assert len(scored) == 14
    keys = [*RATES, "accuracy"]
    assert [[each[key] for key in keys] for each in parts.trials()] == [[each[key] for key in keys] for each in whole]
    with pytest.raises(ConfigError, match="holds a search with another 'measure'"):
        api.search(base, tmp_path / "PARTS", over=RATES, trials=14, seeds=[1], measure="loss")


def test_the_loss_is_made_small_and_what_cannot_be_is_a_trial_without_a_score(
    base: ExperimentConfig, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    base.keys.policy = "per-site"
    over = {"train.lr": Range(1e-3, 1e-2, "log"), "stem.init": ["public", "adapted"]}
    made = api.search(base, tmp_path / "S", over=over, trials=3, measure="loss", seeds=[1])
    assert made.best["loss"] == min(each["loss"] for each in made.trials())
    with pytest.raises(ConfigError, match="in the point"):
        api.search(base, tmp_path / "T", over={"stem.train": ["local", "averaged"]}, trials=3)
    with pytest.raises(PartialError, match="no trial has a score: the training loss"):
        api.search(base, tmp_path / "U", over={"train.lr": [0.06, 0.07]}, trials=2, seeds=[1])
    with pytest.raises(ConfigError, match=r"search\(measure=\.\.\.\)"):
        api.search(base, tmp_path / "V", over=over, measure="f1")


def test_values_that_cannot_be_had_together_are_a_trial_without_a_score(base: ExperimentConfig, tmp_path: Path) -> None:
    pytest.importorskip("optuna")

    def made(values: Mapping[str, Any]) -> ExperimentConfig:
        if (values.get("train.clip"), values.get("model.depth")) == (2.0, 2):
            raise ConfigError("cannot be had with the other", where="train.clip")
        return laid_over(base)(values)

    axes = {"train.clip": (1.0, 2.0), "model.depth": (1, 2)}
    found = search.search(made, axes, tmp_path / "S", trials=12, console=plain.console_unless(True))
    lacking = [each for each in found.trials() if each["accuracy"] is None]
    assert {(each["train.clip"], each["model.depth"]) for each in lacking} == {(2.0, 2)}
    assert all("cannot be had with the other" in each["problem"] for each in lacking)
    assert (found.exit_code, len(found.failed)) == (6, len(lacking))


@pytest.mark.usefixtures("drawn")
def test_trials_are_told_by_whole_numbers() -> None:
    titles = ("trial", "AUROC")
    trials, rates = [
        dots_over([(1.0 * by, 0.2), (2.0 * by, 0.3)], name="course", label="a course", titles=titles) for by in (1, 0.5)
    ]
    assert "1.5" not in re.findall(r">([\d.]+)<", trials)
    assert any("." in each for each in re.findall(r">(\d[\d.]*)<", rates))
