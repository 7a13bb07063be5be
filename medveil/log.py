"""Logging for commands and libraries: one place that decides where lines go, and that a record is one line.

What a record says may come from others. `PlainFormatter` shows what is not printable, line feeds too, and sets the
lines of a traceback behind a mark: no text can make a line that looks like a record. The same holds for what libraries
say where they say it themselves: Flower's log, Python's warnings, errors that nobody caught.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import TextIO

from medveil.files import storage_error
from medveil.plain import shown, tell_block

LEVELS = ("debug", "info", "warning", "error")
MARK = "    | "
"""What stands before a line that belongs to the record above it."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OTHERS = ("flwr", "py.warnings")


def logger(name: str) -> logging.Logger:
    """A logger below the `medveil` root, for example ``medveil.site``."""
    return logging.getLogger(f"medveil.{name}")


def unheard() -> None:
    """Let MedVeil's log go nowhere in a program that asked for none; whoever sets up logging hears all of it.

    Without a handler Python prints warnings on stderr.
    """
    root = logging.getLogger("medveil")
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def is_heard() -> bool:
    """Whether this process has set up MedVeil's log."""
    return any(not isinstance(each, logging.NullHandler) for each in logging.getLogger("medveil").handlers)


class PlainFormatter(logging.Formatter):
    """Makes one line of a record, and marked lines of its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines; what another formatter left in the record is not looked at."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [shown(self.formatMessage(record))]
        if record.exc_info:
            lines.append(marked(self.formatException(record.exc_info)))
        if record.stack_info:
            lines.append(marked(self.formatStack(record.stack_info)))
        return "\n".join(lines)


def marked(text: str) -> str:
    """Lines that follow a record, each behind the mark."""
    return "\n".join(MARK + shown(line) for line in text.split("\n"))


def set_up_logging(
    level: str = "warning", file: str | Path | None = None, *, stderr: bool = True, keep_days: int = 0
) -> None:
    """Send MedVeil's log to stderr and, if named, to a file (appended); keep what others say there plain.

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
    handlers: list[logging.Handler] = [_Stderr()] if stderr else []
    if file is not None:
        try:
            handlers.append(_file_handler(file, keep_days))
        except OSError as error:
            raise storage_error(error, file, "open the log file") from error
    for handler in handlers:
        handler.setFormatter(PlainFormatter(_FORMAT))
        root.addHandler(handler)
    root.setLevel(level.upper())
    keep_others_plain()


@contextlib.contextmanager
def each_line_once() -> Iterator[None]:
    """Let MedVeil's log say the same sentence once: for what looks at many runs of the same images."""
    once = _Once()
    heard = list(logging.getLogger("medveil").handlers)
    for handler in heard:
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler in heard:
            handler.removeFilter(once)


class _Once(logging.Filter):
    """Passes a sentence to each handler the first time it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int, str], logging.LogRecord] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this is the record that said it first."""
        return self._said.setdefault((record.name, record.levelno, record.getMessage()), record) is record


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to stderr as it is when a line comes: beside a live line it is that line's, which makes room."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The stderr of this moment."""
        return sys.stderr


def keep_others_plain() -> None:
    """Show, and not obey, what libraries print of others' texts in this process."""
    for name in _OTHERS:
        logging.getLogger(name).addFilter(_plain_record)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter("%(message)s"))
    warnings.formatwarning = _plain_warning
    sys.excepthook = _say_uncaught
    threading.excepthook = _say_uncaught_in_thread


def _plain_record(record: logging.LogRecord) -> bool:
    """A record of a library whose handlers format it their own way, made harmless before they see it."""
    record.msg, record.args = shown(record.getMessage()), None
    if isinstance(record.exc_info, tuple):
        record.exc_text = marked(logging.Formatter().formatException(record.exc_info))
    return True


def _plain_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return shown(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


def _say_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    tell_block(marked("".join(traceback.format_exception(kind, error, trace)).rstrip("\n")), error=True)


def _say_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _say_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _file_handler(file: str | Path, keep_days: int) -> logging.Handler:
    if not keep_days:
        return logging.FileHandler(file, encoding="utf-8")
    return TimedRotatingFileHandler(file, when="midnight", utc=True, backupCount=keep_days, encoding="utf-8")
