"""What a person sees while a run goes on: read from the run's own files, whatever engine runs it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from fl_server.manifest import read_manifest
from medveil import plain
from medveil.errors import MedVeilError
from models.described import in_words

_INTERVAL_S = 0.25
_WIDE = 100


class RunProgress:
    """Follows ``RUN/metrics.jsonl`` in a thread and shows site, round, loss, accuracy and time left.

    On a terminal it is one live line; elsewhere every finished round prints one plain line. What the model really is
    comes first, from the manifest.

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
        self._path, self._manifest = run / "metrics.jsonl", run / "manifest.json"
        self._rounds, self._sites = rounds, sites
        self._console = console or plain.console(stderr=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._offset, self._inode = 0, 0
        self._shown: set[bytes] = set()
        self._model_told = False
        # What stands there was trained before: a resumed run is not as fast as reading it.
        self._before = _lines(self._path)
        self._pace = Pace()
        self._bar = live_bar(self._console, of_rounds=True)
        self._task = self._bar.add_task("sites prepare their stores", total=rounds * sites, left="")

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
        self._look()
        if self._console.is_terminal:
            self._bar.stop()

    def _follow(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        if not self._model_told:
            self._tell_model()
        self._read()

    def _tell_model(self) -> None:
        try:
            found = read_manifest(self._manifest).get("model") if self._manifest.is_file() else None
        except MedVeilError:
            # Whoever needs the manifest says what is wrong with it.
            return
        if found:
            self._model_told = True
            plain.say(self._console, f"model: {in_words(found)}")

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
                self._show(json.loads(line), new=line not in self._before)

    def _show(self, line: dict[str, Any], *, new: bool) -> None:
        loss, accuracy = _number(line["loss"]), _number(line["accuracy"])
        text = (
            f"round {line['round']}/{self._rounds}  {line['site']:<8} {line['phase']:<10} loss {loss}  acc {accuracy}"
        )
        if line["phase"] == "train" and line["site"] != "all":
            self._bar.update(self._task, advance=1, description=text)
            self._pace.step(new=new)
            left = self._bar.tasks[0].remaining
            self._bar.update(self._task, left=self._pace.left(int(left or 0)))
        elif line["site"] == "all":
            auroc = f"  auroc {_number(line['auroc'])}" if line["auroc"] is not None else ""
            plain.say(self._console, f"{text}{auroc}")


class Pace:
    """How long what is left will take, by the steps that were seen to be made.

    The first step is made from the start of looking on; steps made before that count as done and not as fast.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._steps = 0

    def step(self, *, new: bool = True) -> None:
        """A step was made, now or before."""
        if new:
            self._steps += 1
        else:
            self._began = self._clock()

    def left(self, steps: int) -> str:
        """Time left for so many steps, in words; empty before one was seen."""
        if not self._steps or not steps:
            return ""
        seconds = round((self._clock() - self._began) / self._steps * steps)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"left {hours}:{minutes:02d}:{seconds:02d}" if hours else f"left {minutes}:{seconds:02d}"


def live_bar(console: Console, *, of_rounds: bool = False) -> Progress:
    """A live line that takes what room there is and never breaks a word; nothing of it stays when it stops."""
    # Written over the line below it, a bar that wraps leaves its first half behind.
    said = TextColumn("{task.description}", table_column=_one_line(ratio=1))
    counted = MofNCompleteColumn(table_column=_one_line())
    left = TextColumn("{task.fields[left]}", table_column=_one_line())
    bar = [BarColumn(bar_width=12)] if of_rounds and console.width >= _WIDE else []
    return Progress(SpinnerColumn(), said, *bar, counted, left, console=console, transient=True, expand=False)


def _one_line(*, ratio: int | None = None) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", ratio=ratio)


def _lines(path: Path) -> set[bytes]:
    try:
        return set(path.read_bytes().splitlines())
    except OSError:
        return set()


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"
