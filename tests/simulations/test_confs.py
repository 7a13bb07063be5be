"""Experiments by name, refusals before anything slow is imported, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medveil.config import load_config
from medveil.errors import ConfigError
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.confs import complete_conf, conf_files, find_conf

PROGRAM = Path(sys.executable).parent / "medveil-sim"


def test_every_experiment_is_found_by_name_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"brain-mri", "demo", "hidden", "pneumonia", "seed-paper"} <= set(conf_files())
    for name, path in conf_files().items():
        assert find_conf(name) == find_conf(f"{name}.yaml") == path
        load_config(ExperimentConfig, path)
    # A file of one's own goes before, and a folder of that name is none.
    (tmp_path / "demo").mkdir()
    assert find_conf("demo") == conf_files()["demo"]
    (tmp_path / "demo.yaml").write_text("name: mine\n")
    assert find_conf("demo.yaml") == Path("demo.yaml")


@pytest.mark.parametrize(
    ("named", "near"), [("brain-mir", "brain-mri"), ("conf/demoo.yaml", "demo"), ("pneumona", "p")]
)
def test_a_name_that_is_none_names_the_nearest(named: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"no such file; did you mean '{near}.*by name there are brain-mri, "):
        find_conf(named)


def test_init_lists_them_and_prints_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(conf_files())
    assert all(len(line.split()) > 3 for line in lines)
    assert main(["init", "pneumonia", "--out", str(tmp_path / "mine.yaml")]) == 0
    assert (tmp_path / "mine.yaml").read_text() == conf_files()["pneumonia"].read_text()
    assert main(["init", "nothing"]) == 2


# -- the name of a model -----------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_models_name_beside_another_models_sizes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    out = str(tmp_path / "out")
    said = refused(capsys, command, "brain-mri", "model.name=vit_base_patch16_224", "--out", out)
    assert "'vit_base_patch16_224' would be cut to width 128, depth 4, heads 4, which brain-mri.yaml sets" in said
    assert "add model.width=null model.depth=null model.heads=null" in said
    some = ["model.name=vit_small_patch16_224", "model.width=192", "model.heads=null"]
    said = refused(capsys, command, "brain-mri", *some, "--out", out)
    assert "would be cut to depth 4, which" in said
    assert "add model.depth=null for it" in said
    assert not (tmp_path / "out").exists()


def test_a_models_name_with_sizes_of_its_own_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["model.width=null", "model.depth=null", "model.heads=null", f"data.path={tmp_path / 'none'}"]
    for name in ("vit_base_patch16_224", "vit_tiny_patch16_224"):
        given = own if name == "vit_base_patch16_224" else own[-1:]
        assert main(["run", "brain-mri", f"model.name={name}", *given, "--out", str(tmp_path / "out")]) == 3
        assert "none: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("lr=1", "'train.lr'"),
        ("policy=none", "'keys.policy'"),
        ("batchsize=4", "'train.batch_size'"),
        ("epochs=3", "'train.epochs'"),
        ("data.block=8", "'cipher.block'"),
        ("server.weight_decay=1", "'train.weight_decay'"),
        ("sits=3", "'sites'"),
        ("image-size=64", "'data.image_size'"),
    ],
)
def test_a_setting_in_the_wrong_section_is_found_in_the_right_one(setting: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ExperimentConfig, None, [setting])
    assert f"unknown key '{setting.partition('=')[0]}'; did you mean {near}?" in str(caught.value)


# -- early, and leaving nothing ----------------------------------------------------------------------------------------

NOTHING_SLOW = """
import sys
from simulations.cli import main
code = main(sys.argv[1:])
slow = {"torch", "timm", "flwr", "sklearn", "matplotlib", "pydicom"} & set(sys.modules)
sys.exit(f"imported {slow}" if slow else code)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["brain-mri", "lr=1"], 2),
        (["brain-mri", "model.name=vit_base_patch16_224"], 2),
        (["no-such-conf"], 2),
    ],
)
def test_what_can_be_refused_at_once_loads_nothing_slow(tmp_path: Path, words: list[str], code: int) -> None:
    given = [sys.executable, "-c", NOTHING_SLOW, "run", *words, "--out", str(tmp_path / "out")]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


SETTINGS = (
    "keys.policy=nobody",
    "stem.train=averaged",
    "train.epochs=0",
    "server.strategy=fedsgd",
    "server.strategy=bulyan",
    "data.path=/no/such/folder",
    "data.source=dicom",
    "model.name=resnet18",
    "model.heads=5",
    "model.pretrained=/no/such/weights.safetensors",
    "cipher.scheme=rot13",
    "device=tpu",
    "stem.warmup=3",
)


@pytest.mark.parametrize(
    ("setting", "before"), [(each, ("nothing", "an empty folder")[i % 2]) for i, each in enumerate(SETTINGS)]
)
def test_a_refusal_leaves_nothing(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, before: str
) -> None:
    (tmp_path / "empty.yaml").write_text("")
    out = tmp_path / "out"
    if before != "nothing":
        out.mkdir()
    more = ["keys.policy=none"] if setting == "stem.warmup=3" else []
    words = ["run", str(tmp_path / "empty.yaml"), *tiny_settings, *more, setting, "--out", str(out)]
    assert main(words) in {2, 3}, capsys.readouterr().err
    first = capsys.readouterr().err
    left = [path.name for path in out.iterdir()] if out.exists() else []
    assert [name for name in left if name != ".run.lock"] == []
    assert out.exists() == (before != "nothing")
    # The same again is told the same, and not that something is there.
    assert main(words) in {2, 3}
    assert capsys.readouterr().err == first
    if setting == "stem.warmup=3":
        assert "set stem.warmup=0, or stem.train=local" in first


def test_a_refusal_leaves_the_run_that_was_to_be_replaced(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.yaml").write_text("")
    words = ["run", str(tmp_path / "empty.yaml"), *tiny_settings, "rounds=1", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = sorted(str(path) for path in (tmp_path / "out").rglob("*"))
    for setting in ("model.name=resnet18", "keys.policy=nobody", "model.heads=5"):
        assert main([*words, setting, "--replace"]) == 2
        assert sorted(str(path) for path in (tmp_path / "out").rglob("*")) == before


# -- completion --------------------------------------------------------------------------------------------------------


def completed(line: str, folder: Path) -> list[str]:
    """What the shell is told, by the protocol of argcomplete."""
    answer = folder / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run([PROGRAM], env=environment, cwd=folder, check=True, capture_output=True, timeout=120)
    return [each.strip() for each in answer.read_text().splitlines()]


def test_a_shell_completes_commands_names_and_settings(tmp_path: Path) -> None:
    assert "export" in completed("medveil-sim ex", tmp_path)
    assert completed("medveil-sim run brain", tmp_path) == ["brain-mri"]
    assert "train.lr=" in completed("medveil-sim run brain-mri train.l", tmp_path)


def test_what_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demand.yml").write_text("")
    (tmp_path / "demand.txt").write_text("")
    (tmp_path / "demos").mkdir()
    assert complete_conf("dem") == ["demo", "demand.yml", "demos/"]
    assert set(complete_conf("")) >= set(conf_files())


def test_help_says_how_to_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert 'eval "$(register-python-argcomplete medveil-sim)"' in " ".join(capsys.readouterr().out.split())
