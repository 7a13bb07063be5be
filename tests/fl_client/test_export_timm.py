"""What the card of an export says to someone who has timm and no MedVeil: its lines are run as they stand."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_site import SIZE, evaluated
from PIL import Image

from crypto import sealed_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.own_site import OwnKeys
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import KeptModel, open_kept
from fl_client.export.predicting import predict_files
from fl_client.export.ready import from_folder
from fl_client.export.write import export_hidden, export_plain
from medveil.config import to_mapping
from models.config import ModelConfig
from models.vit import build_vit

KEYS = OwnKeys(Keyring(SiteKey.generate("st-anna")))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> KeptModel:
    torch.set_num_threads(1)
    images, site = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("site")
    draw_phantoms(images, PhantomConfig(sites=1, images=40, classes=2, size=SIZE))
    evaluated(site, images, KEYS, width=16, depth=1)
    found = open_kept(find_kept(site / MODELS, None), KEYS.own)
    return replace(found, facts={**found.facts, "calibration": {**found.facts["calibration"], "temperature": 0.4}})


def with_made_bias(kept: KeptModel) -> KeptModel:
    """The same of an architecture whose patch embedding has no bias in timm, and has one in MedVeil."""
    config = ModelConfig(
        name="vit_base_patch16_clip_224", image_size=SIZE, patch=8, channels=1, classes=2, width=16, depth=1, heads=2
    )
    model = build_vit(config, seed=3)
    model.patch_embed.proj.bias = torch.nn.Parameter(torch.linspace(-1, 1, 16))
    run = {**kept.facts["run_config"], "model": to_mapping(config)}
    return KeptModel(dict(model.state_dict()), {**kept.facts, "run_config": run})


def lines_of(card: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(found)


def run_lines(folder: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> tuple[str, np.ndarray]:
    lines = lines_of((folder / "MODEL_CARD.md").read_text())
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"pixels": torch.from_numpy(pixels.astype(np.float32))}
    with torch.no_grad():
        exec(lines, names)
    return lines, names["p"].numpy()


@pytest.mark.parametrize("made_bias", [False, True])
def test_the_lines_of_the_card_answer_as_predict_does(
    kept: KeptModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_bias: bool
) -> None:
    made, folder, asked = with_made_bias(kept) if made_bias else kept, tmp_path / "model", tmp_path / "asked"
    export_plain(made, KEYS, folder)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 1, SIZE, SIZE), dtype=np.uint8)
    asked.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[0]).save(asked / f"{number}.png")
    lines, said = run_lines(folder, pixels, monkeypatch)
    if not made_bias:
        assert len(lines.splitlines()) == 3
        assert 'timm.create_model("local-dir:.", pretrained=True)' in lines
    wanted = predict_files(from_folder(folder, no_keys), asked, device=CPU).probabilities
    np.testing.assert_allclose(said, wanted, atol=1e-5)
    assert np.ptp(wanted[:, 0]) > 1e-4 or made_bias


def test_timm_loads_it_for_other_classes_and_channels_too(kept: KeptModel, tmp_path: Path) -> None:
    import timm  # noqa: PLC0415 - models.vit declares what its torchvision lacks, and must come first

    export_plain(kept, KEYS, tmp_path / "model")
    shutil.move(tmp_path / "model", tmp_path / "moved")
    whole = timm.create_model(f"local-dir:{tmp_path / 'moved'}", pretrained=True)
    assert whole.pretrained_cfg["label_names"] == ["none", "mass"]
    other = timm.create_model(f"local-dir:{tmp_path / 'moved'}", pretrained=True, num_classes=5, in_chans=3)
    assert other.head.out_features == 5
    block = "blocks.0.attn.qkv.weight"
    assert torch.equal(other.state_dict()[block], whole.state_dict()[block])
    # What timm itself would prepare images with brings 0 and 255 to -1 and 1.
    config = timm.data.resolve_model_data_config(whole)
    assert config["input_size"] == (1, SIZE, SIZE)
    assert set(config["mean"]) == set(config["std"]) == {0.5}


def test_a_sealed_export_shows_no_such_lines(kept: KeptModel, tmp_path: Path) -> None:
    export_hidden(kept, KEYS, tmp_path / "model")
    assert "```python" not in (tmp_path / "model" / "MODEL_CARD.md").read_text()


def no_keys() -> OwnKeys:
    raise AssertionError("a passphrase was asked for")
