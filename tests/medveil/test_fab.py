"""The installed MedVeil as a Flower app: whole, the same every time, and compared file by file."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from medveil import fab, installed, stamps
from medveil.contract import SITES_KEY
from medveil.environment import flower_environment
from medveil.errors import FormatError, IntegrityError
from medveil.installed import believe, compared, installed_hash, load_all

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
        others = json.loads(archive.read("others.json"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wanted = {name for name in tracked if name.split("/")[0] in fab.PACKAGES and name.endswith(".py")}
    assert wanted <= names
    # What Flower does not bundle is in the hash by its digest.
    rest = {name for name in tracked if name.split("/")[0] in fab.PACKAGES} - wanted
    assert "medveil/kit/site/medveil-site.service" in rest
    assert others == {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in sorted(rest)}
    assert {name.split("/")[0] for name in names} == {*fab.PACKAGES, "others.json"}
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


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages, installed at another place, without what Python compiled."""
    for package in fab.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fab, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "fl_client/site.py",
        "fl_client/test_sly.py",
        "fl_client/sly_test.py",
        "fl_client/lib/sly.py",
        "fl_client/build/sly.py",
        "models/env/sly.py",
        "crypto/sly.so",
        "crypto/sly.abi3.so",
        "medveil/sly.pyc",
        "medveil/__pycache__/sly.pyc",
        "medveil/__pycache__/sly.py",
        "medveil/kit/site/medveil-site.service",
        "medveil/kit/common/wheelhouse.sh",
        "medveil/defaults.yaml",
        "fl_server/defaults.json",
    ],
)
def test_whatever_can_run_or_steer_is_in_the_hash(name: str, copied: Path, bundle: bytes) -> None:
    assert fab.installed_fab() == bundle
    path = copied / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"# changed\n")
    changed = fab.installed_fab()
    assert fab.hash_of(changed) != fab.hash_of(bundle)
    assert fab.differing(bundle) == [name]
    assert fab.differing(changed) == []


def test_it_is_built_once_until_a_file_changes(copied: Path, bundle: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fab, "_built", {})
    builds, build = [0], fab.build_fab

    def counted(folder: Path) -> bytes:
        builds[0] += 1
        return build(folder)

    monkeypatch.setattr(fab, "build_fab", counted)
    monkeypatch.setattr(stamps, "SETTLED_NS", 10**18)
    assert [fab.installed_fab() for _ in range(2)] == [bundle] * 2
    assert builds == [2], "it was kept, though a change in the same tick would not show"
    monkeypatch.setattr(stamps, "SETTLED_NS", -(10**12))
    assert [fab.installed_fab() for _ in range(2)] == [bundle] * 2
    assert builds == [3]
    path = copied / "medveil" / "pace.py"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"_EAGER_S = 120.0", b"_EAGER_S = 121.0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fab.installed_fab() != bundle
    assert builds == [4]


def test_code_behind_a_link_is_refused_by_name(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (copied / "crypto" / "sly").symlink_to(tmp_path_factory.mktemp("elsewhere"), target_is_directory=True)
    with pytest.raises(IntegrityError, match=r"crypto/sly: is a link"):
        installed_hash()


@pytest.mark.parametrize("kind", ["by time", "unchecked"])
def test_compiled_code_that_is_not_its_sources_is_refused(copied: Path, bundle: bytes, kind: str) -> None:
    source = copied / "medveil" / "pace.py"
    compiled = Path(importlib.util.cache_from_source(str(source)))
    compiled.parent.mkdir(exist_ok=True)
    found = source.stat()
    noted = int(found.st_mtime).to_bytes(4, "little") + found.st_size.to_bytes(4, "little")
    head = {"by time": (b"\0" * 4) + noted, "unchecked": (1).to_bytes(4, "little") + b"\0" * 8}[kind]

    def put(text: bytes) -> None:
        code = compile(text, str(source), "exec", dont_inherit=True)
        compiled.write_bytes(importlib.util.MAGIC_NUMBER + head + marshal.dumps(code))

    put(source.read_bytes())
    assert installed_hash() == fab.hash_of(bundle)
    honest = compiled.stat()
    put(source.read_bytes() + b"\nSLY = 1\n")
    # The hash of the sources says nothing of it.
    assert fab.installed_fab() == bundle
    with pytest.raises(IntegrityError, match=r"pace\.cpython-.*is not what its source compiles to"):
        installed_hash()
    # It was looked at before, and is of the same size and time.
    put(source.read_bytes())
    assert installed_hash() == fab.hash_of(bundle)
    put(source.read_bytes().replace(b"_EAGER_S = 120.0", b"_EAGER_S = 121.0"))
    os.utime(compiled, ns=(honest.st_atime_ns, honest.st_mtime_ns))
    assert compiled.stat().st_size == honest.st_size
    with pytest.raises(IntegrityError, match="is not what its source compiles to"):
        installed_hash()
    if kind == "by time":
        # Python itself leaves what is older than its source alone.
        os.utime(source, (1, 1))
        assert installed_hash() == fab.hash_of(bundle)


def test_what_was_compared_is_believed_where_it_did_not_change(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "SETTLED_NS", -(10**12))
    monkeypatch.setattr(installed, "_found_right", {})
    source = copied / "medveil" / "pace.py"
    compiled = Path(py_compile.compile(str(source), doraise=True))
    assert compared() == ""
    installed_hash()
    said = compared()

    def another_process() -> list[str]:
        looked: list[str] = []
        monkeypatch.setattr(installed, "_found_right", {})
        monkeypatch.setattr(installed, "_is_same", lambda data, source: not looked.append(source))
        return looked

    looked = another_process()
    believe("0" * 64)
    installed_hash()
    assert looked == [str(source)]
    looked = another_process()
    believe(said)
    installed_hash()
    assert not looked
    looked = another_process()
    compiled.write_bytes(compiled.read_bytes() + b"\0")
    believe(said)
    installed_hash()
    assert looked == [str(source)]


def test_all_modules_are_loaded_and_a_missing_extra_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "sly_package"
    (package / "inner").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "inner/__init__": "",
        "inner/deep": "X = 1",
        "extra": "import none_such",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    load_all(["sly_package"])
    assert sys.modules["sly_package.inner.deep"].X == 1
    assert "sly_package.extra" not in sys.modules
