"""Which round's model a run leaves: tensors of the server and stems of the sites are of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fl_server.best_round import BestRound
from fl_server.same_sites import Measured
from medveil.config import load_config
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig
from simulations.predictions import load_predictions
from simulations.run import resume_experiment, run_experiment
from simulations.site_models import model_of_run

BEST, ROUNDS = 2, 6
POLICIES = {
    "default": [],
    "secret": ["keys.policy=per-site", "stem.init=secret", "stem.train=local"],
    "ditto": ["train.personal=ditto", "train.personal_mu=0.1", "stem.train=frozen"],
    "alone": ["federation=local-only", "keys.policy=none", "stem.init=public", "stem.train=averaged"],
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.usefixtures("fresh_sites")
def test_what_is_left_is_one_round_everywhere(
    tmp_path: Path, tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    torch.set_num_threads(1)
    see = BestRound.see
    # The measures of so small a run say nothing: they are told which round was best.

    def measured(round_: int) -> Measured:
        return Measured({"site-1": float(round_ != BEST)}, lambda sites: dict.fromkeys(sites, 1.0))

    monkeypatch.setattr(BestRound, "see", lambda self, round_, _: see(self, round_, measured(round_)))
    settings = [*tiny_settings, f"rounds={ROUNDS}", "server.keep=best", *POLICIES[policy]]
    done = run_experiment(load_config(ExperimentConfig, None, settings), tmp_path / "run", progress=False)
    assert done.summary["kept"]["round"] == BEST
    assert done.summary["rounds"] == ROUNDS
    assert f"that of round {BEST}: best validation loss 0.000" in done.report.read_text()
    left = load_predictions(tmp_path / "run")
    for site, predictions in left.items():
        kept = model_of_run(tmp_path / "run", site).kept
        assert kept.facts["round"] == BEST
        assert kept.facts["metrics"]["test-n"] == len(predictions.labels)
        told = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
        # Put together from checkpoint and sealed stem, it answers as it did in the run.
        assert np.isclose(kept.facts["metrics"]["test-loss"], -np.log(told).mean(), rtol=1e-4)


@pytest.mark.usefixtures("fresh_sites")
def test_a_finished_run_goes_on_for_more_rounds(tmp_path: Path, tiny_settings: list[str]) -> None:
    torch.set_num_threads(1)
    config = load_config(ExperimentConfig, None, [*tiny_settings, "rounds=2"])
    out = tmp_path / "run"
    run_experiment(config, out, progress=False)
    assert model_of_run(out).kept.facts["round"] == 2
    done = resume_experiment(out, rounds=4, progress=False)
    assert (done.summary["status"], done.summary["rounds"]) == ("finished", 4)
    assert "made longer" in done.report.read_text()
    assert "2 to 4 rounds" in done.report.read_text()
    assert model_of_run(out).kept.facts["round"] == 4
    # Its own settings now say so: it is not made longer once more by being taken up again.
    assert resume_experiment(out, progress=False).summary["rounds"] == 4
    with pytest.raises(ConfigError, match="'rounds' is 3, and the run has 4"):
        resume_experiment(out, rounds=3, progress=False)
