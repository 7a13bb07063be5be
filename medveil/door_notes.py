"""What a door refused: counted, and said a bounded number of times, however often somebody knocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medveil.audit import AuditLog
from medveil.errors import MedVeilError
from medveil.files import check_format, read_json, write_json

FORMAT = "medveil-door"
VERSION = 1
NOBODY = "someone without a login"
REFUSED = "door-refused"
"""The event in the audit log."""
_MOST = 256
_REST = "many others"
_QUIET_S, _QUIET_MOST_S = 5.0, 3600.0


class DoorNotes:
    """Counts who was refused and why; says the first at once, and what has gathered later: after 5 s, 10 s, 20 s, ...

    Parameters
    ----------
    path
        Where it is kept for `refusals`.
    log
        An audit log that hears the same.
    say
        Hears a sentence.
    """

    def __init__(self, path: Path, log: AuditLog, say: Callable[[str], None]) -> None:
        self._path, self._log, self._say = path, log, say
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], _Count] = {}
        self._later = False

    def __call__(self, name: str, why: str) -> None:
        """Note one refusal.

        Parameters
        ----------
        name
            Whose request it was; nothing where nobody knows.
        why
            What it did, as the end of a sentence that begins with the name; one of few, in our words.
        """
        with self._lock:
            key = (name or NOBODY, why)
            if key not in self._counts and len(self._counts) >= _MOST:
                key = (_REST, "were refused too")
            count = self._counts.setdefault(key, _Count())
            count.add()
            if count.due():
                self._tell(*key, count)
            elif not self._later:
                self._later = True
                timer = threading.Timer(_QUIET_S, self._look)
                timer.daemon = True
                timer.start()

    def _look(self) -> None:
        with self._lock:
            self._later = False
            waiting = [(key, count) for key, count in self._counts.items() if count.number > count.said]
            for key, count in waiting:
                if count.due():
                    self._tell(*key, count)

    def flush(self) -> None:
        """Say what has gathered, whenever the last was said."""
        with self._lock:
            for key, count in self._counts.items():
                if count.number > count.said:
                    self._tell(*key, count)

    def _tell(self, name: str, why: str, count: _Count) -> None:
        fresh = count.tell()
        times = "" if count.number == 1 else f" ({fresh} times, {count.number} in all)"
        self._say(f"refused: {name} {why}{times}")
        rows = [{"site": each, "why": reason, **one.plain()} for (each, reason), one in self._counts.items()]
        try:
            self._log.append(REFUSED, site=name, why=why, count=fresh)
            write_json(self._path, {"format": FORMAT, "version": VERSION, "refused": rows}, mode=0o600)
        except MedVeilError as error:
            # A full disk must not open the door, nor shut it to everyone.
            self._say(f"could not write down what was refused: {error}")


class _Count:
    def __init__(self) -> None:
        self.number = self.said = 0
        self.at = ""
        self._next, self._wait = 0.0, _QUIET_S

    def add(self) -> None:
        self.number += 1
        self.at = datetime.now(UTC).isoformat(timespec="seconds")

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def tell(self) -> int:
        fresh, self.said = self.number - self.said, self.number
        self._next, self._wait = time.monotonic() + self._wait, min(2 * self._wait, _QUIET_MOST_S)
        return fresh

    def plain(self) -> dict[str, Any]:
        return {"count": self.number, "at": self.at}


def refusals(path: Path) -> list[dict[str, Any]]:
    """What a door refused since its server was started: site, why, count and when last; the newest first."""
    if not path.exists():
        return []
    document = read_json(path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    return sorted(document["refused"], key=lambda row: str(row["at"]), reverse=True)
