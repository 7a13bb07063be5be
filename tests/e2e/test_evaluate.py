"""Two real hospitals that agreed to measure and to nothing else: a model goes round, and no update exists."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from consortium_world import RUN, World
from safetensors.torch import save

from models.config import ModelConfig
from models.vit import build_vit

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(600)]


def test_hospitals_measure_a_model_they_have_and_refuse_to_train_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up()
    size, block = RUN["data"]["image_size"], RUN["cipher"]["block"]
    sizes = ModelConfig(**RUN["model"], image_size=size, patch=block, channels=1, classes=2)
    state = {name: tensor.contiguous() for name, tensor in build_vit(sizes, seed=3).state_dict().items()}
    given = save(state)
    limits = ("limits.tasks=[evaluate]", "limits.approve_runs=true", f"limits.weights=[{sha256(given).hexdigest()}]")
    sites = [world.enroll(name, *limits) for name in ("st-anna", "mercy")]
    for folder in (world.consortium.weights, *(site.files.weights for site in sites)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "known.safetensors").write_bytes(given)
    assert world("start") == 0
    for site in sites:
        site.start()
        site.wait_ready()
    measured = world.run_file(
        task="evaluate", rounds=1, model={**RUN["model"], "pretrained": "known.safetensors"}, evaluate={"images": "all"}
    )
    assert world("run", measured) != 0, "nobody approved it yet"
    assert "approve --run" in capsys.readouterr().err
    for site in sites:
        assert site("approve", "--run", "--yes") == 0
        said = capsys.readouterr().out
        assert "measures one model on all labelled images of each site; nothing trains" in said
        assert f"SHA-256 {sha256(given).hexdigest()}, named in 'limits.weights'" in " ".join(said.split())
    assert world("run", measured) == 0
    folder: Path = world.run_folder()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["task"], summary["measured"], summary["rounds"]) == ("evaluate", "all", 0)
    assert {name: row["n"] for name, row in summary["sites"].items()} == {"st-anna": 40, "mercy": 40}
    assert summary["bytes_up"] == 0
    assert not list(folder.glob("checkpoints/*.safetensors"))
    for site in sites:
        kinds = [json.loads(line)["details"].get("kind") for line in site.files.audit.path.read_text().splitlines()]
        assert "evaluate" in kinds and "train" not in kinds
        assert not list((site.files.own / "models").glob("*"))
    assert world("run", world.run_file()) != 0
    assert "limits.tasks: this site takes no part in 'single-label'" in capsys.readouterr().err
