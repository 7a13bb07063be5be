"""Draining a site before an upgrade: it finishes what it has in hand, takes nothing new, and then is stopped.

A person asks by a file; the worker sees it between two messages and says by another that nothing is in hand. In hand
is the message at work and, in a run with secure aggregation, what a sum still needs: a site that left after its offer
would cost the others the round.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fl_client.deployment.own_files import OwnFiles
from medveil.errors import FederationError
from medveil.files import make_folder, write_json
from medveil.kinds import EVALUATE, QUERY, TRAIN, UNMASK

BEGINNING = (QUERY, TRAIN, EVALUATE)
"""Messages that work begins with; the steps that finish a sum are none."""
_FORMAT, _VERSION = "medveil-drain", 1
_POLL_S = 0.2


class InHand:
    """Runs with secure aggregation whose sum this site still has a part in."""

    def __init__(self) -> None:
        self._runs: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._runs)

    def answered(self, kind: str, run: str, *, summed: bool) -> None:
        """A message was answered: what it begins, or ends."""
        if summed and kind in (TRAIN, EVALUATE):
            self._runs.add(run)
        elif kind == UNMASK:
            self._runs.discard(run)


def refuse_draining(files: OwnFiles) -> None:
    """Refuse to begin work while the site is drained (FederationError, with a text that a server may read)."""
    if is_asked(files):
        raise FederationError("this site finishes what it has in hand and stops, before an upgrade", where="drain")


def is_asked(files: OwnFiles) -> bool:
    """Whether the site is to be drained."""
    return files.drain.exists()


def say_empty(files: OwnFiles) -> None:
    """Say that nothing is in hand (StorageError where the disk refuses)."""
    if not files.drained.exists():
        write_json(files.drained, {"format": _FORMAT, "version": _VERSION}, mode=0o600)


def drain(files: OwnFiles, stop: Callable[[OwnFiles], bool], *, seconds: float) -> bool:
    """Have a running site finish what it has in hand, and stop it.

    Parameters
    ----------
    files
        The site.
    stop
        Ends it.
    seconds
        After so many it is stopped all the same.

    Returns
    -------
    bool
        Whether nothing was in hand when it was stopped.
    """
    make_folder(files.state, mode=0o700)
    files.drained.unlink(missing_ok=True)
    write_json(files.drain, {"format": _FORMAT, "version": _VERSION}, mode=0o600)
    try:
        end = time.monotonic() + seconds
        while not files.drained.exists() and time.monotonic() < end:
            time.sleep(_POLL_S)
        return files.drained.exists()
    finally:
        stop(files)
        forget(files)


def forget(files: OwnFiles) -> None:
    """Take back what a drain left: a site that is started begins work again."""
    files.drain.unlink(missing_ok=True)
    files.drained.unlink(missing_ok=True)
