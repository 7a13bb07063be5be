"""What travels under a scope, counted before anything is built, is what a message carries."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from medveil.errors import ConfigError
from medveil.training import TrainConfig
from medveil.wire import WIRES, encode, pack
from models.config import ModelConfig
from models.light import lighten
from models.policy import resolve_policy
from models.travel import travelling
from models.vit import build_vit
from models.weighed import SCOPES, main, rows, weighed

TINY = ModelConfig(name="vit_tiny_patch16_224", image_size=16, patch=8, width=24, depth=2, heads=2, classes=2)
DOCUMENT = Path(__file__).parents[2] / "docs" / "results" / "bytes.json"


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_counted_is_what_a_message_carries(scope: str) -> None:
    model = lighten(build_vit(TINY, seed=0), scope, 4, seed=0)
    own = model.state_dict()
    sent = {name: own[name].numpy() for name in travelling(model, resolve_policy("per-site", None, None), scope)}
    for wire in WIRES:
        packed = io.BytesIO()
        np.save(packed, pack(encode(sent, wire)))
        assert weighed(TINY, scope, rank=4)[wire] == packed.tell()


def test_the_documentation_has_what_the_program_counts(tmp_path: Path) -> None:
    found = json.loads(DOCUMENT.read_text())
    assert found["rows"] == rows()
    assert found["rank"] == TrainConfig().rank
    assert main(["vit_tiny_patch16_224", "--json", str(tmp_path / "bytes.json")]) == 0
    assert json.loads((tmp_path / "bytes.json").read_text())["rows"] == found["rows"][: len(SCOPES)]


def test_a_model_that_timm_does_not_have_is_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vit_of_nobody"]) == ConfigError.exit_code
    said = capsys.readouterr()
    assert not said.out
    assert "vit_of_nobody" in said.err
    assert "Traceback" not in said.err
