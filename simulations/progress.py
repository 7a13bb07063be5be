"""What a person sees while a run goes on: read from the run's own metrics, whatever engine runs it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from medveil import plain

_INTERVAL_S = 0.25


class RunProgress:
    """Follows ``RUN/metrics.jsonl`` in a thread and shows site, round, loss, accuracy and time left.

    On a terminal it is one live line; elsewhere every finished round prints one plain line.

    Parameters
    ----------
    run
        The run folder; it may not exist yet.
    rounds, sites
        How many there will be.
    console
        Where to print; None is stderr.
    """

    def __init__(self, run: Path, *, rounds: int, sites: int, console: Console | None = None) -> None:
        self._path = run / "metrics.jsonl"
        self._rounds, self._sites = rounds, sites
        self._console = console or plain.console(stderr=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._offset, self._inode = 0, 0
        self._shown: set[bytes] = set()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("sites prepare their stores", total=rounds * sites)

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._read()
        if self._console.is_terminal:
            self._bar.stop()

    def _follow(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            self._read()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as stream:
                inode = os.fstat(stream.fileno()).st_ino
                if inode != self._inode:
                    # A resumed run puts a file in its place that holds what its checkpoint had seen.
                    self._offset, self._inode = 0, inode
                stream.seek(self._offset)
                text = stream.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if line not in self._shown:
                self._shown.add(line)
                self._show(json.loads(line))

    def _show(self, line: dict[str, Any]) -> None:
        loss, accuracy = _number(line["loss"]), _number(line["accuracy"])
        text = (
            f"round {line['round']}/{self._rounds}  {line['site']:<8} {line['phase']:<10} loss {loss}  acc {accuracy}"
        )
        if line["phase"] == "train" and line["site"] != "all":
            self._bar.update(self._task, advance=1, description=text)
        elif line["site"] == "all":
            auroc = f"  auroc {_number(line['auroc'])}" if line["auroc"] is not None else ""
            plain.say(self._console, f"{text}{auroc}")


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"
