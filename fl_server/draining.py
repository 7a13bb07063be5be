"""Draining a server before an upgrade: a run finishes the round in flight and stops, and no other begins.

A person asks by a file beside the audit log. A run's process looks between two rounds, where its newest checkpoint is
whole: what it would have done next, `resume` does.
"""

from __future__ import annotations

from pathlib import Path

from medveil.errors import ConfigError, DrainedError
from medveil.files import make_folder, write_json

FILE = "drain.json"
FORMAT, VERSION = "medveil-server-drain", 1
_ON = "'medveil-server resume' after the upgrade goes on from there"


class Drain:
    """Whether a server is being drained.

    Parameters
    ----------
    file
        There while it is; None where nobody can ask, as in a simulation.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    @property
    def is_asked(self) -> bool:
        """Whether it is."""
        return self._file is not None and self._file.exists()

    def ask(self) -> None:
        """Have it drained from now on (StorageError)."""
        assert self._file is not None
        make_folder(self._file.parent, mode=0o700)
        write_json(self._file, {"format": FORMAT, "version": VERSION}, mode=0o600)

    def forget(self) -> None:
        """Take it back: a server that is started begins runs again."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def refuse_new(self) -> None:
        """Refuse to submit a run (ConfigError)."""
        if self.is_asked:
            cure = "wait for its end, upgrade, then 'medveil-server start'"
            raise ConfigError("the server finishes what it has in hand and stops", where="drain", cure=cure)

    def stop_before(self, round_: int, *, rounds: int) -> None:
        """Stop a run before a round (DrainedError), where the server is being drained."""
        if self.is_asked:
            done = f"round {round_ - 1} of {rounds} is done and kept" if round_ > 1 else "nothing was begun"
            raise DrainedError(f"the server is drained before an upgrade: {done}", cure=_ON)
