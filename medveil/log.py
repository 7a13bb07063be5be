"""Logging for commands and libraries: one place that decides where lines go."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from medveil.files import storage_error

LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def logger(name: str) -> logging.Logger:
    """A logger below the `medveil` root, for example ``medveil.site``."""
    return logging.getLogger(f"medveil.{name}")


def set_up_logging(level: str = "warning", file: str | Path | None = None) -> None:
    """Send MedVeil's log to stderr and, if named, to a file (appended).

    Parameters
    ----------
    level
        One of `LEVELS`.
    file
        A log file; its folder must exist.

    Raises
    ------
    StorageError
        The log file cannot be opened.
    """
    root = logging.getLogger("medveil")
    root.handlers.clear()
    root.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        try:
            handlers.append(logging.FileHandler(file, encoding="utf-8"))
        except OSError as error:
            raise storage_error(error, file, "open the log file") from error
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.addHandler(handler)
    root.setLevel(level.upper())
