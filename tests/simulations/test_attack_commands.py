"""`medveil-sim attacks` and `medveil-sim attack`, as typed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simulations.attacks.registry import ATTACKS
from simulations.attacks.study.result import read_result
from simulations.cli import main

TINY = ["--keys", "2", "--images-per-key", "3", "--block", "8"]


@pytest.fixture
def tiny_folder(tmp_path: Path, smooth_npz: Callable[..., Path]) -> Path:
    """A folder of PNG with labels.csv and groups."""
    folder = tmp_path / "images"
    folder.mkdir()
    lines = ["path,label,group"]
    with np.load(smooth_npz()) as stored:
        for i in range(60):
            Image.fromarray(stored["images"][i]).save(folder / f"{i}.png")
            lines.append(f"{i}.png,{'ab'[int(stored['labels'][i])]},{stored['group'][i]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_the_list_names_each_attack_with_its_knowledge(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attacks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ATTACKS)
    assert "knows: ciphertexts, known pairs" in next(line for line in lines if line.startswith("known-plaintext"))
    assert main(["attacks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["attack"] for each in listed] == list(ATTACKS)
    assert all(each["text"] and each["metrics"] and each["knowledge"] for each in listed)


@pytest.mark.parametrize("attack", list(ATTACKS.values()), ids=list(ATTACKS))
def test_every_attack_is_described_in_full(attack: type) -> None:
    made = attack()
    names = [metric.name for metric in made.metrics]
    assert len(set(names)) == len(names)
    assert made.main in names
    assert made.margin > 0
    assert all(name.replace("_", "").isalnum() for name in names)
    assert made.name == made.name.lower()
    assert made.kind == "diagnostic" or made.control is not None
    assert made.text.endswith(".")


def test_an_attack_on_a_folder_leaves_json_and_figure(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["attack", "known-plaintext", "--images", str(tiny_folder), "--cipher", "block-pixel", "--negate"]
    assert main([*line, *TINY, "--size", "32", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "known-plaintext: succeeds" in printed
    result = read_result(out / "known-plaintext.json")
    assert result.target == {
        "scheme": "block-pixel",
        "block": 8,
        "negate": True,
        "channels": 1,
        "height": 32,
        "width": 32,
        "bits": 8,
    }
    assert result.data["grouped"] is True
    assert result.keys == 2
    figure = out / str(result.figure)
    assert Image.open(figure).size[0] > 800
    # It shows originals.
    assert stat.S_IMODE(figure.stat().st_mode) == 0o600
    assert not list(out.glob("*.part"))


def test_the_same_command_gives_the_same_figures(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["attack", "known-plaintext", "--images", str(tiny_folder), "--cipher", "block-pixel", "--json", *TINY]
    made = []
    for name in ("a", "b"):
        assert main([*line, "--size", "32", "--out", str(tmp_path / name)]) == 0
        made.append(json.loads(capsys.readouterr().out)[0]["metrics"])
    assert made[0] == made[1]


def test_a_run_is_attacked_with_its_own_images_and_cipher(
    tiny: Callable, tmp_path: Path, fresh_sites: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from simulations.report.page import write_report  # noqa: PLC0415
    from simulations.run import run_experiment  # noqa: PLC0415

    run = tmp_path / "run"
    run_experiment(tiny("rounds=1"), run, progress=False)
    line = ["attack", "known-plaintext", "--run", str(run), "--keys", "2", "--images-per-key", "3"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 0
    result = read_result(run / "attacks" / "known-plaintext.json")
    assert result == read_result(tmp_path / "out" / "known-plaintext.json")
    assert (result.target["block"], result.target["negate"], result.target["height"]) == (4, True, 16)
    assert (run / "attacks" / "known-plaintext.png").is_file()
    capsys.readouterr()
    assert main([*line, "--cipher", "none"]) == 2
    assert "--run takes no --cipher" in capsys.readouterr().err
    # The page reads every file of attacks/.
    assert "known-plaintext" in write_report(run).read_text()


NPZ = ["attack", "all", "--images", "NPZ", "--out", "O", "--cipher"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["attack", "known-plaintxt", "--images", "X", "--cipher", "none", "--out", "O"], "did you mean known-plain"),
        (["attack", "all", "--images", "X", "--cipher", "none"], "needs --out"),
        (["attack", "all", "--images", "X", "--out", "O"], "needs --cipher"),
        (["attack", "all", "--out", "O"], "--images --run is required"),
        (["attack", "all", "--images", "absent", "--cipher", "none", "--out", "O"], "no such folder"),
        (["attack", "all", "--run", "absent", "--out", "O"], "absent"),
        ([*NPZ, "blok-pixel"], "did you mean block-pixel"),
        ([*NPZ, "none", "--keys", "0"], "at least 1"),
        ([*NPZ, "none", "--block", "0"], "at least 1"),
        ([*NPZ, "none", "--seed", "-1"], "0 or more"),
        ([*NPZ, "none", "--size", "8", "--block", "8"], "at least 11"),
        ([*NPZ, "none", "--set", "data.pth=3"], "did you mean 'data.path'"),
    ],
)
def test_bad_input_is_one_line(
    line: list[str], words: str, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(in_tmp_path) if each == "NPZ" else each for each in line]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert words in error


@pytest.fixture
def in_tmp_path(tmp_path: Path, smooth_npz: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; gives an npz that can be read."""
    monkeypatch.chdir(tmp_path)
    return smooth_npz()


def test_a_size_that_is_not_whole_blocks_is_rounded_up_and_said(
    smooth_npz: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["attack", "known-plaintext", "--images", str(smooth_npz()), "--cipher", "block-pixel", "--block", "10"]
    assert main([*line, "--keys", "2", "--images-per-key", "2", "--out", str(tmp_path)]) == 0
    result = read_result(tmp_path / "known-plaintext.json")
    assert result.target["height"] == 40
    assert any("resized to 40 pixels" in note for note in result.notes)
