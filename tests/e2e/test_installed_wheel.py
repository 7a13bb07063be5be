"""MedVeil as an sdist and the wheel made of it, in an environment of its own and away from any checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
from release import copy_tracked

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a release of this checkout; as `build` makes it, but with the setuptools that is here."""
    source = tmp_path_factory.mktemp("source")
    copy_tracked(CHECKOUT, source)
    folder = tmp_path_factory.mktemp("sdist")
    made = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", made], cwd=source, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(source)
    return next(folder.glob("medveil-*.tar.gz"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, sdist: Path) -> Path:
    """Where the programs of the wheel of that sdist are; what MedVeil needs is that of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    wheel = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(sdist)]
    subprocess.run([*pip, *wheel], check=True)
    (made,) = folder.glob("medveil-*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (own,) = venv.glob("lib/python*/site-packages")
    # The folder alone: the checkout that is installed there is a file of paths in it, which is not read here.
    (own / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    into = ["--python", str(venv / "bin/python"), "install", "--quiet", "--no-deps", "--no-index", str(made)]
    subprocess.run([*pip, *into], check=True)
    return venv / "bin"


def call(programs: Path, folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(programs / words[0]), *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_the_demo_away_from_the_checkout(programs: Path, tmp_path: Path) -> None:
    where = call(programs, tmp_path, "python", "-c", "import medveil, simulations; print(medveil.__file__)")
    assert where.startswith(str(programs.parent))
    small = ["rounds=1", "sites=2", "train.epochs=1", "data.phantoms.sites=2", "data.phantoms.images=40", "threads=1"]
    call(programs, tmp_path, "medveil-sim", "run", "demo", *small, "--out", "run")
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "finished"
    assert "</html>" in (tmp_path / "run/report.html").read_text()


def test_its_files_that_are_no_modules_are_there(programs: Path, tmp_path: Path) -> None:
    assert "pneumonia" in call(programs, tmp_path, "medveil-sim", "init", "--list")
    call(programs, tmp_path, "medveil-server", "kit", "--out", "kit")
    assert (tmp_path / "kit/medveil-server.service").is_file()
    assert len(call(programs, tmp_path, "medveil-server", "run", "--hash").strip()) == 64


def test_the_sdist_has_what_tests_it_and_what_was_tested(sdist: Path) -> None:
    with tarfile.open(sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"constraints.txt", "Makefile", "SECURITY.md", "tests/README.md", ".ci/run", "docs/index.md"} <= names
