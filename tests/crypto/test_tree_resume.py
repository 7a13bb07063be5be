"""Trees worked on by runs that end at any moment, on disks of all sorts, and what is shown meanwhile."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree import place, run
from crypto.tree.journal import Journal
from crypto.tree.paths import MANIFEST, REPORT, WORK
from crypto.tree.plan import Plan
from crypto.tree.progress import time_left
from crypto.tree.run import Result, run_tree
from crypto.tree.verify import verify_tree
from crypto.tree.workers import Alone
from medveil import disks
from medveil.errors import StorageError

RING = Keyring(SiteKey(bytes(range(32)), "mercy"))
ARCHIVE = Recipe(purpose="archive", cipher=CipherConfig(block=8, negate=True))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three pictures in two folders, and a text."""
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "sub/b.png", "sub/c.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "sub" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "hidden"


def hide(source: Path, target: Path) -> Result:
    return run_tree(Plan(source=source, target=target, recipe=ARCHIVE), RING, crew=Alone)


def whole(root: Path) -> int:
    """How many files a tree has, all of them as they were written."""
    result = verify_tree(root, RING, crew=Alone)
    assert result.failed == []
    return result.summary.done


def counts(result: Result) -> tuple[int, int, int, int]:
    summary = result.summary
    return summary.done, summary.already, summary.failed, summary.skipped


def names(root: Path) -> set[str]:
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return found - {MANIFEST, REPORT}


# --- the end, at any moment


class _Crash(BaseException):
    """The power goes."""


POINTS = ("Workplace.settle", "Journal.add", "Workplace.put", "_Run._settle", "Workplace.clear")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_goes_on_from_wherever_it_ended(
    *, source: Path, target: Path, point: str, call: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = {"Workplace": place.Workplace, "Journal": Journal, "_Run": run._Run}[point.partition(".")[0]]
    name = point.partition(".")[2]
    real, calls = getattr(owner, name), []

    def crashes(*words: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call and not after:
            raise _Crash
        made = real(*words, **named)
        if len(calls) == call:
            raise _Crash
        return made

    with monkeypatch.context() as patch:
        patch.setattr(run, "BATCH", 1)
        patch.setattr(owner, name, crashes)
        try:
            hide(source, target)
        except _Crash:
            pass
        else:
            assert len(calls) < call
    left = {each: (target / each).stat().st_ino for each in names(target) if WORK not in each}
    result = hide(source, target)
    assert result.failed == []
    assert result.summary.done + result.summary.already == 3
    assert {each: (target / each).stat().st_ino for each in left} == left
    assert whole(target) == 3
    assert names(target) == {"a.png", "sub/b.png", "sub/c.png"}


def test_a_file_that_appears_before_it_is_put_is_kept(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = place.Workplace.put

    def meanwhile(self: place.Workplace, part: Path, name: str, *, replace: bool) -> None:
        if name == "a.png":
            (target / name).write_bytes(bytes(part.stat().st_size))
        real(self, part, name, replace=replace)

    with monkeypatch.context() as patch:
        patch.setattr(place.Workplace, "put", meanwhile)
        patch.setattr(run._Run, "_settle", lambda _: (_ for _ in ()).throw(_Crash()))
        with pytest.raises(_Crash):
            hide(source, target)
    # It is as large as the result would have been, and still is not taken for it.
    result = hide(source, target)
    assert dict(result.failed) == {"a.png": "a.png is there already; --force (force=True) replaces it"}
    assert set((target / "a.png").read_bytes()) == {0}


def test_a_disk_without_hard_links(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuses)
    assert counts(hide(source, target)) == (3, 0, 0, 1)
    with pytest.raises(FileExistsError):
        place.move(source / "a.png", target / "a.png", replace=False)


def test_a_disk_that_cannot_be_synced_at_once(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(disks, "_syncfs", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), real(handle))[1])
    assert counts(hide(source, target)) == (3, 0, 0, 1)
    # Each file, both folders, journal, manifest, report.
    assert len(synced) >= 3 + 2 + 3


def test_a_scratch_folder_of_another_is_not_used(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(tmp_path))
    scratch = place.Workplace(target, folder_mode=0o755).scratch
    (tmp_path / "elsewhere").mkdir()
    scratch.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is not a private folder of ours"):
        hide(source, target)
    scratch.unlink()
    scratch.mkdir(mode=0o755)
    with pytest.raises(StorageError, match="is not a private folder of ours"):
        hide(source, target)
    scratch.chmod(0o700)
    assert counts(hide(source, target)) == (3, 0, 0, 1)
    assert not scratch.exists()


# --- progress


def test_progress_shows_files_rate_and_time_left_on_a_terminal_and_nothing_elsewhere(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, terminal in ((target, True), (tmp_path / "other", False)):
        seen = io.StringIO()
        console = Console(file=seen, force_terminal=terminal, width=120)
        plan = Plan(source=source, target=folder, recipe=ARCHIVE)
        run_tree(plan, RING, crew=Alone, console=console)
        if terminal:
            assert "of 4 files" in seen.getvalue()
            assert "files/s" in seen.getvalue()
        else:
            assert seen.getvalue() == ""


@pytest.mark.parametrize(
    ("done", "total", "elapsed", "says"),
    [
        (50, 100, 60, "1:00 left"),
        (1, 100, 100, "2 h 45 min left"),
        (0, 9, 9, ""),
        (5, None, 9, ""),
        (9, 9, 9, "0:00 left"),
    ],
)
def test_time_left(done: int, total: int | None, elapsed: float, says: str) -> None:
    assert time_left(done, total, elapsed) == says
