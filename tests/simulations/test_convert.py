"""`medveil-sim convert-checkpoint`: safetensors of what PyTorch saved, with a card."""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from medveil.errors import ConfigError, FormatError, MedVeilError, StorageError
from models.config import ModelConfig
from models.vit import build_vit
from simulations.cli import main
from simulations.convert import convert

KERNEL = "patch_embed.proj.weight"
Document = Any


def state(value: float = 1.0) -> dict[str, Tensor]:
    return {KERNEL: torch.full((2, 1, 2, 2), value), "norm.bias": torch.arange(2.0)}


def wrapped(value: float, prefix: str = "module.") -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state(value).items()}


def saved(document: Document, folder: Path, name: str = "weights.pth") -> Path:
    torch.save(document, folder / name)
    return folder / name


OPTIMISER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("document", "part"),
    [
        (state(), ""),
        ({"state_dict": state()}, "state_dict"),
        ({"model": state(), "epoch": 3, "args": {"lr": 1}}, "model"),
        ({"state_dict": state(7), "state_dict_ema": wrapped(1), "optimizer": OPTIMISER}, "state_dict_ema"),
        ({"model": state(7), "model_ema": state()}, "model_ema"),
        ({"student": state(7), "teacher": wrapped(1, "backbone.")}, "teacher"),
        ({"teacher": {"backbone": state()}, "student": {"backbone": state(7)}}, "teacher.backbone"),
        ({"anything": state(), "loss": {"center": torch.ones(3)}}, "anything"),
    ],
)
def test_the_usual_part_is_taken(document: Document, part: str, tmp_path: Path) -> None:
    source, out = saved(document, tmp_path), tmp_path / "o.safetensors"
    assert convert(source, out).part == part
    found = safetensors.torch.load_file(out)
    kernel = next(tensor for name, tensor in found.items() if name.endswith(KERNEL))
    assert torch.equal(kernel, state()[KERNEL])


def test_another_part_is_asked_for_by_name(tmp_path: Path) -> None:
    source = saved({"student": state(7), "teacher": state()}, tmp_path)
    made = convert(source, tmp_path / "o.safetensors", part="student")
    assert (made.part, made.others) == ("student", ("teacher",))
    with pytest.raises(ConfigError, match=r"has no 'pupil'; one of student, teacher"):
        convert(source, tmp_path / "p.safetensors", part="pupil")
    both = saved({"one": state(), "other": state()}, tmp_path, "both.pth")
    with pytest.raises(ConfigError, match="holds several state dicts; --part names one of one, other"):
        convert(both, tmp_path / "p.safetensors")


def test_the_card_says_where_it_came_from(tmp_path: Path) -> None:
    source, out = saved({"model": state()}, tmp_path), tmp_path / "o.safetensors"
    convert(source, out)
    card = json.loads((tmp_path / "o.card.json").read_text())
    assert (card["format"], card["version"]) == ("medveil-converted-checkpoint", 1)
    assert card["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert card["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (card["part"], card["tensors"], card["numbers"]) == ("model", 2, 10)


def test_what_it_made_is_taken_by_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=24, depth=1, heads=2)
    model = build_vit(sizes, seed=3)
    source = saved({"model": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path, "last.pt")
    assert main(["convert-checkpoint", str(source), "--out", str(tmp_path / "o.safetensors")]) == 0
    assert "tensors of 'model'" in capsys.readouterr().out
    again = tmp_path / "again.safetensors"
    assert main(["convert-checkpoint", str(source), "--out", str(again), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    card = json.loads(Path(found["card"]).read_text())
    assert (found["file"], found["part"], found["left_out"]) == (str(again), "model", [])
    assert (found["tensors"], found["numbers"]) == (card["tensors"], card["numbers"])
    sizes.pretrained = str(tmp_path / "o.safetensors")
    begun = build_vit(sizes, seed=0)
    assert all(torch.equal(begun.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_shared_and_turned_tensors_are_made_whole(tmp_path: Path) -> None:
    tied = torch.arange(6.0).view(2, 3)
    source = saved({"a": tied, "b": tied, "c": tied.T, "d": tied[:, 1:]}, tmp_path)
    convert(source, tmp_path / "o.safetensors")
    found = safetensors.torch.load_file(tmp_path / "o.safetensors")
    assert torch.equal(found["c"], tied.T)
    assert torch.equal(found["d"], tied[:, 1:])
    assert torch.equal(found["a"], found["b"])


def compressed(folder: Path) -> Path:
    whole, path = saved(state(), folder, "whole.pth"), folder / "packed.pth"
    with zipfile.ZipFile(whole) as read, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for member in read.infolist():
            made.writestr(member.filename, read.read(member))
    return path


SPOILED: dict[str, Callable[[Path], Path]] = {
    "cut": lambda folder: _cut(saved(state(), folder)),
    "empty": lambda folder: _write(folder / "empty.pth", b""),
    "text": lambda folder: _write(folder / "text.pth", b"not weights at all"),
    "a list": lambda folder: saved([1, 2, 3], folder),
    "no tensors": lambda folder: saved({"epoch": 3, "model": {"lr": 0.1}}, folder),
    "an object": lambda folder: saved({"model": state(), "args": argparse.Namespace(lr=1)}, folder),
    "compressed": compressed,
    "claims": lambda folder: saved({KERNEL: torch.ones(1).expand(2**40)}, folder),
    "sparse": lambda folder: saved({KERNEL: torch.eye(3).to_sparse()}, folder),
    "long name": lambda folder: saved({"x" * 600: torch.ones(1)}, folder),
}


def _cut(path: Path) -> Path:
    return _write(path, path.read_bytes()[:200])


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_no_checkpoint_is_refused_in_one_line_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    source = SPOILED[kind](tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FormatError) as caught:
        convert(source, tmp_path / "o.safetensors")
    assert str(caught.value).startswith(f"{source}: ")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("source", "out", "kind", "says"),
    [
        ("none.pth", "o.safetensors", StorageError, "no such file"),
        ("folder.pth", "o.safetensors", StorageError, "is no plain file"),
        ("w.safetensors", "o.safetensors", ConfigError, "is no pickle, and read as it is"),
        ("w.npz", "o.safetensors", ConfigError, "is no pickle, and read as it is"),
        ("w.onnx", "o.safetensors", ConfigError, "is no checkpoint by its name"),
        ("w.pth", "o.pth", ConfigError, "does not end in .safetensors"),
        ("w.pth", "there.safetensors", ConfigError, "is there already"),
        ("w.pth", "carded.safetensors", ConfigError, "is there already"),
    ],
)
def test_files_of_another_kind_are_refused(
    source: str, out: str, kind: type[MedVeilError], says: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    (tmp_path / "carded.card.json").write_bytes(b"mine")
    saved(state(), tmp_path, "w.pth")
    with pytest.raises(kind, match=says):
        convert(tmp_path / source, tmp_path / out)
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
