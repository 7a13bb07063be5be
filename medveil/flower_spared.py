"""What a SuperLink need not do at every request. Private interfaces of Flower.

Flower looks for processes that died with each object that comes or goes, in a transaction that writes: two fifths of
the time in its handler of an object that is handed out (one trial). And a server's app that waits asks several times a
second, each time for all that is known of the sites it waits for. Here the first is done once a second, and so is the
second, but at once where there is news.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

EACH_S = 1.0
"""Seconds between two looks without news."""
_LAST = "_medveil_cleaned"


def clean_up_seldom() -> None:
    """Have Flower look for processes that died `EACH_S` after it last did, at most; again and again is no more."""
    state = importlib.import_module("flwr.supercore.corestate.sql_corestate").SqlCoreState
    clean = state._cleanup_expired_task_tokens
    if hasattr(clean, _LAST):
        return

    def seldom(self: Any) -> None:
        now = time.monotonic()
        if now - getattr(self, _LAST, float("-inf")) >= EACH_S:
            setattr(self, _LAST, now)
            clean(self)

    setattr(seldom, _LAST, True)
    state._cleanup_expired_task_tokens = seldom


class Seldom:
    """Whether to look although there is no news: for each who asks and what for, `EACH_S` after the last time.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._looked: dict[Hashable, float] = {}

    def is_due(self, who: Hashable, *, news: bool) -> bool:
        """Whether to look now; if so, the next look without news is `EACH_S` away."""
        now = self._clock()
        with self._lock:
            due = news or now - self._looked.get(who, float("-inf")) >= EACH_S
            if due:
                self._looked = {each: at for each, at in self._looked.items() if now - at < EACH_S} | {who: now}
            return due
