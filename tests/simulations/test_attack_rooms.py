"""The import contract of the attacks' rooms: it holds, and each kind of step from room to room breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).parent / "lint-imports"
PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")
ROOMS = "simulations/attacks"
STEPS = {
    "study/scores.py": "simulations.attacks.solvers.blocks",
    "study/cases.py": "simulations.attacks.ciphertext.leading_bit",
    "solvers/digits.py": "simulations.attacks.study.cases",
    "solvers/layout.py": "simulations.attacks.networks.nets",
    "networks/nets.py": "simulations.attacks.study.scores",
    "diagnostics/statistics.py": "simulations.attacks.ciphertext.leading_bit",
    "ciphertext/gan.py": "simulations.attacks.registry",
    "theft/stolen_model.py": "simulations.attacks.updates.label_counts",
    "registry.py": "simulations.attacks.asked",
    "asked.py": "simulations.attacks.commands",
    "commands.py": "simulations.attacks.matrix.run",
    "matrix/run.py": "simulations.attacks.tradeoff.study",
    # By a way round through what is no attack at all.
    "solvers/pairs.py": "simulations.bench",
}
"""A file of a room, and what it must not import."""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of all packages, to be spoilt."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def linted(house: Path) -> tuple[int, str]:
    """Exit code and words of import-linter in a copy."""
    done = subprocess.run([LINT, "--no-cache"], cwd=house, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def import_in(file: Path, module: str) -> None:
    """Add an import, and inside a function: where it stands makes no difference."""
    file.write_text(f"{file.read_text()}\n\ndef _late() -> None:\n    import {module}\n")


def test_the_rooms_hold_and_every_step_across_is_named(house: Path) -> None:
    code, words = linted(house)
    assert (code, "0 broken" in words) == (0, True), words
    (house / "simulations/bench.py").write_text("import simulations.attacks.study.scores\n")
    for file, module in STEPS.items():
        import_in(house / ROOMS / file, module)
    code, words = linted(house)
    assert code == 1
    for file, module in STEPS.items():
        step = f"{ROOMS}/{file}".removesuffix(".py").replace("/", ".")
        assert f"{step} -> {module} (l." in words, f"nobody minds {step} -> {module}"


def test_a_room_of_no_layer_is_refused(house: Path) -> None:
    room = house / ROOMS / "elsewhere"
    room.mkdir()
    (room / "__init__.py").write_text('"""A room that the contract does not place."""\n')
    code, words = linted(house)
    assert code == 1
    assert "elsewhere" in words
