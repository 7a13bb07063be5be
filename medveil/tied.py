"""Processes that end with the one that started them, on whatever signal, and with all that they started.

Each is started by a leash (`medveil.leash`), which sees this process end by a pipe that closes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

from medveil import leash
from medveil.claims import held_here
from medveil.plain import tell_block

_LEASH = str(Path(leash.__file__).resolve())
_ROUNDS = 3
"""A leash waits once for the command and once for what it left, and then kills."""
_LOOK_S = 0.1
_RUNNING: set[subprocess.Popen[Any]] = set()
_LOCK = threading.Lock()


@contextlib.contextmanager
def tied(
    command: Sequence[str],
    *,
    removes: Path | None = None,
    grace: float = leash.GRACE_S,
    text: bool = False,
    **settings: Any,
) -> Iterator[subprocess.Popen[Any]]:
    """Start a process that ends with the block, and with this process, however that ends.

    Parameters
    ----------
    command
        Program and arguments.
    removes
        A scratch folder to remove should this process be gone before.
    grace
        Seconds the process, and then what it left, may take to end in order.
    text
        Whether what it prints is text.
    **settings
        ``cwd``, ``env``, ``stdout`` and ``stderr`` of `subprocess.Popen`.

    Yields
    ------
    subprocess.Popen
        Of the leash: it ends after all of them, with the command's exit code (128 and the signal's number where one
        ended it; 127 where there is no such program).
    """
    theirs, ours = os.pipe()
    more = ["--remove", str(removes)] if removes else []
    words = [sys.executable, "-IS", _LEASH, "--life", str(theirs), f"--grace={grace:g}", *more, "--", *command]
    process: subprocess.Popen[Any] | None = None
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            text=text,
            start_new_session=True,
            pass_fds=(theirs, *held_here()),
            **settings,
        )
        with _LOCK:
            _RUNNING.add(process)
        yield process
    finally:
        os.close(theirs)
        if process is not None:
            _end(process, _ROUNDS * grace)
            with _LOCK:
                _RUNNING.discard(process)
        os.close(ours)


def run_tied(command: Sequence[str], **settings: Any) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`, of a process that ends with this one; parameters as `tied`."""
    with tied(command, **settings) as process:
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)


def told_tied(command: Sequence[str], *, as_json: bool, **settings: Any) -> int:
    """Run a command of ours that ends with this process, and print what it prints; its exit code.

    Parameters
    ----------
    as_json
        Whether it leaves a document: that is printed once it is whole, and none where this process is ended before,
        which then has one of its own.
    **settings
        As `tied`.
    """
    if not as_json:
        return int(run_tied(command, **settings).returncode)
    done = run_tied(command, stdout=subprocess.PIPE, text=True, **settings)
    tell_block(done.stdout, end="")
    return int(done.returncode)


def end_all(work: Sequence[Future[Any]]) -> None:
    """End the processes that other threads started by `tied`, and that they are about to start, until they are done.

    Parameters
    ----------
    work
        What the threads do.
    """
    told: set[subprocess.Popen[Any]] = set()
    while not all(each.done() for each in work):
        with _LOCK:
            fresh = _RUNNING - told
        for process in fresh:
            process.terminate()
        told |= fresh
        time.sleep(_LOOK_S)


def _end(process: subprocess.Popen[Any], seconds: float) -> None:
    """End a leash in order; one that does not end is killed, and then its command is told so by the kernel."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            _close(stream)


def _close(stream: IO[Any]) -> None:
    with contextlib.suppress(OSError):
        stream.close()
