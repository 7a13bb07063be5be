"""When a run has stopped getting better, as validation images see it."""

from __future__ import annotations

from typing import Any

from fl_server.config import ServerConfig, improves


class EarlyStopping:
    """Counts rounds without improvement of the monitored validation measure.

    A round without a value (no site could measure it) counts neither way.

    Parameters
    ----------
    patience
        Rounds without improvement after which to stop; 0 never stops.
    min_delta
        Smallest improvement that counts.
    monitor
        ``"loss"`` (lower is better), ``"auroc"`` or ``"accuracy"`` (higher is better).
    """

    def __init__(self, *, patience: int = 0, min_delta: float = 0.0, monitor: str = "loss") -> None:
        self.patience, self.min_delta, self.monitor = patience, min_delta, monitor
        self.best: float | None = None
        self.best_round: int | None = None
        self.waited = 0

    @classmethod
    def of(cls, config: ServerConfig) -> EarlyStopping:
        """As the server's configuration says."""
        return cls(patience=config.patience, min_delta=config.min_delta, monitor=config.monitor)

    @property
    def stops(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self.waited

    def see(self, round_: int, value: float | None) -> None:
        """Take in the measure of the model after `round_`."""
        if value is None:
            return
        if self._improves(value):
            self.best, self.best_round, self.waited = value, round_, 0
        else:
            self.waited += 1

    def go_on(self) -> None:
        """Begin to count anew, for a run that was told to go on."""
        self.waited = 0

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_round": self.best_round, "waited": self.waited}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.best, self.best_round, self.waited = state["best"], state["best_round"], state["waited"]

    def _improves(self, value: float) -> bool:
        return self.best is None or improves(self.monitor, value, self.best, by=self.min_delta)
