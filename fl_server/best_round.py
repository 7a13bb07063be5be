"""Which round's model a run ends with: the last one's, or that of the round which validation images liked best."""

from __future__ import annotations

from typing import Any

from fl_server.config import ServerConfig, improves


class BestRound:
    """Remembers the round after which the monitored validation measure was best.

    The model before round 1 is none of them: nothing of it was trained here.

    Parameters
    ----------
    config
        The server's: `keep` and `monitor`.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.wanted = config.keep == "best"
        self._monitor = config.monitor
        self.value: float | None = None
        self.round: int | None = None

    def see(self, round_: int, value: float | None) -> None:
        """Take in the measure of the model after `round_`; of equal ones the earlier stays."""
        if not self.wanted or round_ < 1 or value is None:
            return
        if self.value is None or improves(self._monitor, value, self.value):
            self.value, self.round = value, round_

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"value": self.value, "round": self.round}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.value, self.round = state["value"], state["round"]

    def described(self, last: int) -> dict[str, Any]:
        """What summary.json says of the model that is left: its round, and by which measure it was chosen if it was."""
        if self.round is None:
            return {"round": last, "by": None, "value": None}
        return {"round": self.round, "by": self._monitor, "value": self.value}
