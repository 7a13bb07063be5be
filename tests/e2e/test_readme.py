"""What README and docs tell a newcomer to type, typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROOT, WITHOUT_A_KEY, blocks, commands, pages
from PIL import Image

from crypto import cli as crypto_cli
from crypto import sealed_file
from crypto.cli import main as crypto_main
from crypto.passphrase import VARIABLE
from crypto.tree.run import run_tree
from crypto.tree.workers import Alone
from fl_client import cli as site_cli
from fl_server import cli as server_cli
from medveil.config import load_config
from simulations import cli as sim_cli
from simulations.attacks.config import AttackConfig
from simulations.cli import main as sim_main
from simulations.config import ExperimentConfig
from simulations.confs import conf_files, find_conf
from simulations.points import axes_in

FEW = 3
"""Files of each class that a snippet is given whose twenty steps are to take seconds."""
ANSWERS = """
print(tuple(x.shape))
print(float((model.eval()(x).argmax(1) == y).float().mean()))
"""

pytestmark = [pytest.mark.e2e]


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of drawn PNG files, hidden by the page's own line."""
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setitem(run_tree.__kwdefaults__, "crew", Alone)
    monkeypatch.setenv(VARIABLE, "seven horses correct the battery")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label, low in (("bright", 128), ("dark", 0)):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(low, low + 128, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "scans" / label / f"{i}.png")
    typed = list(commands(WITHOUT_A_KEY, "medveil-crypto"))
    assert [words[1] for words in typed] == ["keygen", "encrypt"]
    for words in typed:
        assert crypto_main(words[1:]) == 0
    return tmp_path / "hidden"


@pytest.mark.slow
def test_plain_pytorch_learns_from_hidden_files_without_a_key(hidden: Path) -> None:
    """As printed, in a process of its own, in which nothing of ours has prepared an import."""
    (block,) = blocks(WITHOUT_A_KEY, "python")
    (hidden.parent / "mercy.key").unlink()
    for each in hidden.glob("*/*.png"):
        if int(each.stem) >= FEW:
            each.unlink()
    done = subprocess.run(
        [sys.executable, "-c", block + ANSWERS], cwd=hidden.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *steps, shape, right = done.stdout.splitlines()
    losses = [float(line.rsplit(" ", 1)[1]) for line in steps]
    assert len(losses) == 20
    assert losses[-1] < min(0.2, losses[0])
    assert shape == str((2 * FEW, 3, 224, 224))
    assert float(right) > 0.9


@pytest.mark.usefixtures("fresh_sites")
def test_medveil_learns_from_hidden_files_without_a_key(hidden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hidden.parent / "mercy.key").unlink()
    settings = [
        "rounds=1",
        "threads=1",
        "model.width=32",
        "model.depth=1",
        "model.heads=2",
        "data.partition.min_per_site=4",
    ]
    run = ["run", str(ROOT / "simulations/conf/hidden.yaml"), f"data.path={hidden}", *settings, "--out", "RUN"]
    assert sim_main(run) == 0
    assert Path("RUN/report.html").is_file()
    assert capsys.readouterr().err.count("hidden files are taken as they stand") == 1


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("medveil-crypto", crypto_cli),
        ("medveil-sim", sim_cli),
        ("medveil-server", server_cli),
        ("medveil-site", site_cli),
    ],
)
def test_every_command_shown_is_one_the_program_takes(program: str, module: Any) -> None:
    """Command lines stand after the party that types them where there are several."""
    shown = [words for page in pages() for words in commands(page, program)]
    assert len(shown) > 10, f"the documentation shows no {program}"
    for words in shown:
        parser = crypto_cli.make_parser() if module is crypto_cli else module._parser()
        parser.parse_args(words[1:])


def test_every_setting_shown_of_an_experiment_or_an_attack_is_one_it_takes() -> None:
    typed = [sim_cli._parser().parse_args(words[1:]) for page in pages() for words in commands(page, "medveil-sim")]
    shown = [each for each in typed if getattr(each, "overrides", None)]
    of_runs = [each for each in shown if getattr(each, "config", None) in conf_files()]
    of_attacks = [each for each in shown if hasattr(each, "images_per_key") and each not in of_runs]
    assert len(of_runs) > 30 and len(of_attacks) > 2
    for each in of_runs:
        swept = hasattr(each, "random") or hasattr(each, "trials")
        settings = axes_in(each.overrides)[1] if swept else each.overrides
        load_config(ExperimentConfig, find_conf(each.config), settings)
    for each in of_attacks:
        load_config(AttackConfig, None, each.overrides)
