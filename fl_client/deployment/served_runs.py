"""What a site keeps of each run it serves: the settings it began with, and how often it was answered."""

from __future__ import annotations

from pathlib import Path

from fl_client.deployment.own_files import OwnFiles
from medveil.errors import ConfigError
from medveil.files import changing, locked, make_folder, write_json
from medveil.kinds import TRAIN
from medveil.shapes import read_document

FORMAT = "medveil-served-run"
BEGAN = "medveil-begun-run"
"""Format of what a run's settings were when this site opened it first."""
VERSION = 1
_COUNTS = "served.json"


class ServedRun:
    """One run's own folder at a site.

    Parameters
    ----------
    folder
        Of this run alone, below the site's state.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts = folder / _COUNTS

    @property
    def answered(self) -> dict[str, int]:
        """How often it was answered, by kind of message."""
        if not self._counts.exists():
            return {}
        document = read_document(self._counts, {"answered": {str: int}}, name=FORMAT, newest=VERSION)
        return dict(document["answered"])

    @property
    def ever(self) -> bool:
        """Whether anything was answered."""
        return any(self.answered.values())

    def count(self, kind: str) -> None:
        """Count one message more of a kind, before it is answered."""
        with changing(self._counts, lambda: self.answered) as done:
            counted = {**done, kind: done.get(kind, 0) + 1}
            write_json(self._counts, {"format": FORMAT, "version": VERSION, "answered": counted}, mode=0o600)

    def bind(self, digest: str) -> None:
        """Refuse other settings under the identity of a run that began: they would be runs that nobody counts.

        Parameters
        ----------
        digest
            Of the settings.

        Raises
        ------
        ConfigError
            The run began with other ones.
        """
        path = make_folder(self._folder, mode=0o700) / "began.json"
        with locked(path):
            if not path.exists():
                write_json(path, {"format": BEGAN, "version": VERSION, "settings": digest}, mode=0o600)
            if read_document(path, {"settings": str}, name=BEGAN, newest=VERSION)["settings"] != digest:
                cure = "a run of other settings has an identity of its own"
                raise ConfigError("the run of this identity began with other settings", where="run", cure=cure)


def trained_here(files: OwnFiles) -> int:
    """How many runs trained at a site, or began to (errors as `ServedRun.answered`)."""
    folders = [path.parent for path in (files.state / "runs").glob(f"*/{_COUNTS}")]
    return sum(bool(ServedRun(folder).answered.get(TRAIN)) for folder in folders)
