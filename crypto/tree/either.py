"""One file, or a tree of them: which a path is, and what a run over it came to."""

from __future__ import annotations

import os
from pathlib import Path

from crypto.tree.run import Result
from medveil.errors import ConfigError, DataError, KeyMaterialError, StorageError


def is_folder(path: Path) -> bool:
    """Whether a path is a folder or a plain file.

    Raises
    ------
    StorageError, DataError
        There is nothing, or something else.
    """
    if path.is_dir():
        return True
    if path.is_file():
        return False
    if os.path.lexists(path):
        raise DataError("is neither a file nor a folder", where=path)
    raise StorageError("no such file or folder", where=path)


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes that is none (ConfigError)."""
    if jobs < 1:
        raise ConfigError(f"'{jobs}' processes", where="--jobs", cure="1 or more")


def refuse_other_key(source: Path, result: Result) -> None:
    """Say it where the key alone stood in the way of every file of a tree (KeyMaterialError)."""
    summary = result.summary
    if summary.failed and not summary.done + summary.already and set(summary.codes) == {KeyMaterialError.exit_code}:
        raise KeyMaterialError(f"none of {summary.failed} files was hidden under this key", where=source)
