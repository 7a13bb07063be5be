"""Weights that pre-training leaves: read for as long as there are such files, and for what they say they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medveil.errors import ConfigError, FormatError, IntegrityError
from models.config import ModelConfig
from models.vit import build_vit, normalise

OLD = Path(__file__).parent / "fixtures" / "pretrained-1.safetensors"
SIZES = ModelConfig(image_size=8, patch=4, channels=1, classes=3, width=8, depth=1, heads=2, pretrained=str(OLD))


def document() -> dict[str, object]:
    with safe_open(OLD, "pt") as opened:
        made: dict[str, object] = json.loads(opened.metadata()["medveil"])
    return made


def rewritten(path: Path, **changes: object) -> ModelConfig:
    told = {"format": "pt", "medveil": json.dumps({**document(), **changes})}
    save_file(load_file(OLD), path, metadata=told)
    return replace(SIZES, pretrained=str(path))


def test_a_file_of_version_1_is_read_and_its_pixels_are_not_normalised_again() -> None:
    held, model = load_file(OLD), build_vit(SIZES, seed=5)
    assert not [name for name in held if name.startswith(("head", "decoder"))]
    for name, tensor in held.items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert model.patch_embed.proj.weight[0, 0, 0, 0].item() == held["patch_embed.proj.weight"][0, 0, 0, 0].item()
    assert model(normalise(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))).shape == (1, 3)
    larger = build_vit(replace(SIZES, image_size=16, channels=3), seed=5)
    assert larger.pos_embed.shape[1] == 17


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"version": 2}, FormatError, "version 2"),
        ({"sha256": "0" * 64}, IntegrityError, "is not what its checksum says"),
        ({"sha256": None}, IntegrityError, "is not what its checksum says"),
        ({"heads": 4}, ConfigError, "is of a model of 4 heads, and the run's has 2; model.heads=4"),
        ({"heads": "\x1b[2J"}, ConfigError, "is of a model of other heads"),
        ({"domain": "hidden"}, ConfigError, "is of a model that reads hidden images"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_line(
    changes: dict[str, object], kind: type[Exception], told: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        build_vit(rewritten(tmp_path / "w.safetensors", **changes), seed=0)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_another_mean_is_refused_as_for_an_export() -> None:
    with pytest.raises(ConfigError, match=r"model\.mean: is \[0\.1\]"):
        build_vit(replace(SIZES, mean=[0.1]), seed=0)
