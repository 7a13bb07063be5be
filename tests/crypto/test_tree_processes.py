"""Trees worked on by real processes, which are killed, interrupted, starved of disk, and searched for secrets."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crypto import keyfile, sealed_file
from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.paths import MANIFEST, REPORT, WORK
from crypto.tree.plan import Plan
from crypto.tree.run import run_tree
from crypto.tree.tasks import HIDE, Task, setup_of
from crypto.tree.verify import verify_tree
from crypto.tree.workers import Alone, Workers, wait_for_workers
from medveil.errors import StorageError

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
ARCHIVE = Recipe(purpose="archive", cipher=CipherConfig(block=8, negate=True))
PASSPHRASE = "correct horse battery staple"
OURS = {MANIFEST, REPORT}
DEADLINE = 60.0


def pictures(folder: Path, n: int, side: int = 24) -> Path:
    rng = np.random.default_rng(0)
    for i in range(n):
        place = folder / f"{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(place / f"{i:04}.png")
    return folder


def stack(path: Path, pages: int, side: int = 1024) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    page = np.random.default_rng(0).integers(0, 4096, (side, side)).astype(np.uint16)
    with tifffile.TiffWriter(path) as writer:
        for _ in range(pages):
            writer.write(page, photometric="minisblack", contiguous=False, metadata=None)
    return path


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Files with their inode and time, but for what a run leaves beside them."""
    found: dict[str, tuple[int, int]] = {}
    for folder, folders, names in os.walk(root):
        if WORK in folders:  # which a run that goes on empties and takes away while it is looked at
            folders.remove(WORK)
        for path in (Path(folder, name) for name in names if name not in OURS):
            found[path.relative_to(root).as_posix()] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


# --- workers


@pytest.mark.slow
def test_many_processes_do_what_one_does(tmp_path: Path) -> None:
    source = pictures(tmp_path / "source", 20)
    result = run_tree(Plan(source=source, target=tmp_path / "hidden", recipe=ARCHIVE, jobs=2), RING)
    assert (result.summary.done, result.failed) == (20, [])
    checked = verify_tree(tmp_path / "hidden", RING, jobs=1)
    assert (checked.summary.done, checked.failed) == (20, [])
    shown = run_tree(Plan(source=tmp_path / "hidden", target=tmp_path / "shown", jobs=2), RING)
    assert shown.summary.done == 20
    for name in files(source):
        with Image.open(source / name) as before, Image.open(tmp_path / "shown" / name) as after:
            assert np.array_equal(np.asarray(before), np.asarray(after))


def task(source: Path, part: Path) -> Task:
    return Task(action=HIDE, name=source.name, target=source.name, kind="tiff", source=str(source), part=str(part))


def test_a_process_that_dies_takes_one_file_with_it(tmp_path: Path) -> None:
    large = stack(tmp_path / "large.tif", 60)
    small = [stack(tmp_path / f"{i}.tif", 1, side=16) for i in range(6)]
    tasks = [task(path, tmp_path / f"{path.name}.part") for path in (large, *small)]
    with Workers(setup_of(RING, ARCHIVE), 1, None) as workers:
        outcomes = workers.run(iter(tasks), tick=0.05)
        assert next(outcomes) is None
        wait_until(lambda: list(tmp_path.glob(".large.tif.part*.part")))
        first = workers._workers[0].process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        found = {outcome.task.name: outcome for outcome in outcomes if outcome is not None}
        assert workers._workers[0].process.pid != first
    assert found["large.tif"].problem.startswith("the process that worked on it died")
    assert [found[path.name].problem for path in small] == [""] * 6


def test_interrupts_do_not_reach_the_workers(tmp_path: Path) -> None:
    tasks = [task(stack(tmp_path / f"{i}.tif", 1, side=16), tmp_path / f"{i}.part") for i in range(2)]
    with Workers(setup_of(RING, ARCHIVE), 1, None) as workers:
        outcomes = (outcome for outcome in workers.run(iter(tasks), tick=1) if outcome is not None)
        assert next(outcomes).problem == ""
        pid = workers._workers[0].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        assert next(outcomes).problem == ""


def test_a_run_waits_for_workers_of_an_earlier_one(tmp_path: Path) -> None:
    done: list[str] = []
    waiting = threading.Thread(target=lambda: (wait_for_workers(tmp_path / "lock"), done.append("waited")))
    with (tmp_path / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        waiting.start()
        waiting.join(0.3)
        assert done == []
    waiting.join(DEADLINE)
    assert done == ["waited"]
    with pytest.raises(StorageError):
        wait_for_workers(tmp_path / "gone" / "lock")


# --- the command, as a person would run it


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "mercy.key"
    cost, sealed_file.SCRYPT_N = sealed_file.SCRYPT_N, 2**4
    try:
        keyfile.save_key(path, KEY, PASSPHRASE)
    finally:
        sealed_file.SCRYPT_N = cost
    return path


class Command:
    """`medveil-crypto` in a process group of its own, as a terminal starts it."""

    def __init__(self, *arguments: str | Path, temporary: Path | None = None) -> None:
        words = [sys.executable, "-m", "crypto.cli", *map(str, arguments)]
        environment = os.environ | {"MEDVEIL_PASSPHRASE": PASSPHRASE}
        if temporary is not None:
            environment["TMPDIR"] = str(temporary)
        self.process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def workers(self) -> list[int]:
        """Child processes that work, and not multiprocessing's own."""
        return [pid for pid in self.children() if b"spawn_main" in command_line(pid)]

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out, err


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.fixture
def command(key_file: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str | Path, temporary: Path | None = None) -> Command:
        started.append(Command(*arguments, "--key", key_file, temporary=temporary))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait()


def archive(source: Path, target: Path, *more: str) -> tuple[str | Path, ...]:
    return ("encrypt", source, target, "--for", "archive", "--block", "8", "--negate", "--jobs", "2", *more)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_that_is_killed_goes_on_and_does_nothing_twice(tmp_path: Path, command: Callable[..., Command]) -> None:
    source = pictures(tmp_path / "source", 240)
    for attempt in range(5):
        target = tmp_path / f"hidden-{attempt}"
        first = command(*archive(source, target))
        wait_until(lambda: len(files(target)) >= 60 if target.exists() else False)  # noqa: B023
        workers = first.workers()
        first.process.kill()
        first.process.wait()
        wait_until(lambda: not any(command_line(pid) for pid in workers))  # noqa: B023
        left = files(target)
        if len(left) < 240:  # Else a busy machine let it end before it was killed.
            break
    assert len(workers) == 2
    assert 60 <= len(left) < 240
    # A writer of another time, killed over a file.
    (target / WORK / "parts" / "leftover").write_bytes(b"half a file")
    code, out, err = command(*archive(source, target, "--json")).end()
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["done"] + said["already_done"] == 240
    assert said["already_done"] >= len(left)
    after = files(target)
    assert len(after) == 240
    assert {name: after[name] for name in left} == left
    assert not (target / WORK).exists()
    checked = verify_tree(target, RING, crew=Alone)
    assert (checked.summary.done, checked.failed) == (240, [])
    assert json.loads((target / REPORT).read_text())["status"] == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, command: Callable[..., Command]) -> None:
    source, target = tmp_path / "source", tmp_path / "hidden"
    stack(source / "large.tif", 150)
    started = command(*archive(source, target))
    parts = target / WORK / "parts"
    wait_until(lambda: list(parts.glob(".1.*.part")))
    workers = started.workers()
    started.process.kill()
    started.process.wait()
    wait_until(lambda: not any(command_line(pid) for pid in workers))
    # In the middle of the file, and not when it was finished.
    assert not (parts / "1").exists()
    assert list(parts.glob(".1.*.part"))


def test_ctrl_c_ends_with_130_and_can_go_on(tmp_path: Path, command: Callable[..., Command]) -> None:
    source, target = pictures(tmp_path / "source", 100), tmp_path / "hidden"
    stack(source / "large.tif", 100)
    first = command(*archive(source, target))
    wait_until(lambda: len(files(target)) >= 20 if target.exists() else False)
    os.killpg(first.process.pid, signal.SIGINT)
    code, out, err = first.end()
    assert (code, out, err) == (130, "", "error: interrupted\n")
    report = json.loads((target / REPORT).read_text())
    assert report["status"] == "interrupted"
    left = files(target)
    assert report["summary"]["done"] == len(left)
    assert list((target / WORK).glob("parts/*")) == []
    (source / "large.tif").unlink()
    result = run_tree(Plan(source=source, target=target, recipe=ARCHIVE), RING, crew=Alone)
    assert (result.summary.already, result.failed) == (len(left), [])
    assert {name: files(target)[name] for name in left} == left


def test_two_runs_do_not_share_an_output(tmp_path: Path, command: Callable[..., Command]) -> None:
    source, target = tmp_path / "source", tmp_path / "hidden"
    stack(source / "large.tif", 100)
    first = command(*archive(source, target))
    wait_until(lambda: list(target.glob(f"{WORK}/parts/.*")))
    code, _, err = command(*archive(source, target)).end()
    assert code == 3
    assert "is in use by another process" in err
    os.killpg(first.process.pid, signal.SIGINT)
    assert first.end()[0] == 130


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_secret_is_in_no_argument_no_environment_and_on_no_disk(
    tmp_path: Path, command: Callable[..., Command]
) -> None:
    source, target, temporary = tmp_path / "source", tmp_path / "hidden", tmp_path / "temporary"
    temporary.mkdir()
    pictures(source, 10)
    stack(source / "large.tif", 60)
    forms = (KEY.secret, KEY.secret.hex().encode(), repr(KEY.secret)[2:-1].encode())
    started = command(*archive(source, target, "--seal"), temporary=temporary)
    wait_until(lambda: len(started.workers()) == 2 and list(temporary.iterdir()))
    os.killpg(started.process.pid, signal.SIGSTOP)
    for pid in (started.process.pid, *started.children()):
        for name in ("cmdline", "environ"):
            said = Path(f"/proc/{pid}/{name}").read_bytes()
            assert not any(form in said for form in forms)
    on_disk = [path for path in (*target.rglob("*"), *temporary.rglob("*")) if path.is_file()]
    assert on_disk
    for path in on_disk:
        data = path.read_bytes()
        assert not any(form in data for form in forms)
    os.killpg(started.process.pid, signal.SIGCONT)
    code, out, err = started.end()
    assert (code, err) == (0, "")
    assert not any(form in (out + err).encode() for form in forms)
    assert list(temporary.iterdir()) == []
    for path in target.rglob("*"):
        assert not path.is_file() or not any(form in path.read_bytes() for form in forms)


def nameless_files(temporary: Path) -> list[str]:
    """Files without a name that some process holds open below a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            leads = os.readlink(link)
            found += [leads] if leads.startswith(str(temporary)) and leads.endswith("(deleted)") else []
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sealing_that_is_killed_leaves_no_file(
    tmp_path: Path, command: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, temporary = tmp_path / "source", tmp_path / "hidden", tmp_path / "temporary"
    temporary.mkdir()
    stack(source / "large.tif", 60)
    first = command(*archive(source, target, "--seal"), temporary=temporary)
    # It outgrew the memory that is set apart for it, and goes on in a file that has no name and says nothing.
    wait_until(lambda: nameless_files(temporary))
    os.killpg(first.process.pid, signal.SIGSTOP)
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    assert not [path for path in target.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"II"]
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    again = Plan(source=source, target=target, recipe=dataclasses.replace(ARCHIVE, seal=True))
    assert run_tree(again, RING, crew=Alone).summary.done == 1
    assert list(temporary.iterdir()) == []


# --- disks


class Disk:
    """A disk of a size of our choice."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)

    def mount(self, size: str, *, flags: int = 0) -> None:
        made = -1
        if sys.platform == "linux":
            made = self._libc.mount(b"none", str(self.place).encode(), b"tmpfs", flags, f"size={size}".encode())
        if made != 0:
            pytest.skip(f"no disk to fill: mounting one says {os.strerror(ctypes.get_errno())}")

    def grow(self, size: str) -> None:
        self.mount(size, flags=32)

    def read_only(self) -> None:
        self.mount("1m", flags=32 | 1)

    def unmount(self) -> None:
        self._libc.umount2(str(self.place).encode(), 2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.unmount()


@pytest.mark.slow
def test_a_disk_that_fills_ends_the_run_and_space_mends_it(tmp_path: Path, disk: Disk) -> None:
    source = pictures(tmp_path / "source", 30, side=64)
    disk.mount("100k")
    plan = Plan(source=source, target=disk.place / "hidden", recipe=ARCHIVE, jobs=2)
    with pytest.raises(StorageError, match="no space left on device; free some space"):
        run_tree(plan, RING)
    left = files(plan.target)
    assert len(left) < 30
    disk.grow("40m")
    result = run_tree(plan, RING)
    assert result.summary.done + result.summary.already == 30
    assert {name: files(plan.target)[name] for name in left} == left
    assert verify_tree(plan.target, RING).summary.done == 30


def test_a_disk_that_is_read_only_is_said_at_once(tmp_path: Path, disk: Disk) -> None:
    source = pictures(tmp_path / "source", 2)
    disk.mount("1m")
    disk.read_only()
    with pytest.raises(StorageError, match=r"read-only file system|cannot write into the folder"):
        run_tree(Plan(source=source, target=disk.place / "hidden", recipe=ARCHIVE), RING)


FORBIDDEN = """
import os, sys
from pathlib import Path
from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.plan import Plan
from crypto.tree.run import run_tree
from crypto.tree.workers import Alone
from medveil.errors import MedVeilError
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
recipe = Recipe(purpose="archive", cipher=CipherConfig(block=8))
try:
    result = run_tree(Plan(source=Path(sys.argv[1]), target=Path(sys.argv[2]), recipe=recipe),
                      Keyring(SiteKey.generate("a")), crew=Alone)
    print(result.summary.done, *(f"{name}: {why}" for name, why in result.failed), sep="|")
except MedVeilError as error:
    print(type(error).__name__, error, sep="|")
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that a user without rights may enter; pytest's own may be for its owner alone."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def test_files_and_folders_one_may_not_read_are_named(open_place: Path) -> None:
    source = pictures(open_place / "source", 3)
    (source / "0" / "0000.png").chmod(0)
    (source / "1").chmod(0)
    (open_place / "hidden").mkdir()
    (open_place / "hidden").chmod(0o777)

    def run(target: Path) -> str:
        words = [sys.executable, "-c", FORBIDDEN, str(source), str(target)]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout.strip()

    denied = "permission denied"
    said = run(open_place / "hidden")
    assert said == f"1|0/0000.png: cannot read the file: {denied}|1: cannot read the folder: {denied}"
    (open_place / "closed").mkdir(mode=0o755)
    assert run(open_place / "closed").startswith("StorageError|")
    (source / "1").chmod(0o755)
