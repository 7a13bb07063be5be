from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medveil import disks, files
from medveil.errors import StorageError

COUNTS = """
import os, sys
from medveil import disks, files
synced, real = [], os.fsync
os.fsync = lambda handle: (synced.append(handle), real(handle))
files.write_bytes(sys.argv[1] + "/first", b"x")
disks.leave_small_files_unsynced()
before = len(synced)
files.write_bytes(sys.argv[1] + "/small", b"x")
small = len(synced)
disks.SMALL_BYTES = 10
files.write_bytes(sys.argv[1] + "/large", bytes(11))
print(before, small - before, len(synced) - small)
"""


def test_a_process_may_leave_its_small_files_to_another(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", COUNTS, str(tmp_path)], capture_output=True, text=True, check=True)
    # A file and its folder; nothing; a large file.
    assert done.stdout == "2 0 1\n"
    assert (tmp_path / "small").read_bytes() == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has syncfs")
def test_a_disk_is_synced_at_once(tmp_path: Path) -> None:
    assert disks.can_sync_disk()
    (tmp_path / "a").write_text("x")
    disks.sync_disk(tmp_path)
    with pytest.raises(FileNotFoundError):
        disks.sync_disk(tmp_path / "gone")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has syncfs")
def test_a_disk_that_refuses_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "_syncfs", lambda: lambda _: -1)
    with pytest.raises(OSError, match=r"."):
        disks.sync_disk(tmp_path)


def test_a_name_as_long_as_a_disk_allows_is_written(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / ("n" * 255), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]
    with pytest.raises(StorageError, match="file name too long"):
        files.write_bytes(tmp_path / ("n" * 256), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]
