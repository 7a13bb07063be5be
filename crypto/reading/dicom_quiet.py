"""What pydicom says and raises over a bad file, kept off terminals and logs: it quotes values of attributes."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from pydicom import config
from pydicom.datadict import keyword_for_tag

from medveil.errors import DataError, MedVeilError
from medveil.files import storage_error

_TAG = re.compile(r"\([0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\)")


class _Level:
    """The level of pydicom's logger: raised by the first of several blocks, and given back by the last.

    Of a level, and not switched off: the loggers of its decoders, which print tracebacks, ask theirs for it. Each
    change makes every logger of the process forget its own, which takes as long as reading a small header.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = config.logger.level
                config.logger.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                config.logger.setLevel(self._before)


_level = _Level()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings off the terminal and out of logs: they quote values of attributes.

    Whoever reads many files does so within one of these: each reader has its own, which costs little inside another.
    """
    with _level, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def as_data_error(path: Path, part: str) -> Iterator[None]:
    """Turn whatever pydicom raises for a bad file into one `DataError` that quotes no value of an attribute."""
    try:
        yield
    except DataError as error:
        if error.where is not None:
            raise
        raise DataError(error.problem, where=path, cure=error.cure) from error
    except MedVeilError:
        raise
    except OSError as error:
        if error.errno is None:
            raise DataError(f"{part} cannot be read: it is cut short or damaged", where=path) from error
        raise storage_error(error, path, "read the file") from error
    # A corrupt file makes pydicom raise nearly anything; to a hospital it is one unreadable file.
    except Exception as error:
        found = _TAG.search(str(error))
        spot = f" at {_named(found.group())}" if found else ""
        problem = f"{part} cannot be read{spot}: it is damaged, or not as DICOM asks"
        raise DataError(
            problem, where=path, cure="restore it from a copy, or write it anew with another tool"
        ) from error


def _named(tag: str) -> str:
    """A tag as pydicom prints it, with its keyword where it has one."""
    number = int(tag.strip("()").replace(",", "").replace(" ", ""), 16)
    keyword = keyword_for_tag(number)
    return f"{keyword} ({number >> 16:04X},{number & 0xFFFF:04X})".lstrip()
