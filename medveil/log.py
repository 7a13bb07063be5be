"""Logging for commands and libraries: one place that decides where lines go."""

from __future__ import annotations

import logging
import sys
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

from medveil.files import storage_error

LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def logger(name: str) -> logging.Logger:
    """A logger below the `medveil` root, for example ``medveil.site``."""
    return logging.getLogger(f"medveil.{name}")


def set_up_logging(
    level: str = "warning", file: str | Path | None = None, *, stderr: bool = True, keep_days: int = 0
) -> None:
    """Send MedVeil's log to stderr and, if named, to a file (appended).

    Parameters
    ----------
    level
        One of `LEVELS`.
    file
        A log file; its folder must exist.
    stderr
        Whether stderr gets it too; a process of which nobody sees that needs it not.
    keep_days
        Begin a new file every midnight (UTC) and keep so many; 0: one file.

    Raises
    ------
    StorageError
        The log file cannot be opened.
    """
    root = logging.getLogger("medveil")
    root.handlers.clear()
    root.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)] if stderr else []
    if file is not None:
        try:
            handlers.append(_file_handler(file, keep_days))
        except OSError as error:
            raise storage_error(error, file, "open the log file") from error
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.addHandler(handler)
    root.setLevel(level.upper())


def _file_handler(file: str | Path, keep_days: int) -> logging.Handler:
    if not keep_days:
        return logging.FileHandler(file, encoding="utf-8")
    return TimedRotatingFileHandler(file, when="midnight", utc=True, backupCount=keep_days, encoding="utf-8")
