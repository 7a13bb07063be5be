"""A wheel holds every file of the packages: what runs in a checkout runs where it is installed."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

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


def test_the_sdist_names_what_lies_beside_the_packages() -> None:
    included = (ROOT / "MANIFEST.in").read_text().split()
    for name in ("CHANGELOG.md", "SECURITY.md", "constraints.txt", "Makefile", "docs", "tests", "tools"):
        assert name in included
        assert (ROOT / name).exists()
