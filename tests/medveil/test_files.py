from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from medveil import files
from medveil.errors import FormatError, IntegrityError, StorageError
from medveil.paths import check_writable

DIES = """
import os, sys
from medveil import files
os.{call} = lambda *a, **k: os._exit(9)
files.write_bytes(sys.argv[1], b"new" * 100000)
"""
DIES_IN_FOLDER = """
import os, sys
from medveil import files
with files.new_folder(sys.argv[1]) as folder:
    (folder / "one").write_text("new")
    os._exit(9)
"""


def dies(script: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 9


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_that_dies_leaves_the_old_file_and_a_part_that_is_swept(tmp_path: Path, call: str) -> None:
    path = tmp_path / "file.json"
    files.write_bytes(path, b"old")
    dies(DIES.format(call=call), path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    assert files.sweep_parts(tmp_path) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_writer_that_dies_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with files.new_folder(path) as folder:
        (folder / "one").write_text("old")
    dies(DIES_IN_FOLDER, path)
    assert (path / "one").read_text() == "old"
    assert files.sweep_parts(tmp_path) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "writable disk"),
        (errno.EACCES, "may write to"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_is_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str, call: str
) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(StorageError, match=says) as caught:
            files.write_bytes(path, b"new")
        with pytest.raises(StorageError, match=says), files.new_folder(tmp_path / "folder") as folder:
            (folder / "one").write_text("1")
    assert caught.value.where == str(path)
    assert path.read_bytes() == b"old"
    # As root writes anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="cannot write into the folder"):
        check_writable(tmp_path / "new")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_raises_inside_a_new_folder_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with files.new_folder(path) as folder:
        (folder / "one").write_text("old")
    with pytest.raises(KeyError), files.new_folder(path) as folder:
        (folder / "one").write_text("new")
        raise KeyError
    assert (path / "one").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def test_a_new_folder_replaces_the_old_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with files.new_folder(path) as folder:
        (folder / "one").write_text("old")
    with files.new_folder(path, mode=0o700) as folder:
        (folder / "two").write_text("new")
    assert [each.name for each in path.iterdir()] == ["two"]
    assert path.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def test_sweeping_touches_only_parts(tmp_path: Path) -> None:
    for name in (".a.x.part", ".b.y.old", ".hidden.json", "c.part", "plain"):
        (tmp_path / name).write_text("")
    (tmp_path / ".d.z.part.d").mkdir()
    (tmp_path / ".e.z.part").mkdir()
    assert files.sweep_parts(tmp_path) == 3
    assert sorted(each.name for each in tmp_path.iterdir()) == [".d.z.part.d", ".hidden.json", "c.part", "plain"]
    assert files.sweep_parts(tmp_path / "nowhere") == 0


def test_mode_and_content_of_a_written_file(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"name": "Zürich"}, mode=0o600)
    assert files.read_json(tmp_path / "a.json") == {"name": "Zürich"}
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "b.json", {"loss": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_reading_what_is_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        files.read_bytes(tmp_path / "gone")
    with pytest.raises(StorageError, match="is a directory"):
        files.read_bytes(tmp_path)
    for torn in (b'{"a": 1', b"\xff\xfe", b""):
        (tmp_path / "torn.json").write_bytes(torn)
        with pytest.raises(IntegrityError, match="whole JSON"):
            files.read_json(tmp_path / "torn.json")


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file where a folder is needed"):
        files.make_folder(tmp_path / "file")
    with pytest.raises(StorageError, match="file: is a file where a folder is needed"):
        files.make_folder(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="create the folder"):
        files.make_folder("/proc/medveil")
    with pytest.raises(StorageError, match="parents are folders"):
        files.write_text(tmp_path / "file" / "below", "")


def test_a_lock_makes_others_wait(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with files.locked(tmp_path / "thing"):
            order.append("other")

    with files.locked(tmp_path / "thing"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join(5)
    assert order == ["first", "other"]


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
    with pytest.raises(StorageError):
        files.sha256_file(tmp_path / "gone")


def test_formats_older_same_newer_and_foreign() -> None:
    def check(document: object) -> int:
        return files.check_format(document, name="medveil-thing", newest=3, where="x.json")

    assert check({"format": "medveil-thing", "version": 1}) == 1
    assert check({"format": "medveil-thing", "version": 3}) == 3
    with pytest.raises(FormatError, match=r"version 4; this MedVeil reads up to 3; upgrade"):
        check({"format": "medveil-thing", "version": 4})
    strangers: list[object] = [{"format": "other", "version": 1}, {}, [], None, "text"]
    for foreign in strangers:
        with pytest.raises(FormatError, match="is not a medveil-thing file"):
            check(foreign)
    versions: list[object] = [0, -1, True, "1", 1.0, None]
    for version in versions:
        with pytest.raises(FormatError, match="no valid"):
            check({"format": "medveil-thing", "version": version})


@pytest.fixture(params=[0o077, 0o027, 0o022, 0o002, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_written_honours_the_umask(tmp_path: Path, umask: int) -> None:
    wide, narrow = 0o644 & ~umask, 0o600
    files.write_text(tmp_path / "a", "x")
    files.write_json(tmp_path / "b", {}, mode=0o600)
    files.write_bytes(tmp_path / "c", b"x", mode=0o755)
    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "b")) == (wide, narrow)
    assert mode_of(tmp_path / "c") == 0o755 & ~umask
    for number, (mode, wanted) in enumerate([(0o755, 0o755 & ~umask), (0o700, 0o700)]):
        with files.new_folder(tmp_path / f"new-{number}", mode=mode) as building:
            assert mode_of(building) == wanted
            (building / "inside").write_text("x")
        assert mode_of(tmp_path / f"new-{number}") == wanted
    files.make_folder(tmp_path / "x" / "y" / "z", mode=0o700)
    files.make_folder(tmp_path / "w" / "v")
    assert {mode_of(each) for each in (tmp_path / "x").rglob("*")} == {mode_of(tmp_path / "x")} == {0o700}
    assert mode_of(tmp_path / "w") == mode_of(tmp_path / "w" / "v") == 0o777 & ~umask


def test_a_lock_can_be_held_by_its_owner_alone(tmp_path: Path) -> None:
    """Whoever can open a file can lock it, also for reading alone: a rotation of a key would wait for ever."""
    before = os.umask(0)
    try:
        with files.locked(tmp_path / "a.key"):
            assert mode_of(tmp_path / "a.key.lock") == 0o600
    finally:
        os.umask(before)


def test_a_part_is_never_wider_than_the_whole(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with files.new_file(tmp_path / "a", mode=0o600) as stream:
            stream.write(b"x")
            stream.flush()
            assert [mode_of(each) for each in tmp_path.iterdir()] == [0o600]
    finally:
        os.umask(before)


def test_a_file_that_could_not_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    for path, why in [
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "new", "is a file where a folder is needed"),
        (tmp_path / "none" / "new", "no such folder"),
    ]:
        with pytest.raises(StorageError, match=why):
            check_writable(path)
    # As root writes anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="cannot write into the folder"):
        check_writable(tmp_path / "new")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
