"""Ending with whoever started us: a node or a worker without its supervisor would go on unwatched."""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_S = 0.5


def end_with_parent() -> None:
    """Send this process SIGTERM once the process that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
