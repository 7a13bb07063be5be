"""What a run writes of its measures while it goes on, for whoever listens: read from its own file, whatever runs it."""

from __future__ import annotations

import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

INTERVAL_S = 0.25
"""Between two looks at a run."""

Heard = Callable[[dict[str, Any]], None]
"""Is called with each line of ``metrics.jsonl``, in a thread of its own, as the run writes it."""


class Tail:
    """Whole lines of a file that grows, each once; a resumed run puts another file in its place.

    Parameters
    ----------
    path
        The file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._inode = 0, 0

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether the file is another than before, and the lines that came since."""
        try:
            with self._path.open("rb") as stream:
                inode = os.fstat(stream.fileno()).st_ino
                anew = inode != self._inode
                if anew:
                    self._offset, self._inode = 0, inode
                stream.seek(self._offset)
                text = stream.read()
        except OSError:
            return False, []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return anew, whole.splitlines()


def lines_of(path: Path) -> set[bytes]:
    """The lines of a file that may not exist."""
    try:
        return set(path.read_bytes().splitlines())
    except OSError:
        return set()


class Following(ABC):
    """Looks after a run in a thread of its own, and once more when it is over."""

    def __init__(self, name: str) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _follow(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self._look()

    @abstractmethod
    def _look(self) -> None:
        """See what came since."""


class RunHeard(Following):
    """Follows ``RUN/metrics.jsonl`` and hands on every line that is new; prints nothing.

    An error of whoever listens ends the listening and not the run; `check` raises it.

    Parameters
    ----------
    run
        The run folder; it may not exist yet.
    heard
        Who listens.
    """

    def __init__(self, run: Path, heard: Heard) -> None:
        super().__init__("heard")
        path = run / "metrics.jsonl"
        self._tail, self._told, self._heard = Tail(path), lines_of(path), heard
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise the error of whoever listened, if there was one."""
        if self._error is not None:
            raise self._error

    def _look(self) -> None:
        _, lines = self._tail.read()
        for line in lines:
            if self._error is None and line not in self._told:
                self._told.add(line)
                self._hand_on(json.loads(line))

    def _hand_on(self, line: dict[str, Any]) -> None:
        try:
            self._heard(line)
        except Exception as error:  # of whoever listens, and of any type
            self._error = error
