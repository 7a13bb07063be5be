"""Runs the tests in several processes that are forked once all tests are collected: ``pytest --forks 4``.

The workers of pytest-xdist import every package and collect every test, each for itself. Here one process does both,
and its children go on from there. A child takes a file, runs its tests, and takes the next; what it reports goes to the
parent, which alone prints, counts and writes files. A child that dies fails its test; another takes what is left.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest

OPTION = "--forks"
_FORK = get_context("fork")
_THREADS = Path("/proc/self/task")
_END_S = 10.0


def add_option(parser: pytest.Parser) -> None:
    """Take ``--forks N``: a file's tests stay in one process."""
    parser.addoption(OPTION, type=int, default=0, metavar="N", help="run the tests in N forked processes (Linux)")


@dataclass
class _Worker:
    process: ForkProcess
    heard: Connection
    pending: list[int]
    """Numbers of the tests it took and has not begun."""
    running: int | None = None
    done: bool = False


@dataclass
class Forked:
    """The parent: collects, forks, and hears what its children report."""

    config: pytest.Config
    workers: list[_Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise pytest.UsageError(f"{OPTION} needs Linux; elsewhere: -n N --dist loadfile")
        if self.config.getoption("usepdb"):
            raise pytest.UsageError(f"{OPTION} does not go with --pdb")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run all tests; pytest's own loop says what stands in their way."""
        if session.testsfailed or self.config.option.collectonly or not session.items:
            return None
        _alone()
        self.config.pluginmanager.getplugin("terminalreporter").showfspath = False
        # A capture in a file would be one file for all.
        self.config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        self.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        files = _files(session.items)
        queue = _queue(len(files))
        try:
            for _ in range(min(self.config.getoption(OPTION.removeprefix("--")), len(files))):
                self._fork(session, files, queue, [])
            while self.workers:
                self._hear(session, files, queue)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
        finally:
            os.close(queue)
            self._end()
        return True

    def _fork(self, session: pytest.Session, files: list[list[int]], queue: int, first: list[int]) -> None:
        heard, told = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_work, args=(session, files, queue, first, told))
        process.start()
        told.close()
        self.workers.append(_Worker(process, heard, list(first)))

    def _hear(self, session: pytest.Session, files: list[list[int]], queue: int) -> None:
        ready = wait([source for worker in self.workers for source in (worker.heard, worker.process.sentinel)])
        for worker in list(self.workers):
            if worker.heard in ready or worker.process.sentinel in ready:
                while worker.heard.poll():
                    try:
                        what, value = worker.heard.recv()
                    except EOFError:
                        break
                    self._take(session, worker, files, what, value)
            if worker.process.sentinel in ready:
                self.workers.remove(worker)
                worker.process.join()
                worker.heard.close()
                if not worker.done:
                    self._died(session, worker)
                    self._fork(session, files, queue, worker.pending)

    def _take(self, session: pytest.Session, worker: _Worker, files: list[list[int]], what: str, value: Any) -> None:
        hook = self.config.hook
        match what:
            case "took":
                worker.pending += files[value]
            case "runs":
                worker.running = value
                worker.pending.remove(value)
            case "report":
                hook.pytest_runtest_logreport(
                    report=hook.pytest_report_from_serializable(config=self.config, data=value)
                )
            case "finished":
                item = session.items[value]
                hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            case "warning":
                hook.pytest_warning_recorded.call_historic(kwargs=value | {"warning_message": _warning(value)})
            case "done":
                worker.done = True

    def _died(self, session: pytest.Session, worker: _Worker) -> None:
        if worker.running is None:
            raise RuntimeError(f"a process of the tests ended before its first test, with {worker.process.exitcode}")
        item = session.items[worker.running]
        words = f"the process ended with {worker.process.exitcode} while this test ran"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call")
        self.config.hook.pytest_runtest_logreport(report=report)

    def _end(self) -> None:
        for worker in self.workers:
            # Ctrl-C reaches all of a terminal's processes: a second one would break off what they are tidying up.
            worker.process.join(_END_S if sys.exc_info()[0] is KeyboardInterrupt else 0)
            if worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        for worker in self.workers:
            worker.process.join(_END_S)
            if worker.process.is_alive():
                worker.process.kill()


class _Teller:
    """In a child: what happens, told to the parent."""

    def __init__(self, config: pytest.Config, told: Connection) -> None:
        self._config = config
        self._told = told
        self.from_now_on = False

    def tell(self, what: str, value: object = None) -> None:
        self._told.send((what, value))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self.tell("report", data)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        # Whoever registers is handed all warnings so far, which the parent has.
        if not self.from_now_on:
            return
        kind = warning_message.category
        about = {"text": str(warning_message.message), "kind": (kind.__module__, kind.__qualname__)}
        place = {"filename": warning_message.filename, "lineno": warning_message.lineno}
        self.tell("warning", {"when": when, "nodeid": nodeid, "location": location, **about, **place})


class _Screen:
    """What pytest-timeout writes the stacks of threads to, in place of what reports tests."""

    def __init__(self, writer: Any) -> None:
        self._tw = writer


def _work(session: pytest.Session, files: list[list[int]], queue: int, first: list[int], told: Connection) -> None:
    """Be a child: run what was left by another, then one file after the other until none is left."""
    config = session.config
    screen = _Screen(config.get_terminal_writer())
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(screen, "terminalreporter")
    config.pluginmanager.unregister(name="forked")
    base = config._tmp_path_factory.getbasetemp() / str(os.getpid())  # type: ignore[attr-defined]
    base.mkdir(mode=0o700)
    config._tmp_path_factory._basetemp = base  # type: ignore[attr-defined]
    teller = _Teller(config, told)
    config.pluginmanager.register(teller)
    teller.from_now_on = True
    config.pluginmanager.getplugin("capturemanager").start_global_capturing()
    config.pluginmanager.getplugin("capturemanager").suspend_global_capture()

    def numbers() -> Iterator[int]:
        yield from first
        while taken := os.read(queue, 4):
            file = int.from_bytes(taken)
            teller.tell("took", file)
            yield from files[file]

    try:
        ahead = numbers()
        number = next(ahead, None)
        while number is not None and not session.shouldfail:
            following = next(ahead, None)
            teller.tell("runs", number)
            item = session.items[number]
            nextitem = None if following is None else session.items[following]
            config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            teller.tell("finished", number)
            number = following
    except KeyboardInterrupt:
        return
    finally:
        session._setupstate.teardown_exact(None)
    teller.tell("done")


def _alone() -> None:
    """Refuse to fork beside other threads, whose locks would stay locked in the children."""
    threads = len(list(_THREADS.iterdir()))
    if threads > 1:
        raise pytest.UsageError(f"{OPTION}: this process has {threads} threads; set OMP_NUM_THREADS=1")


def _files(items: list[pytest.Item]) -> list[list[int]]:
    """Numbers of the tests of each file, in their order."""
    return [[number for number, _ in tests] for _, tests in groupby(enumerate(items), lambda pair: pair[1].path)]


def _queue(files: int) -> int:
    """A pipe that holds the files' numbers, from which each child reads the next: four bytes come whole."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    written = os.write(writes, b"".join(file.to_bytes(4) for file in range(files)))
    os.close(writes)
    if written != 4 * files:
        raise pytest.UsageError(f"{OPTION}: {files} files are more than a pipe holds")
    return reads


def _warning(value: dict[str, Any]) -> warnings.WarningMessage:
    module, name = value.pop("kind")
    kind = getattr(sys.modules.get(module), name, Warning)
    return warnings.WarningMessage(value.pop("text"), kind, value.pop("filename"), value.pop("lineno"))
