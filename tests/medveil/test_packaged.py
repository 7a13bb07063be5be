"""A wheel holds every file of the packages: what runs in a checkout runs where it is installed."""

from __future__ import annotations

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from release import BESIDE, copy_tracked

ROOT = Path(__file__).resolve().parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = [pattern.removesuffix("*") for pattern in SETUPTOOLS["packages"]["find"]["include"]]


def files() -> list[PurePosixPath]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    return [PurePosixPath(path.relative_to(ROOT).as_posix()) for path in found if "__pycache__" not in path.parts]


def test_every_file_that_is_no_module_is_named_as_data_of_its_package() -> None:
    data = [path for path in files() if path.suffix != ".py"]
    assert {path.suffix for path in data} >= {".yaml", ".html", ".css", ".service"}
    for path in data:
        package, inside = path.parts[0], path.parts[1:]
        patterns = SETUPTOOLS["package-data"].get(package, [])
        # One `*` is one folder or name, as setuptools has it.
        fits = [each.split("/") for each in patterns if each.count("/") == len(inside) - 1]
        assert any(all(map(fnmatch, inside, each)) for each in fits), f"{path} would be in no wheel"


def test_every_folder_with_a_module_is_a_package() -> None:
    for path in files():
        if path.suffix == ".py":
            assert (ROOT / path.parent / "__init__.py").is_file(), f"{path} would be in no wheel"


def test_an_sdist_is_of_what_git_tracks_alone(tmp_path: Path) -> None:
    checkout, copy = tmp_path / "checkout", tmp_path / "copy"
    for name in ("docs/page.md", "medveil/__init__.py", "constraints.txt", "secret.key"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(name)
    copy.mkdir()
    git = ["git", "-C", str(checkout)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "docs", "medveil", "constraints.txt"], check=True)
    copy_tracked(checkout, copy)
    found = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert found == {"docs/page.md", "medveil/__init__.py", "constraints.txt", "MANIFEST.in"}
    lines = (copy / "MANIFEST.in").read_text().splitlines()
    assert lines[:2] == ["include constraints.txt", "graft docs"]
    assert all((ROOT / each).is_dir() for each in BESIDE)
