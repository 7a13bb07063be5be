"""What a person sees while a run goes on: read from the run's own files, whatever engine runs it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from fl_server.manifest import read_manifest
from medveil import plain
from medveil.errors import MedVeilError
from models.described import in_words
from simulations.heard import INTERVAL_S, Following, Tail, lines_of

_WIDE = 100
_BAR = 12
_LEFT = len("left 10:00:00")


class RunProgress(Following):
    """Follows ``RUN/metrics.jsonl`` and shows site, round, loss, accuracy and time left.

    On a terminal it is one live line; elsewhere every finished round prints one plain line. What the model really is
    comes first, from the manifest.

    Parameters
    ----------
    run
        The run folder; it may not exist yet.
    rounds, sites
        How many there will be.
    pixels
        Whether the run learns pixels, and no classes.
    console
        Where to print; None is stderr.
    """

    def __init__(
        self, run: Path, *, rounds: int, sites: int, pixels: bool = False, console: Console | None = None
    ) -> None:
        super().__init__("progress")
        self._pixels = pixels
        self._path, self._manifest = run / "metrics.jsonl", run / "manifest.json"
        self._rounds, self._sites = rounds, sites
        self._console = console or plain.stderr_console()
        self._tail = Tail(self._path)
        self._shown: set[bytes] = set()
        self._trained: set[tuple[int, str]] = set()
        self._model_told = False
        # What stands there was trained before: a resumed run is not as fast as reading it.
        self._before = lines_of(self._path)
        self._pace = Pace()
        self._bar = live_bar(self._console, most=rounds * sites)
        self._task = self._bar.add_task("sites prepare their stores", total=rounds * sites, left="")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if self._console.is_terminal:
            self._bar.stop()

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
        anew, lines = self._tail.read()
        if anew:
            # A resumed run puts a file in its place that holds what its checkpoint had seen.
            self._trained.clear()
        for line in lines:
            measured = json.loads(line)
            self._count(measured)
            if line not in self._shown:
                self._shown.add(line)
                self._show(measured, new=line not in self._before)

    def _count(self, line: dict[str, Any]) -> None:
        """What the interrupted run had trained beyond its checkpoint is trained again, and counts once."""
        if _trained(line):
            self._trained.add((line["round"], line["site"]))
            self._bar.update(self._task, completed=len(self._trained))

    def _show(self, line: dict[str, Any], *, new: bool) -> None:
        text = (
            f"round {line['round']}/{self._rounds}  {line['site']:<8} {line['phase']:<10} loss {_number(line['loss'])}"
        )
        # What learns pixels has no accuracy.
        text += "" if self._pixels and line["accuracy"] is None else f"  acc {_number(line['accuracy'])}"
        if _trained(line):
            self._bar.update(self._task, description=text)
            self._pace.step(new=new)
            left = self._bar.tasks[0].remaining
            self._bar.update(self._task, left=self._pace.left(int(left or 0)))
        elif line["site"] == "all":
            auroc = f"  auroc {_number(line['auroc'])}" if line["auroc"] is not None else ""
            plain.say(self._console, f"{text}{auroc}")


class RunsProgress:
    """One live line over several runs: which round each is in, how many are done, how long the rest takes.

    Off a terminal it shows nothing: who runs them says when each begins and how it ended.

    Parameters
    ----------
    runs
        How many there are.
    rounds
        Of each.
    console
        Where to show.
    """

    def __init__(self, runs: int, *, rounds: int, console: Console) -> None:
        self.console = console
        self._runs, self._rounds = runs, rounds
        self._at_work: dict[str, Path] = {}
        self._lock, self._done = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._pace = Pace()
        self._bar = live_bar(console, most=runs)
        self._task = self._bar.add_task("begins", total=runs, left="")

    def __enter__(self) -> RunsProgress:
        if self.console.is_terminal:
            self._bar.start()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        if self.console.is_terminal:
            self._thread.join()
            self._bar.stop()

    @contextlib.contextmanager
    def running(self, name: str, folder: Path) -> Iterator[None]:
        """A run is at work in a folder, until the block ends."""
        with self._lock:
            self._at_work[name] = folder
        try:
            yield
        finally:
            with self._lock:
                del self._at_work[name]
            self._step(new=True)

    def kept(self) -> None:
        """A run was done before."""
        self._step(new=False)

    def _step(self, *, new: bool) -> None:
        self._pace.step(new=new)
        self._bar.advance(self._task)

    def _follow(self) -> None:
        while not self._done.wait(INTERVAL_S):
            with self._lock:
                at_work = dict(self._at_work)
            rounds = {name: _round_of(folder) for name, folder in at_work.items()}
            left = self._pace.left(int(self._bar.tasks[0].remaining or 0))
            # A baseline has no rounds, and of other runs nothing is made before the first.
            told = (f"{name} round {made}/{self._rounds}" if made else name for name, made in rounds.items())
            said = ", ".join(told)
            self._bar.update(self._task, description=said or "begins", left=left)


def _round_of(run: Path) -> int:
    """The newest round of which a run has written anything."""
    newest = 0
    for line in lines_of(run / "metrics.jsonl"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            newest = max(newest, int(json.loads(line)["round"]))
    return newest


class Pace:
    """How long what is left will take, by the steps that were seen to be made.

    The first step is made from the start of looking on; steps made before that count as done and not as fast.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._steps = 0

    def step(self, *, new: bool = True) -> None:
        """A step was made, now or before."""
        self._last = self._clock()
        if new:
            self._steps += 1
        else:
            self._began = self._last

    def left(self, steps: int) -> str:
        """Time left for so many steps, in words; empty before one was seen, and once the last should be over."""
        if not self._steps or not steps:
            return ""
        each, since = (self._last - self._began) / self._steps, self._clock() - self._last
        # A step that takes longer than the others did may end at any moment; those after it have not begun.
        seconds = round(max(each - since, 0) + each * (steps - 1))
        if seconds <= 0:
            return ""
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"left {hours}:{minutes:02d}:{seconds:02d}" if hours else f"left {minutes}:{seconds:02d}"


class _Whole(TextColumn):
    """What a live line says, without the parts it has no room for."""

    def __init__(self, room: int) -> None:
        self._room = room
        super().__init__("", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=room))

    def render(self, task: Task) -> Text:
        """Whole parts alone."""
        return Text(fitted(task.description, self._room))


def fitted(text: str, room: int) -> str:
    """A text cut between its parts (blanks, else commas) or else words; whole where even a word is too long."""
    for between in ("  ", ", ", " "):
        cut = text
        while len(cut) > room and between in cut:
            cut = cut.rpartition(between)[0].rstrip()
        if len(cut) <= room:
            return cut
    return text


def live_bar(console: Console, *, most: int, left: int = _LEFT) -> Progress:
    """A live line of one terminal line, whatever its width; nothing of it stays when it stops, nor shows elsewhere.

    Parameters
    ----------
    most
        Steps there are at most.
    left
        Letters of the longest time left.
    """
    count, bar = 2 * len(str(most)) + 1, [BarColumn(bar_width=_BAR)] if console.width >= _WIDE else []
    # What is left of the line once spinner, count and time have theirs, and a blank between each.
    room = max(1, console.width - 1 - count - left - (_BAR + 1) * len(bar) - 3)
    said = _Whole(room)
    until = TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True))
    counted = MofNCompleteColumn(table_column=Column(no_wrap=True))
    columns = (SpinnerColumn(), said, *bar, counted, until)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _trained(line: dict[str, Any]) -> bool:
    """Whether a line says that a site trained."""
    return bool(line["phase"] == "train" and line["site"] != "all")


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"
