"""What a SuperLink keeps of single updates: nothing once the server's app has them. Private interfaces of Flower.

Flower deletes the objects of a message when its receiver says that it has them, and what a run left when it is asked
about a run that is over. In SQLite's file deleted bytes stay until they are overwritten, and in its write-ahead log
until that is. So pages are zeroed as they are freed, the log is emptied soon after each answer was taken, and a run
that is over is cleaned up at once.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medveil.errors import MedVeilError, StorageError

LOOK_S = 2.0
"""Seconds until what was deleted is gone from the write-ahead log too."""
LOCKED_MS = 120_000
"""Milliseconds a connection of Flower's waits for another to be done with the database."""
_RUNS_S = 15.0
_BUSY_S = 5.0


def zero_what_is_deleted() -> None:
    """Make every connection of Flower's to its database overwrite what it deletes, and wait while another does.

    Overwriting a model of some hundred MB takes a disk longer than the 5 s after which Flower's connections would give
    up, and end a run.
    """
    mixin = importlib.import_module("flwr.supercore.sql_mixin")
    for pragma in (("secure_delete", "ON"), ("busy_timeout", str(LOCKED_MS))):
        if pragma not in mixin.SQLITE_PRAGMAS:
            mixin.SQLITE_PRAGMAS = (*mixin.SQLITE_PRAGMAS, pragma)  # type: ignore[attr-defined]


def compact(database: Path) -> None:
    """Write a database anew without what was ever deleted from it, while nobody uses it.

    Raises
    ------
    StorageError
        It cannot be: somebody uses it, or the disk refuses.
    """
    if not database.exists():
        return
    try:
        with sqlite3.connect(database, timeout=_BUSY_S, isolation_level=None) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    except sqlite3.Error as error:
        raise StorageError(f"cannot be written anew: {error}", where=database, cure="free some space") from error


class Wiper:
    """Empties the write-ahead log after messages were deleted, and cleans up after runs that are over.

    Parameters
    ----------
    database
        Flower's database.
    state
        Returns Flower's LinkState.
    say
        Hears a sentence where it does not succeed.
    """

    def __init__(self, database: Path, state: Callable[[], Any], say: Callable[[str], None]) -> None:
        self._database, self._state, self._say = database, state, say
        self._wake, self._ended = threading.Event(), threading.Event()
        self._cleaned: set[int] = set()
        self._failed = ""
        self._thread = threading.Thread(target=self._run, name="wiper", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wipe once more; a second call does nothing."""
        self._ended.set()
        self._wake.set()
        self._thread.join(timeout=2 * _BUSY_S)

    def deleted(self) -> None:
        """A message was deleted."""
        self._wake.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            asked = self._wake.wait(timeout=_RUNS_S)
            self._wake.clear()
            if asked:
                # Answers come together: one emptying for all.
                self._ended.wait(LOOK_S)
            self._wipe()
        self._wipe()

    def _wipe(self) -> None:
        try:
            self.clean_up()
            self.empty_log()
        except (MedVeilError, sqlite3.Error) as error:
            # It is tried again with the next look, and said again when something else is wrong.
            if str(error) != self._failed:
                self._say(f"could not wipe what was deleted: {error}")
            self._failed = str(error)
        else:
            self._failed = ""

    def clean_up(self) -> None:
        """Delete all messages of runs that are over, answered or not."""
        from flwr.common.constant import Status  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        state = self._state()
        try:
            over = {run.run_id for run in state.get_run_info(statuses=[Status.FINISHED])}
            for run in over - self._cleaned:
                state.cleanup_run(run)
        except SQLAlchemyError as error:
            raise StorageError(f"a run cannot be cleaned up: {error}", where=self._database) from error
        self._cleaned = over

    def empty_log(self) -> None:
        """Move what is in the write-ahead log into the database, and cut the log to nothing."""
        connection = sqlite3.connect(self._database, timeout=_BUSY_S)
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.close()
        if busy:
            self._wake.set()
