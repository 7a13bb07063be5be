"""Processes that end with who started them, whatever ends it, and with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from families import Family

from medveil import processes
from medveil.claims import claimed
from medveil.errors import StorageError
from medveil.tied import end_all, run_tied, tied

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
TREE = f"""
import os, subprocess, sys, time
def begin(**more):
    child = subprocess.Popen([sys.executable, '-c', {DEAF!r}], stdout=subprocess.PIPE, **more)
    child.stdout.readline()
begin()
begin(start_new_session=True)
if os.fork() == 0:
    # Its parent ends at once: an orphan, in a session of its own.
    begin(start_new_session=True)
    os._exit(0)
os.wait()
print('up', flush=True)
time.sleep(600)
"""
"""A child, one that left its session and an orphan, all of which hear no SIGTERM."""
COMMAND = f"""
import sys
from pathlib import Path
from medveil.claims import claimed
from medveil.cli import ending_in_order, guarded
from medveil.tied import run_tied
def body():
    with claimed(sys.argv[1], seconds=0, cure=''):
        run_tied([sys.executable, '-c', {TREE!r}], grace=0.5, removes=Path(sys.argv[2]))
with ending_in_order():
    sys.exit(guarded(body))
"""
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    begun: list[subprocess.Popen[str]] = []

    def start(*before: str) -> subprocess.Popen[str]:
        words = [*before, sys.executable, "-c", COMMAND, str(tmp_path / "thing"), str(tmp_path / "scratch")]
        # Who runs the tests under nohup has their processes ignore SIGHUP.
        heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        begun.append(subprocess.Popen(words, **pipes, text=True, preexec_fn=heard))  # noqa: PLW1509
        stream = begun[-1].stdout
        assert stream is not None
        assert stream.readline() == "up\n"
        return begun[-1]

    (tmp_path / "scratch").mkdir()
    yield start
    for each in begun:
        each.kill()
        each.communicate()


@pytest.mark.parametrize(
    ("blow", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_whatever_ends_a_command_ends_all_it_started(begin: Begin, tmp_path: Path, blow: int, code: int) -> None:
    command = begin()
    family = Family(command.pid)
    assert len(family.look()) == 5, "the leash, its command and three below it"
    command.send_signal(blow)
    # What a command holds is free when the last of its processes is gone, and no sooner.
    with claimed(tmp_path / "thing", seconds=20, cure="", patient=True):
        assert not [line for line in family.left() if DEAF in line or "leash" not in line]
    assert command.wait(20) == code
    assert not family.wait_gone(5)
    assert (tmp_path / "scratch").exists() == (blow != signal.SIGKILL), "only who is killed leaves its scratch to us"


def test_what_nohup_has_ignored_stays_so(begin: Begin) -> None:
    command = begin("nohup")
    command.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert command.poll() is None
    command.terminate()
    assert command.wait(20) == 143


def test_a_leash_that_is_killed_takes_its_command_along(tmp_path: Path) -> None:
    with tied([sys.executable, "-c", "import time; time.sleep(600)"], grace=0.5) as process:
        family = Family(process.pid)
        until = time.monotonic() + 20
        while not family.look() and time.monotonic() < until:
            time.sleep(0.02)
        # It has set its signal by the time its program runs.
        time.sleep(0.3)
        process.kill()
        assert not family.wait_gone(10)


def test_it_ends_as_its_command_does() -> None:
    done = run_tied(["sh", "-c", "echo out; echo err >&2; exit 7"], stdout=-1, stderr=-1, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert run_tied(["sh", "-c", "kill -9 $$"]).returncode == 137
    assert run_tied(["/no/such/program"]).returncode == 127


def test_processes_of_other_threads_are_told_to_end() -> None:
    def work() -> int:
        # The second of a thread begins after the first was told.
        return run_tied(["sleep", "600"], grace=0.5).returncode + run_tied(["sleep", "600"], grace=0.5).returncode

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(work) for _ in range(2)]
        end_all(running)
    # One that is told before it has begun anything dies of the signal itself.
    assert all(each.result() in {-30, 128, 286} for each in running)


def test_who_holds_a_thing_is_named(begin: Begin, tmp_path: Path) -> None:
    command = begin()
    began = time.monotonic()
    with pytest.raises(StorageError) as caught, claimed(tmp_path / "thing", seconds=20, cure="kill {pid}"):
        pass
    assert time.monotonic() - began < 10, "who lives is not waited for"
    said = str(caught.value)
    assert f"thing: is in use by another process {command.pid} since 2" in said
    assert said.endswith(f"kill {command.pid}")


def test_a_lock_whose_words_are_a_strangers(tmp_path: Path) -> None:
    lock = tmp_path / "thing.lock"
    lock.write_bytes(b"1 \x1b[31mred\n")
    handle = os.open(lock, os.O_RDWR)
    import fcntl  # noqa: PLC0415

    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(StorageError) as caught, claimed(tmp_path / "thing", seconds=0, cure="kill {pid}"):
        pass
    os.close(handle)
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).endswith(f"kill {os.getpid()}"), "not the process that it names, which is another's"
    with claimed(tmp_path / "thing", seconds=0, cure=""):
        assert lock.read_text().startswith(f"{os.getpid()} 2")
    assert processes.began(1)
