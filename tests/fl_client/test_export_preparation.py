"""A model that learned from images prepared in another way than this MedVeil prepares them: said where it is used."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crypto.imaging import preprocess
from fl_client.data.base import HiddenUnder
from fl_client.export import asking
from fl_client.export.asking import ask, warn_of_preparation
from fl_client.export.described import otherwise_of
from fl_client.export.kept import KeptModel
from fl_client.export.ready import Ready, from_folder, no_keys
from medveil.errors import EXIT_OK, EXIT_PARTIAL

FIXTURES = Path(__file__).parent / "fixtures"
CPU = torch.device("cpu")
WARNED = f"way 1, and this MedVeil prepares them in way {preprocess.VERSION}"


@pytest.fixture
def earlier() -> Ready:
    """A model whose images were prepared in way 1, as its config.json says."""
    return from_folder(FIXTURES / "exported-v3", no_keys)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(folder / "0.png")
    return folder


def facts(preparation: int | None, *, hidden_source: Any = None) -> dict[str, Any]:
    data = {} if preparation is None else {"preparation": preparation}
    return {"data": data, "hidden_source": hidden_source, "environment": {"medveil": "0.0.9"}}


def test_whoever_asks_it_is_warned_by_name(
    tmp_path: Path, earlier: Ready, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert earlier.described.preparation == 1
    assert ask(earlier, asked, tmp_path / "p.csv", device=CPU, named="the model of round 1") == EXIT_OK
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert said.startswith("warning: the model of round 1: it learned from images prepared in ")
    assert WARNED in said
    assert "train it anew" in said


def test_nobody_is_warned_of_the_same_way_or_of_what_others_hid(
    tmp_path: Path, earlier: Ready, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = HiddenUnder("block-pixel", 4, "0" * 16)
    assert replace(earlier.described, hidden_source=source).otherwise == ""
    same = replace(earlier, described=replace(earlier.described, preparation=preprocess.VERSION))
    ask(same, asked, tmp_path / "p.csv", device=CPU, named="the model")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(("preparation", "warned"), [(1, True), (None, True), (preprocess.VERSION, False)])
def test_whoever_exports_it_is_warned(
    preparation: int | None, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kept model that does not say how is of a MedVeil that kept none of it: of the first way."""
    warn_of_preparation(KeptModel({}, facts(preparation)))
    assert (WARNED in capsys.readouterr().err) == warned
    hidden = {"scheme": "block-pixel", "block": 4, "fingerprint": "0", "derivation": 2}
    assert otherwise_of(facts(preparation, hidden_source=hidden)) == ""


def test_the_problem_of_a_skipped_file_comes_with_its_cure(
    tmp_path: Path, earlier: Ready, asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "_SHOWN", 100)
    (asked / "cmyk.jpg").write_bytes(b"")
    Image.new("CMYK", (32, 32)).save(asked / "cmyk.jpg")
    (asked / "animated.png").write_bytes(animated(asked / "0.png"))
    out = tmp_path / "p.csv"
    assert ask(earlier, asked, out, device=CPU, named="the model") == EXIT_PARTIAL
    reasons = ["is a JPEG file of mode CMYK; convert it to RGB or grey", "is an animated PNG; take its frames apart"]
    said, written = capsys.readouterr().err, out.with_name("p.unreadable.csv").read_text()
    for reason in reasons:
        assert reason in said
        assert reason in written


def animated(path: Path) -> bytes:
    """A PNG with the chunk of an animation behind its header."""
    data, body = path.read_bytes(), b"acTL" + bytes(8)
    return data[:33] + (8).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + data[33:]
