"""Where a run stands between two rounds: its model, what chooses and stops, what was spent; as checkpoints keep it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_server import checkpoints
from fl_server.best_round import BestRound
from fl_server.checkpoints import Checkpoint
from fl_server.config import ServerConfig
from fl_server.early_stopping import EarlyStopping
from fl_server.same_sites import Measured
from fl_server.spent import Spent
from medveil.errors import IntegrityError
from medveil.wire import Tensors


class Standing:
    """Where one run stands.

    Parameters
    ----------
    folder
        Of the run's checkpoints.
    run
        UUID of the run.
    config
        The server's: which round is kept, when a run stops, how many checkpoints stay.

    Attributes
    ----------
    tensors
        Those that travel, as they are now; none before the sites were asked.
    round
        The round whose model it is; 0 before the first.
    stopping, best, spent
        What stops a run early, which round was best, and what the run has spent.
    """

    def __init__(self, folder: Path, run: str, config: ServerConfig) -> None:
        self._folder, self._run, self._keep = folder, run, config.keep_checkpoints
        self.tensors: Tensors = {}
        self.round = 0
        self.stopping, self.best, self.spent = EarlyStopping.of(config), BestRound(config), Spent()

    def see(self, round_: int, measured: Measured) -> None:
        """Take in what the model after `round_` measured on validation images."""
        self.stopping.see(round_, measured)
        self.best.see(round_, measured)

    def newest(self, skipped: list[str]) -> Checkpoint | None:
        """The newest whole checkpoint, with the tensors of the model at hand; None where there is none.

        Parameters
        ----------
        skipped
            Told which newer ones are damaged.

        Raises
        ------
        IntegrityError
            It holds the tensors of another model.
        """
        found = checkpoints.load_newest(self._folder, run=self._run, skipped=skipped)
        if found is not None and _shapes(found.tensors) != _shapes(self.tensors):
            raise IntegrityError("the checkpoint holds other tensors than the model", where=self._folder)
        return found

    def go_on(self, found: Checkpoint) -> None:
        """Stand where a run stood that left this checkpoint."""
        self.tensors, self.round = found.tensors, found.round
        self.stopping.state = found.scalars["early_stopping"]
        # A checkpoint of an older MedVeil remembers no best round, and its run wanted none.
        self.best.state = found.scalars.get("best_round") or self.best.state
        self.spent.goes_on(found.scalars)

    def go_back(self, round_: int) -> Checkpoint:
        """Take the model of an earlier round (errors as `fl_server.checkpoints.load_round`), which is returned."""
        found = checkpoints.load_round(self._folder, round_, run=self._run)
        self.tensors, self.round = found.tensors, found.round
        return found

    def save(self, state: Tensors, others: Mapping[str, Any]) -> None:
        """Leave a checkpoint (StorageError): of this, of what the strategy remembers, and of others' plain values."""
        scalars = {
            "early_stopping": self.stopping.state,
            "best_round": self.best.state,
            **others,
            **self.spent.as_scalars(),
        }
        made = Checkpoint(self._run, self.round, self.tensors, state, scalars)
        checkpoints.save(self._folder, made, keep=self._keep, also=self.best.round)


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: each.shape for name, each in tensors.items()}
