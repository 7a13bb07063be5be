"""The installed MedVeil as a Flower app: whole, the same every time, and compared file by file."""

from __future__ import annotations

import io
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from medveil import fab
from medveil.contract import SITES_KEY
from medveil.environment import flower_environment
from medveil.errors import FormatError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return fab.installed_fab()


def repacked(bundle: bytes, changed: dict[str, bytes | None]) -> bytes:
    """The bundle with files replaced, added, or left out (None)."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        files = {name: old.read(name) for name in old.namelist()} | changed
        for name, data in files.items():
            if data is not None:
                new.writestr(name, data)
    return made.getvalue()


def test_it_holds_every_module_of_the_five_packages_and_nothing_else(bundle: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        names = {name for name in archive.namelist() if not name.startswith(".info/")} - {"pyproject.toml"}
        project = tomllib.loads(archive.read("pyproject.toml").decode())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wanted = {name for name in tracked if name.split("/")[0] in fab.PACKAGES and name.endswith(".py")}
    assert wanted <= names
    assert {name.split("/")[0] for name in names} == set(fab.PACKAGES)
    # Flower takes only overrides of keys that an app has: this one can never be told to make simulated sites.
    assert SITES_KEY not in project["tool"]["flwr"]["app"]["config"]


def test_it_is_the_same_every_time_and_as_flwr_builds_it(bundle: bytes, tmp_path: Path) -> None:
    assert fab.installed_fab() == bundle
    app = fab.stage(tmp_path / "medveil")
    program = str(Path(sys.executable).parent / "flwr")
    environment = flower_environment(tmp_path / "home")
    subprocess.run([program, "build", "--app", str(app)], cwd=tmp_path, env=environment, check=True)
    (built,) = tmp_path.glob("*.fab")
    assert fab.hash_of(built.read_bytes()) == fab.hash_of(bundle)


def test_what_differs_is_named(bundle: bytes) -> None:
    assert fab.differing(bundle) == []
    text = (ROOT / "fl_client/app.py").read_bytes()
    other = repacked(
        bundle,
        {"fl_client/app.py": text + b"# one comment more\n", "medveil/wire.py": None, "fl_client/extra.py": b"x = 1\n"},
    )
    assert fab.differing(other) == ["fl_client/app.py", "fl_client/extra.py", "medveil/wire.py"]
    assert fab.hash_of(other) != fab.hash_of(bundle)


def test_packing_alone_is_no_difference(bundle: bytes) -> None:
    # Another zlib packs the same files to other bytes.
    other = repacked(bundle, {})
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert fab.hash_of(stored.getvalue()) != fab.hash_of(bundle)
    assert fab.differing(other) == fab.differing(stored.getvalue()) == []


def test_what_is_no_bundle_is_refused(bundle: bytes) -> None:
    cut = bytearray(bundle)
    cut[5000:5040] = b"\0" * 40
    for data in (b"", b"PK", bundle[:1000], bytes(cut)):
        with pytest.raises(FormatError, match="is not a Flower app bundle"):
            fab.differing(data)


def test_a_bundle_that_would_fill_the_memory_is_refused(bundle: bytes) -> None:
    with pytest.raises(FormatError, match="more than 64 MiB"):
        fab.differing(repacked(bundle, {"fl_client/big.py": b"\0" * (65 * 2**20)}))
