"""Where everything of a consortium to try lies, and how large one may be; this imports nothing slow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medveil.errors import ConfigError, DataError

FEWEST_SITES = 3
"""Below, a server can read what no sum of two would hide."""
MOST_SITES = 100
"""Each is four processes on this machine."""
LOGS, SCRATCH = "logs", "tmp"


def was_typed(folder: Path) -> bool:
    """Whether a command was typed there: before the first there is nothing to look at."""
    return any((folder / LOGS).glob("*.log"))


def refuse_given(folders: Sequence[Path], sites: int) -> None:
    """Refuse folders of images that cannot be dealt to so many hospitals: one is for all, or each has its own.

    Raises
    ------
    ConfigError
        Their number is neither one nor that of the hospitals, or an image would be at two hospitals.
    DataError
        One is no folder, or empty.
    """
    if len(folders) > 1 and len(folders) != sites:
        cure = f"one for all, or {sites}: one for each"
        raise ConfigError(f"was given {len(folders)} times for {sites} hospitals", where="--data", cure=cure)
    for folder in folders:
        if not folder.is_dir():
            raise DataError("no such folder", where=folder, cure="--data takes a folder of images, one folder a class")
        if not any(folder.iterdir()):
            raise DataError("is empty", where=folder, cure="--data takes a folder of images, one folder a class")
    real = [folder.resolve() for folder in folders]
    for index, one in enumerate(real):
        shared = [other for other in real[:index] if one == other or one in other.parents or other in one.parents]
        if shared:
            raise ConfigError(
                f"holds images of {shared[0]}", where=folders[index], cure="one hospital's images in each"
            )
