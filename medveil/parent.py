"""Ending with whoever started us: a node or a worker without its supervisor would go on unwatched."""

from __future__ import annotations

import os
import signal
import threading
import time

STARTED_BY = "MEDVEIL_STARTED_BY"
"""Variable with the id of the process that started this one, which may be gone before this one has looked."""
_LOOK_S = 0.5
_GRACE_S = 20.0


def end_with_parent(*, grace: float = _GRACE_S) -> None:
    """Send this process SIGTERM once the process that started it is gone, however it went.

    Parameters
    ----------
    grace
        Seconds after which SIGKILL follows, should this process still be there.
    """
    named = os.environ.get(STARTED_BY, "")
    parent = int(named) if named.isdecimal() else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.kill(os.getpid(), number)
            time.sleep(grace)

    threading.Thread(target=watch, name="parent", daemon=True).start()
