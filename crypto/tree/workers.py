"""Processes that work on files side by side, one pipe each, so that it is known which file a process died over.

`concurrent.futures` breaks its whole pool when one process is killed (by the kernel, over a file too large for the
memory) and cannot say over what; here that one file fails and a fresh process goes on.

Workers ignore Ctrl-C, which the parent alone answers; they end when the parent does, however it ends; and they share a
lock that a later run takes alone, so that no worker of a killed run writes beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Protocol

from crypto.tree.tasks import Desk, Outcome, Setup, Task
from medveil.disks import leave_small_files_unsynced
from medveil.files import storage_error

AHEAD = 16
AHEAD_BYTES = 2**23
"""Tasks a worker is given before it answers the first, so that it need not wait for the next: many small ones, but
nothing behind a large one, which another worker could do meanwhile."""

_DIED = "the process that worked on it died; it may need more memory than there is"
_STOP_SECONDS = 5.0


class Crew(Protocol):
    """Whoever does tasks."""

    def run(self, tasks: Iterator[Task], *, tick: float) -> Iterator[Outcome | None]:
        """Do tasks as they come, in any order; None after every `tick` seconds without an outcome."""

    def __enter__(self) -> Crew: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Alone:
    """Does tasks in this process, for one file and for tests."""

    def __init__(self, setup: Setup, count: int = 1, lock: Path | None = None) -> None:
        self._desk = Desk(setup)

    def run(self, tasks: Iterator[Task], *, tick: float) -> Iterator[Outcome | None]:
        """Do tasks, one after another."""
        for task in tasks:
            yield self._desk.do(task)

    def __enter__(self) -> Alone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class _Worker:
    """One process, its pipe, and the tasks it was given and has not answered, the oldest first."""

    def __init__(self, setup: Setup, lock: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.given: deque[Task] = deque()
        self.process = context.Process(target=_serve, args=(theirs, setup, lock), daemon=True)
        # Started with the first process, it would lift the hold on interrupts while that is not there yet.
        resource_tracker.ensure_running()
        with interrupts_held():
            self.process.start()
        theirs.close()

    def has_room(self) -> bool:
        """Whether it may be given another task."""
        held = sum(task.size for task in self.given)
        return not self.given or (len(self.given) < AHEAD and held < AHEAD_BYTES)

    def give(self, task: Task) -> None:
        self.given.append(task)
        # A process that died is found when its answer is waited for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(task)

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class Workers:
    """Does tasks in processes of its own.

    Parameters
    ----------
    setup
        What each process is started with.
    count
        How many processes.
    lock
        A file they hold a shared lock on; None where they write nothing.
    """

    def __init__(self, setup: Setup, count: int, lock: Path | None) -> None:
        self._setup, self._lock = setup, lock
        self._count = count
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.stop()

    def run(self, tasks: Iterator[Task], *, tick: float) -> Iterator[Outcome | None]:
        """Do tasks as they come; no more of them are out than `AHEAD` for each worker.

        Yields
        ------
        Outcome or None
            Outcomes in the order of their ends; None after every `tick` seconds without one.
        """
        again: deque[Task] = deque()
        while self._fill(tasks, again):
            pipes = {worker.pipe: worker for worker in self._workers if worker.given}
            ready = wait(list(pipes), timeout=tick)
            if not ready:
                yield None
            for pipe in ready:
                worker = pipes[pipe]  # type: ignore[index]
                try:
                    outcome: Outcome = worker.pipe.recv()
                except (EOFError, OSError):
                    outcome = self._buried(worker, again)
                else:
                    worker.given.popleft()
                yield outcome

    def _fill(self, tasks: Iterator[Task], again: deque[Task]) -> bool:
        """Give out tasks, the idlest worker first; whether any is still out."""
        while True:
            worker = min(self._workers, key=lambda each: len(each.given), default=None)
            start = worker is None or (worker.given and len(self._workers) < self._count)
            if not start and worker is not None and not worker.has_room():
                return True
            task = again.popleft() if again else next(tasks, None)
            if task is None:
                return any(each.given for each in self._workers)
            if start or worker is None:
                worker = _Worker(self._setup, self._lock)
                self._workers.append(worker)
            worker.give(task)

    def _buried(self, worker: _Worker, again: deque[Task]) -> Outcome:
        """Blame the oldest task for a death; the others go to whoever is left."""
        lost = worker.given.popleft()
        again.extend(worker.given)
        self._workers.remove(worker)
        worker.stop()
        with contextlib.suppress(OSError):
            os.unlink(lost.part or "")
        return Outcome(task=lost, problem=_DIED, exit_code=1)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block is over; for good in a process that is started inside.

    The mask is for that process, which inherits it. In this one it is not enough: a signal goes to any thread that does
    not block it, a library's own among them, and Python then interrupts the main thread all the same.
    """
    held: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number)) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if held:
            signal.raise_signal(signal.SIGINT)


def _serve(pipe: Connection, setup: Setup, lock: Path | None) -> None:
    """What a worker process does: tasks, until its parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Libraries that decode images print what they dislike, from C as well; what matters comes back as an outcome.
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # What is temporary goes where the run that owns it sweeps.
    tempfile.tempdir = setup.scratch or None
    if setup.leave_unsynced:
        leave_small_files_unsynced()
    with contextlib.ExitStack() as stack:
        if lock is not None:
            held = stack.enter_context(open(lock, "ab"))
            fcntl.flock(held, fcntl.LOCK_SH)
        desk = Desk(setup)
        with contextlib.suppress(EOFError, OSError):
            while True:
                pipe.send(desk.do(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def wait_for_workers(lock: Path) -> None:
    """Wait until no worker of an earlier, killed run is left; they end with their parent, in a moment.

    Raises
    ------
    StorageError
        The lock file cannot be used.
    """
    try:
        with open(lock, "ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
    except OSError as error:
        raise storage_error(error, lock, "lock the file") from error
