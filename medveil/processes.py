"""Processes that outlive the command that started them: each is known by its recorded id, and ended by it.

A process id comes round again. So a record also holds when its process began, and a process that began at another time
is not ours, whatever its number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medveil.errors import EXIT_OK, FederationError, IntegrityError, StorageError
from medveil.files import make_folder, storage_error, write_json
from medveil.parent import STARTED_BY
from medveil.shapes import read_document

FORMAT = "medveil-process"
VERSION = 1
_MOST_PID = 2**31
_POLL_S = 0.05
_ATTEND_S = 0.5


def start(
    command: Sequence[str],
    *,
    record: Path,
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    stdin: bytes | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own and write down who it is.

    Parameters
    ----------
    command
        Program and arguments; nothing secret, for every user of the machine can read them.
    record
        Where to write the process's id.
    log
        What it prints is appended here, readable by the owner only.
    folder
        Its working folder.
    environment
        Its environment; added is who started it (`medveil.parent`).
    stdin
        What it reads, for example a passphrase; None for nothing.

    Raises
    ------
    StorageError
        The program, the folder or the log cannot be had.
    """
    make_folder(log.parent, mode=0o700)
    try:
        with open(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, STARTED_BY: str(os.getpid())},
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                umask=0o077,
            )
    except OSError as error:
        raise storage_error(error, command[0], "start the program") from error
    write_record(record, process.pid)
    if stdin is not None and process.stdin is not None:
        # A program that ended at once says why in its log, not by a broken pipe here.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(stdin)
            process.stdin.close()
    return process


def write_record(record: Path, pid: int) -> None:
    """Write down a process by its id and the time it began."""
    make_folder(record.parent, mode=0o700)
    write_json(record, {"format": FORMAT, "version": VERSION, "pid": pid, "began": began(pid)}, mode=0o600)


def running(record: Path) -> int | None:
    """The id of the recorded process, if that very process still runs."""
    if not record.exists():
        return None
    document = read_document(record, {}, name=FORMAT, newest=VERSION)
    return is_still(document, where=record)


def is_still(document: Mapping[str, Any], *, where: str | Path) -> int | None:
    """The id in a document with `pid` and `began`, if that very process still runs."""
    pid, recorded = document.get("pid"), document.get("began")
    if type(pid) is not int or not 0 < pid < _MOST_PID or not isinstance(recorded, str):
        raise IntegrityError("holds no process id", where=where, cure="remove it once the process is gone")
    return pid if recorded and began(pid) == recorded else None


def stop(record: Path, *, seconds: float = 20.0) -> bool:
    """End the recorded process: SIGTERM, and after `seconds` SIGKILL for it and what it started.

    Returns
    -------
    bool
        Whether it was running.

    Raises
    ------
    StorageError
        It belongs to another user.
    """
    pid = running(record)
    if pid is None:
        record.unlink(missing_ok=True)
        return False
    _signal(pid, signal.SIGTERM)
    if not wait_until_gone(record, seconds=seconds):
        _signal(pid, signal.SIGKILL)
    # Whatever it left of its session goes with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    wait_until_gone(record, seconds=seconds)
    record.unlink(missing_ok=True)
    return True


def end(document: Mapping[str, Any], *, where: str | Path, seconds: float = 5.0) -> bool:
    """End the process in a document with `pid` and `began`: SIGTERM, and after `seconds` SIGKILL; whether it ran.

    Raises
    ------
    StorageError
        It belongs to another user.
    """
    pid = is_still(document, where=where)
    if pid is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(pid, number)
        until = time.monotonic() + seconds
        while is_still(document, where=where) is not None and time.monotonic() < until:
            time.sleep(_POLL_S)
    return True


def attend(record: Path, *, log: Path) -> int:
    """Stay with the recorded process, as a service manager wants it, and end it when this one is ended.

    Nobody can answer SIGKILL: the recorded process is to watch its parent itself (`medveil.parent.end_with_parent`).

    Returns
    -------
    int
        Exit code 0, once it was ended from here.

    Raises
    ------
    FederationError
        It ended by itself.
    """

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        # As nohup has it, what is ignored stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        while running(record) is not None:
            time.sleep(_ATTEND_S)
    except KeyboardInterrupt:
        stop(record)
        return EXIT_OK
    record.unlink(missing_ok=True)
    raise FederationError("ended by itself", where=record.stem, cure=f"its last words are in {log}")


def wait_until_gone(record: Path, *, seconds: float) -> bool:
    """Wait for the recorded process to end; whether it did."""
    end = time.monotonic() + seconds
    while running(record) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def began(pid: int) -> str:
    """When a process began, as text that only that process has; empty where there is none, or only its remains."""
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        return _began_linux(proc, pid)
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, since = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else since.strip()


def _began_linux(proc: Path, pid: int) -> str:
    try:
        # The name, in brackets, may hold anything: what follows the last bracket counts.
        state, *rest = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return "" if state in {"Z", "X"} else f"{boot}/{rest[18]}"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise StorageError(f"process {pid} is another user's", cure="run this as the user who started it") from None
