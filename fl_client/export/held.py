"""The models a site has kept: which, how large, since when, and removing one. Nothing here opens them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from medveil.errors import ConfigError
from medveil.files import storage_error

MODELS = "models"
"""Folder of them, in the site's own."""
SUFFIX = ".sealed"
_ANOTHER = "another site's plain export serves here too: 'medveil-site predict IMAGES --model DIR --out FILE'"


class Held(NamedTuple):
    """A kept model: of which run, when it was kept, and its size in bytes."""

    run: str
    kept: datetime
    size: int
    path: Path

    def plain(self) -> dict[str, Any]:
        """The same as plain data, without the path."""
        return {"run": self.run, "kept": self.kept.isoformat(timespec="seconds"), "bytes": self.size}


def held(folder: Path) -> list[Held]:
    """The models kept in a folder, oldest first (StorageError where it cannot be read)."""
    try:
        found = [(path, path.stat()) for path in folder.glob(f"*{SUFFIX}") if path.is_file()]
    except OSError as error:
        raise storage_error(error, folder, "read the folder") from error
    made = [
        Held(path.stem, datetime.fromtimestamp(stat.st_mtime, UTC), stat.st_size, path)
        for path, stat in sorted(found, key=lambda each: (each[1].st_mtime_ns, each[0].name))
        if not path.name.startswith(".")
    ]
    return made


def find_kept(folder: Path, named: str | None) -> Path:
    """The kept model of a run by the first characters of its identity; the newest without a name.

    Raises
    ------
    ConfigError
        There is none, or the name fits several.
    """
    if named is not None:
        return find_one(folder, named, option="--run").path
    every = held(folder)
    if not every:
        raise _none(folder, every)
    return every[-1].path


def find_one(folder: Path, named: str, *, option: str) -> Held:
    """The one kept model whose run begins so (ConfigError where none or several do)."""
    every = held(folder)
    found = [each for each in every if named and each.run.startswith(named)]
    if not found:
        raise _none(folder, every)
    if len(found) > 1:
        listed = ", ".join(each.run for each in found)
        raise ConfigError(f"'{named}' fits several", where=option, cure=f"one of {listed}")
    return found[0]


def remove(model: Held) -> None:
    """Remove a kept model for good (StorageError where the disk refuses)."""
    try:
        model.path.unlink()
    except OSError as error:
        raise storage_error(error, model.path, "remove the file") from error


def said(models: list[dict[str, Any]]) -> str:
    """One line about models given as `Held.plain`."""
    if not models:
        return "kept models: none"
    total = sum(each["bytes"] for each in models)
    runs = ", ".join(each["run"][:8] for each in models)
    return f"kept models: {len(models)}, {megabytes(total)}, of the runs {runs}"


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:.1f} MB"


def _none(folder: Path, every: list[Held]) -> ConfigError:
    problem = "no such model is kept here" if every else "no model is kept here"
    cure = f"the runs are {', '.join(each.run for each in every)}" if every else _ANOTHER
    return ConfigError(problem, where=folder, cure=cure if every else f"one is kept when a run ends here; {cure}")
