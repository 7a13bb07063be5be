"""`medveil-sim attacks` and `medveil-sim attack`, as typed."""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.usefixtures("drawn")
def test_an_attack_on_a_folder_leaves_json_and_figure(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["attack", "known-plaintext", "--images", str(tiny_folder), "--cipher", "block-pixel", "--negate"]
    assert main([*line, *TINY, "--size", "32", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count("known-plaintext: succeeds") == 1
    assert "known-plaintext: succeeds" in told.out
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


@pytest.mark.usefixtures("drawn")
def test_a_run_is_attacked_with_its_own_images_and_cipher(
    tiny: Callable, tmp_path: Path, fresh_sites: None, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert "a run takes no 'cipher'" in capsys.readouterr().err
    # The page was written anew, with its table.
    assert "What each attack does and assumes" in (run / "report.html").read_text()


NPZ = ["attack", "all", "--images", "NPZ", "--out", "O", "--cipher"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["attack", "known-plaintxt", "--images", "X", "--cipher", "none", "--out", "O"], "did you mean known-plain"),
        (["attack", "all", "--images", "X", "--cipher", "none"], "needs a folder for results; --out DIR"),
        (["attack", "all", "--images", "X", "--out", "O"], "needs the cipher of the images; --cipher"),
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


# --- how much is measured ---


def test_no_attack_hides_more_images_than_it_may(attack_setting: Callable[..., Any]) -> None:
    from simulations.attacks.study.attack import Attack  # noqa: PLC0415

    setting = dataclasses.replace(attack_setting(keys=1, images=5), at_most=5)
    free = attack_setting(keys=1, images=5)
    more = []
    # Those on updates are of situations, not of hidden images.
    for kind in (each for each in ATTACKS.values() if not each.needs):
        attack: Attack = kind().within(5)
        case = attack.case(setting, 0)
        assert 1 <= len(case.targets.labels) <= 5, attack.name
        assert case.labelled is None or len(case.labelled.labels) <= 5, attack.name
        given = attack.case(setting, 0).seen(attack.knowledge)._given.get("ciphertexts")
        images = getattr(given, "images", ())
        assert len(getattr(images, "images", images)) <= 5, attack.name
        more += [attack.name] if len(kind().case(free, 0).targets.labels) > 5 else []
    # These took what they liked.
    assert {"covariance", "aux-statistics", "jigsaw", "histogram-linkage"} <= set(more)


def test_an_attack_that_is_made_for_more_says_so_and_is_judged_on_what_it_had(
    attack_setting: Callable[..., Any],
) -> None:
    from simulations.attacks.study.measure import measure  # noqa: PLC0415

    setting = dataclasses.replace(attack_setting(keys=2, images=3), at_most=3)
    done = measure(ATTACKS["covariance"]().within(3), setting).result
    assert (done.n, done.images_per_key, done.main) == (6, 3, "within_1_3")
    assert done.metrics[done.main].target is not None
    assert done.data["images_wanted"] == 1000
    assert any("Made for 1000 images under each key, and held to 3" in note for note in done.notes)
    one = dataclasses.replace(setting, images=1, at_most=1)
    done = measure(ATTACKS["histogram-linkage"]().within(1), one).result
    assert (done.applicable, done.reason) == (False, "needs 2 images under each key, and may have 1")
    assert done.data["images_wanted"] == ATTACKS["histogram-linkage"]().wanted
    # Where the scheme is the reason, more images would change nothing.
    other = dataclasses.replace(attack_setting("orthogonal", keys=1, images=3), at_most=3)
    done = measure(ATTACKS["jigsaw"]().within(3), other).result
    assert done.applicable is False
    assert "images_wanted" not in done.data
    # Without a limit nothing is held.
    assert "images_wanted" not in measure(ATTACKS["known-plaintext"](), attack_setting(keys=1, images=3)).result.data


def test_options_become_limits(tmp_path: Path, smooth_npz: Callable[..., Path]) -> None:
    import argparse  # noqa: PLC0415

    from simulations.attacks.asked import fitted  # noqa: PLC0415
    from simulations.attacks.commands import add_attack_commands, configured  # noqa: PLC0415
    from simulations.attacks.config import prepare  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    add_attack_commands(parser.add_subparsers(), report=lambda run: run)
    line = ["attack", "all", "--images", str(smooth_npz()), "--cipher", "none", "--block", "8", "--out", str(tmp_path)]

    def config_of(*words: str) -> Any:
        return configured(parser.parse_args([*line, *words]))

    standard = prepare(config_of()).setting
    assert (standard.keys, standard.images, standard.at_most) == (10, 100, None)
    held = prepare(config_of("--images-per-key", "20")).setting
    assert (held.keys, held.images, held.at_most) == (10, 20, 20)
    quick = prepare(config_of("--quick", "--size", "96"))
    assert (quick.setting.keys, quick.setting.at_most, quick.setting.material.size) == (2, 20, 64)
    assert any(note.startswith("A quick trial: 2 keys") for note in quick.notes)
    assert config_of("--quick", "--keys", "3").keys == 3
    for kind in ATTACKS.values():
        slow, fast = kind(), fitted(kind(), config_of("--quick"), device="cpu")
        assert fast.weight <= slow.weight
        assert fast.weight <= 20, fast.name


def test_time_left_is_by_what_is_done(attack_setting: Callable[..., Any]) -> None:
    from simulations.attacks.study.time_left import TimeLeft  # noqa: PLC0415

    first, second, third = (ATTACKS[name]() for name in ("known-plaintext", "chosen-plaintext", "leading-bit"))
    now = [0.0]
    left = TimeLeft([first, second, third], keys=4, clock=lambda: now[0])
    assert left.about == "time left not known yet"
    for each in range(2):
        now[0] = 60.0 * (each + 1)
        left.key_done(first)
    # Two of twelve keys in two minutes.
    assert left.seconds == pytest.approx(600)
    assert left.about == "about 10 min left"
    now[0] += 30
    assert left.seconds == pytest.approx(570)
    # What does not apply takes no time.
    left.ended(first)
    left.ended(second)
    assert left.text == "2 of 3 attacks done, about 4 min left"
    left.ended(third)
    assert left.text == "3 of 3 attacks done"
