"""When a run has stopped getting better, as validation images see it."""

from __future__ import annotations

from typing import Any

from fl_server.config import ServerConfig, improves
from fl_server.same_sites import Measured, compared


class EarlyStopping:
    """Counts rounds without improvement of the monitored validation measure.

    A round without a value (no site could measure it) counts neither way, nor does one that no site measured which
    measured the best round: rounds are compared over the same sites.

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
        self._sites: dict[str, float] = {}

    @classmethod
    def of(cls, config: ServerConfig) -> EarlyStopping:
        """As the server's configuration says."""
        return cls(patience=config.patience, min_delta=config.min_delta, monitor=config.monitor)

    @property
    def stops(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self.waited

    def see(self, round_: int, measured: Measured | None) -> None:
        """Take in the measure of the model after `round_`."""
        value = None if measured is None else measured.value
        if measured is None or value is None:
            return
        than = self._pair(measured, value)
        if than is None:
            return
        if self.best is None or improves(self.monitor, *than, by=self.min_delta):
            self.best, self.best_round, self.waited = value, round_, 0
            self._sites = dict(measured.sites)
        else:
            self.waited += 1

    def go_on(self) -> None:
        """Begin to count anew, for a run that was told to go on."""
        self.waited = 0

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_round": self.best_round, "waited": self.waited, "sites": self._sites}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.best, self.best_round, self.waited = state["best"], state["best_round"], state["waited"]
        # A checkpoint of an older MedVeil does not know who measured its best round.
        self._sites = dict(state.get("sites", {}))

    def _pair(self, measured: Measured, value: float) -> tuple[float, float] | None:
        """The value of this round and the best one's; None where they cannot be compared."""
        if self.best is None or not self._sites:
            return value, value if self.best is None else self.best
        return compared(measured, self._sites)
