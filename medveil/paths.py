"""Where a run goes when nobody named a folder, and whether a file that somebody named could be written."""

from __future__ import annotations

import os
from pathlib import Path

from medveil.errors import StorageError

_FLOWER = "flwr-"


def state_home() -> Path:
    """The folder for what MedVeil keeps: ``$MEDVEIL_HOME``, else ``~/.local/state/medveil``."""
    named = os.environ.get("MEDVEIL_HOME")
    return Path(named) if named else Path.home() / ".local" / "state" / "medveil"


def run_folder(out: str, *, name: str, run: str) -> Path:
    """The folder of a run: `out` if given, else ``STATE_HOME/runs/NAME-`` and the first digits of its identity.

    Server and simulated sites call it with the same arguments, so that both find the same folder.
    """
    return Path(out) if out else state_home() / "runs" / f"{name}-{run.removeprefix(_FLOWER)[:8]}"


def weights_file(named: str) -> str:
    """The file in ``STATE_HOME/weights`` that a run names; what is no bare name of a file there comes back as it is.

    Parties have the same weights under the same name, each in its own folder.
    """
    own = state_home() / "weights" / named
    return str(own) if Path(named).name == named and own.is_file() else named


def check_writable(path: Path) -> None:
    """Refuse a name under which no file could be written, before the work is done that the file is to hold.

    Nothing is changed, and a file that is there may be replaced.

    Raises
    ------
    StorageError
        It is a folder, or its own folder is missing, none, or not to be written to.
    """
    folder = path.parent
    if path.is_dir():
        raise StorageError("is a folder", where=path, cure="name a file in it")
    if not folder.is_dir():
        problem = "is a file where a folder is needed" if folder.exists() else "no such folder"
        raise StorageError(problem, where=folder, cure="make it, or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError("cannot write into the folder", where=folder, cure="choose a folder you may write to")


def run_uuid(named: str, flower_run_id: int) -> str:
    """The identity of a run: the one its configuration names, else one made from Flower's run id."""
    return named or f"{_FLOWER}{flower_run_id & 0xFFFFFFFFFFFFFFFF:016x}"
