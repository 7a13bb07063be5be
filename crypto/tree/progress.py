"""How far a run is: one live line on a terminal, nothing elsewhere."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from crypto.tree.report import Summary
from crypto.tree.walk import FILE, walk
from medveil import plain

_WIDTH = 24


class Counter:
    """Counts the files of a tree and their bytes, in a thread of its own while the work goes on.

    Attributes
    ----------
    files, size
        What was found so far.
    whole : bool
        Whether all was.
    """

    def __init__(self, root: Path) -> None:
        self.files, self.size, self.whole = 0, 0, False
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, name="counter", daemon=True)

    def start(self) -> None:
        """Begin to count."""
        self._thread.start()

    def stop(self) -> None:
        """Stop counting."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _count(self) -> None:
        for found in walk(self._root):
            if self._stop.is_set():
                return
            if found.status == FILE:
                self.files += 1
                self.size += found.stamp.size
        self.whole = True


class TreeProgress:
    """Shows files, rate and time left on a terminal.

    Parameters
    ----------
    root
        The tree that is worked on.
    summary
        Counts, kept by the run.
    console
        Where to show; None is stderr.
    """

    def __init__(self, root: Path, summary: Summary, *, console: Console | None = None) -> None:
        self._summary = summary
        self._console = console or plain.stderr_console()
        self._counter = Counter(root)
        self._passed = self._before = 0
        self._start = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=_WIDTH),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("looking", total=None, rate="", left="")

    def __enter__(self) -> TreeProgress:
        if self._console.is_terminal:
            self._counter.start()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()
            self._counter.stop()

    def passed(self, size: int, *, worked: bool = True) -> None:
        """Note that nothing is left to do with a file of so many bytes.

        Parameters
        ----------
        worked
            Whether that took work: what an earlier run did says nothing of how long the rest takes.
        """
        self._passed += size
        self._before += 0 if worked else size

    def show(self) -> None:
        """Bring the line up to date."""
        if not self._console.is_terminal:
            return
        summary, counter = self._summary, self._counter
        over = summary.done + summary.already + summary.failed + summary.skipped
        elapsed = time.monotonic() - self._start
        rate = f"{summary.done / elapsed:.0f} files/s, {summary.bytes_read / 1e6 / elapsed:.0f} MB/s"
        text = f"{over} files" if not counter.whole else f"{over} of {counter.files} files"
        failed = f", {summary.failed} failed" if summary.failed else ""
        # Time goes with bytes more than with files, where files differ in size.
        total = counter.size if counter.whole else None
        left = time_left(self._passed - self._before, None if total is None else total - self._before, elapsed)
        self._bar.update(
            self._task, description=text + failed, total=total, completed=self._passed, rate=rate, left=left
        )


def time_left(done: int, total: int | None, elapsed: float) -> str:
    """How long the rest takes at the rate so far, in words; nothing while it cannot be known."""
    if total is None or done <= 0 or elapsed < 1:
        return ""
    seconds = round(max(0, total - done) * elapsed / done)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes:02} min left" if hours else f"{minutes}:{seconds % 60:02} left"
