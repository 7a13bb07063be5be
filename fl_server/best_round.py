"""Which round's model a run ends with: the last one's, or that of the round which validation images liked best."""

from __future__ import annotations

from typing import Any

from fl_server.config import ServerConfig, improves
from fl_server.same_sites import Measured, compared


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
        self._sites: dict[str, float] = {}

    def see(self, round_: int, measured: Measured | None) -> None:
        """Take in the measure of the model after `round_`; of equal ones the earlier stays.

        It is compared with that of the best round over the sites that measured both.
        """
        value = None if measured is None else measured.value
        if not self.wanted or round_ < 1 or measured is None or value is None:
            return
        if self.value is None or self._is_better(measured, value, self.value):
            self.value, self.round, self._sites = value, round_, dict(measured.sites)

    def _is_better(self, measured: Measured, value: float, best: float) -> bool:
        # A checkpoint of an older MedVeil does not know who measured its best round.
        pair = compared(measured, self._sites) if self._sites else (value, best)
        return pair is not None and improves(self._monitor, *pair)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"value": self.value, "round": self.round, "sites": self._sites}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.value, self.round, self._sites = state["value"], state["round"], dict(state.get("sites", {}))

    def described(self, last: int) -> dict[str, Any]:
        """What summary.json says of the model that is left: its round, and by which measure it was chosen if it was."""
        if self.round is None:
            return {"round": last, "by": None, "value": None}
        return {"round": self.round, "by": self._monitor, "value": self.value}
