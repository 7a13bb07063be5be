"""An exported model as a MONAI bundle: timm's network by its own call, the same weights, and nothing of MedVeil."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from fl_client.cli import main
from fl_client.export.bundle import INFERENCE, METADATA, MODEL, write_bundle
from fl_client.export.ready import Ready, from_folder, no_keys

MONAI = os.environ.get("MEDVEIL_MONAI", "")
_BY_MONAI = """
import sys, monai.bundle, torch
folder, name, pixels, answers = sys.argv[1:]
network = monai.bundle.load(name, bundle_dir=folder, workflow_type="inference").eval()
with torch.no_grad():
    torch.save(network(torch.load(pixels)), answers)
assert not [name for name in sys.modules if name.startswith(("medveil", "models", "fl_client"))]
"""


@pytest.fixture(scope="module")
def ready() -> Ready:
    torch.set_num_threads(1)
    return from_folder(Path(__file__).parent / "fixtures" / "exported-v3", no_keys)


@pytest.fixture(scope="module")
def bundle(ready: Ready, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, ready.described, ready.model)
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_network_and_its_weights_give_the_model_s_answers(bundle: Path, ready: Ready) -> None:
    called = read(bundle / INFERENCE)["network_def"]
    module, _, name = called.pop("_target_").rpartition(".")
    assert module == "timm"
    network = getattr(importlib.import_module(module), name)(**called).eval()
    network.load_state_dict(torch.load(bundle / MODEL, weights_only=True))
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (3, *shape(bundle))).astype(np.float32))
    with torch.no_grad():
        assert torch.equal(network(pixels), ready.model.eval()(pixels))


@pytest.mark.skipif(not MONAI, reason="MEDVEIL_MONAI names no Python that has monai: see tests/README.md")
def test_monai_loads_it_in_an_environment_of_its_own(bundle: Path, ready: Ready, tmp_path: Path) -> None:
    pixels, answers = tmp_path / "pixels.pt", tmp_path / "answers.pt"
    torch.save(torch.rand(2, *shape(bundle), generator=torch.Generator().manual_seed(0)), pixels)
    given = [bundle.parent, bundle.name, pixels, answers]
    subprocess.run([MONAI, "-I", "-c", _BY_MONAI, *map(str, given)], check=True, cwd=tmp_path)
    with torch.no_grad():
        assert torch.allclose(torch.load(answers), ready.model.eval()(torch.load(pixels)), atol=1e-5)


def shape(bundle: Path) -> tuple[int, ...]:
    described = read(bundle / METADATA)["network_data_format"]["inputs"]["image"]
    return (described["num_channels"], *described["spatial_shape"])


def test_it_says_what_it_is(bundle: Path, ready: Ready) -> None:
    made, asked = read(bundle / METADATA), read(bundle / INFERENCE)
    assert list(made["network_data_format"]["outputs"]["pred"]["channel_def"].values()) == list(ready.described.classes)
    assert made["required_packages_version"]["timm"] == timm.__version__
    for text in (made["description"], made["intended_use"], (bundle / "docs" / "README.md").read_text()):
        assert "Not a medical device" in text
    scaled = asked["preprocessing"]["transforms"][-1]
    # As `models.vit.normalise` has it: 0 is -1 and 255 is 1.
    assert (scaled["a_min"], scaled["a_max"], scaled["b_min"], scaled["b_max"]) == (0, 255, -1, 1)
    assert repr(ready.described.temperature) in asked["postprocessing"]["transforms"][0]["func"]
    assert "medveil" not in (bundle / INFERENCE).read_text().lower()


def test_a_key_bearing_model_is_no_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "model", "--hidden", "--monai"]) == 2
    assert "--monai with --hidden" in capsys.readouterr().err
