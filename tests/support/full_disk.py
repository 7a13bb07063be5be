"""A disk that is full when a test wants it: a small file system of its own, or, where none may be mounted, a limit."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = 2**26
REAL = "ENOSPC on a tmpfs"
LIMIT = "EFBIG by a limit: nothing may be mounted here"
_BALLAST = ".ballast"


class Disk:
    """The disk that holds a folder.

    Parameters
    ----------
    folder
        Nothing may have a file in it open: what it holds is put onto the disk of its own, if there is one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        held = folder.with_name(f"{folder.name}.held")
        shutil.copytree(folder, held, symlinks=True)
        self.real = _mounted(folder)
        if self.real:
            shutil.copytree(held, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(held)

    def fill(self, pid: int | None, *, left: int) -> None:
        """Leave so many bytes, to all; where it is a limit, to each file of a process."""
        if not self.real:
            _limit(pid, left)
            return
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        with (self.folder / _BALLAST).open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(1, free - left))

    def free(self, pid: int | None) -> None:
        """Let there be room again."""
        if not self.real:
            _limit(pid, None)
            return
        (self.folder / _BALLAST).unlink()

    def close(self) -> None:
        """Take it away."""
        if self.real:
            subprocess.run(["umount", str(self.folder)], check=False, capture_output=True)
            if os.path.ismount(self.folder):
                subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            self.real = False


class Disks:
    """Gives disks, and takes them all away."""

    def __init__(self, told: pytest.FixtureRequest) -> None:
        self._made: list[Disk] = []
        self._told = told

    def __call__(self, folder: Path) -> Disk:
        self._made.append(Disk(folder))
        self._told.node.user_properties.append(("disk", REAL if self._made[-1].real else LIMIT))
        return self._made[-1]

    def close(self) -> None:
        for disk in reversed(self._made):
            disk.close()


@contextlib.contextmanager
def all_taken_away(request: pytest.FixtureRequest) -> Iterator[Disks]:
    disks = Disks(request)
    try:
        yield disks
    finally:
        disks.close()


def _mounted(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "medveil-test", str(folder)]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    return False


def _limit(pid: int | None, left: int | None) -> None:
    assert pid is not None
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if left is None else left, hard))
