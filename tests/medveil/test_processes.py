"""Processes by their recorded ids."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medveil import processes
from medveil.errors import FederationError, IntegrityError, StorageError

SLEEP = "import time, sys; print('here', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
Start = Callable[..., int]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "it.process"


@pytest.fixture
def start(record: Path, tmp_path: Path) -> Iterator[Start]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(code: str, *, stdin: bytes | None = None) -> int:
        log = tmp_path / "logs" / "it.log"
        process = processes.start(
            [sys.executable, "-c", code],
            record=record,
            log=log,
            folder=tmp_path,
            environment=dict(os.environ),
            stdin=stdin,
        )
        begun.append(process)
        end = time.monotonic() + 20
        while not log.read_text() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        return process.pid

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_recorded_process_is_found_and_ended(start: Start, record: Path, tmp_path: Path) -> None:
    pid = start(SLEEP)
    assert processes.running(record) == pid
    assert stat.S_IMODE(record.stat().st_mode) == stat.S_IMODE((tmp_path / "logs/it.log").stat().st_mode) == 0o600
    assert processes.stop(record)
    assert processes.began(pid) == ""
    assert not record.exists()
    assert not processes.stop(record)


def test_one_that_does_not_listen_is_killed(start: Start, record: Path) -> None:
    pid = start(DEAF)
    assert processes.stop(record, seconds=0.3)
    assert processes.began(pid) == ""


def test_a_process_that_a_document_names_is_ended_if_need_be_by_force(start: Start, record: Path) -> None:
    start(DEAF)
    document = json.loads(record.read_text())
    assert processes.end(document, where=record, seconds=0.3)
    assert processes.running(record) is None
    assert not processes.end(document, where=record)
    another = {**document, "pid": os.getpid()}
    assert not processes.end(another, where=record), "this very process is another"


def test_a_number_that_came_round_again_is_not_ours(start: Start, record: Path) -> None:
    pid = start(SLEEP)
    document = json.loads(record.read_text())
    record.write_text(json.dumps(document | {"began": document["began"] + "1"}))
    assert processes.running(record) is None
    assert not processes.stop(record)
    assert processes.began(pid), "another's process was ended"


def test_what_is_left_of_a_process_is_none(record: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    end = time.monotonic() + 20
    while processes.began(process.pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes.began(process.pid) == "", "a zombie counts as running"
    process.wait()


def test_children_end_with_it(start: Start, record: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    start(
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    end = time.monotonic() + 20
    while not child.exists() and time.monotonic() < end:
        time.sleep(0.02)
    processes.stop(record)
    pid = int(child.read_text())
    while processes.began(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes.began(pid) == ""


def test_secrets_go_in_by_stdin(start: Start, tmp_path: Path) -> None:
    start("import sys; print(sys.stdin.read()[::-1], flush=True)", stdin=b"word")
    assert (tmp_path / "logs/it.log").read_text() == "drow\n"


def test_a_program_that_is_not_there(record: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot start the program"):
        processes.start([str(tmp_path / "none")], record=record, log=tmp_path / "log", folder=tmp_path, environment={})


def test_a_broken_record(record: Path) -> None:
    record.write_text('{"format": "medveil-process", "version": 1}')
    with pytest.raises(IntegrityError, match="holds no process id"):
        processes.running(record)


def test_attending_ends_with_the_process(start: Start, record: Path, tmp_path: Path) -> None:
    pid = start(SLEEP)
    os.kill(pid, signal.SIGKILL)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(FederationError, match="ended by itself"):
            processes.attend(record, log=tmp_path / "log")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_attending_ends_the_process_when_ended(start: Start, record: Path, tmp_path: Path) -> None:
    pid = start(SLEEP)
    code = (
        "import sys; from pathlib import Path; from medveil import processes\n"
        f"sys.exit(processes.attend(Path({str(record)!r}), log=Path('log')))"
    )
    attendant = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(1.0)
    assert attendant.poll() is None
    attendant.terminate()
    assert attendant.wait(30) == 0
    assert processes.began(pid) == ""


@pytest.mark.parametrize("deaf", [False, True])
def test_one_that_is_to_end_with_its_parent_does_so_also_where_that_was_gone_before(tmp_path: Path, deaf: bool) -> None:
    """A parent that is killed while its child still begins; and a child that does not listen."""
    child = (
        "import signal, sys, time\n"
        f"{'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if deaf else ''}\n"
        # Longer than its parent lives.
        "time.sleep(0.3)\n"
        "from medveil.parent import end_with_parent\n"
        "end_with_parent(grace=0.3)\n"
        "time.sleep(600)\n"
    )
    record = tmp_path / "it.process"
    parent = (
        "import os, sys; from pathlib import Path; from medveil import processes\n"
        f"processes.start([sys.executable, '-c', {child!r}], record=Path({str(record)!r}), "
        f"log=Path({str(tmp_path / 'log')!r}), folder=Path({str(tmp_path)!r}), environment=dict(os.environ))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", parent], check=True)
    assert processes.wait_until_gone(record, seconds=20), processes.stop(record)
    assert (tmp_path / "log").read_text() == ""
