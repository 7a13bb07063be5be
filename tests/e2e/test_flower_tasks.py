"""Tasks that train nothing through Flower's own simulation: the figures are those in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from flower_runs import CHECKOUT, DEMO, TINY_OVERRIDES, medveil_sim
from safetensors.torch import save_file

from models.config import ModelConfig
from models.vit import build_vit
from simulations.cli import main

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(580)]


def both(folder: Path, *settings: str) -> list[Path]:
    """Run folders of one experiment by each engine."""
    runs = [folder / "inprocess", folder / "flower"]
    words = [*TINY_OVERRIDES, "rounds=1", *settings]
    assert main(["run", str(CHECKOUT / DEMO), *words, "--out", str(runs[0])]) == 0
    done = medveil_sim("run", DEMO, *words, "--out", str(runs[1]), "--engine", "flower", home=folder)
    assert done.returncode == 0, done.stderr
    return runs


def test_a_known_model_is_measured_as_in_process(tmp_path: Path) -> None:
    model = build_vit(ModelConfig(image_size=64, patch=8, channels=1, classes=3, width=96, depth=4, heads=4), seed=7)
    with torch.no_grad():
        # Fresh heads say nothing of an image: this one has an opinion.
        model.head.weight.mul_(20)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "known.safetensors"
    )
    runs = both(tmp_path, "task=evaluate", f"model.pretrained={tmp_path / 'known.safetensors'}")
    found = [json.loads((run / "summary.json").read_text()) for run in runs]
    assert found[0]["measured"] == found[1]["measured"] == "all"
    for key in ("loss", "accuracy", "auroc"):
        assert found[1][key] == pytest.approx(found[0][key], rel=1e-4), key
    assert found[0]["loss"] > 0


def test_images_are_counted_under_masks_as_in_process(tmp_path: Path) -> None:
    summed = ["kind=delta", "secagg.on=true", "secagg.colluding=0", "server.min_updates=3"]
    more = ["sites=3", "data.phantoms.sites=3", *summed]
    runs = both(tmp_path, "task=statistics", "statistics.bins=8", *more)
    found = [json.loads((run / "statistics.json").read_text()) for run in runs]
    assert found[0].pop("run") != found[1].pop("run")
    assert found[0] == found[1]
