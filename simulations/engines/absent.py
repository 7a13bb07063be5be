"""Sites that are away in a round of a simulation, or answer too late: drawn from its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Error, Message, UserConfig
from flwr.clientapp import ClientApp

from fl_client.batches import generator
from medveil.contract import CONFIG, ROUND
from medveil.flower import ErrorCode
from simulations.config import ABSENT, AbsentConfig
from simulations.engines.grid import SERVER_NODE, InProcessGrid

AWAY, LATE = ABSENT


class AbsentGrid(InProcessGrid):
    """Sites of which some are away in a round of training, or late.

    One that is away does nothing. One that is late trains, and its update comes to nothing: as at a real server, whose
    rounds close by a deadline. Where all would be absent, one stays.

    Parameters
    ----------
    absent
        How often.
    seed
        Of the run.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: Sequence[Mapping[str, bool | float | int | str]],
        run_config: UserConfig,
        *,
        absent: AbsentConfig,
        seed: int,
        **named: Any,
    ) -> None:
        super().__init__(app, nodes, run_config, **named)
        self._absent, self._seed = absent, seed

    def _reply(self, message: Message) -> Message:
        if message.metadata.message_type != "train":
            return super()._reply(message)
        why = self._why_not(message)
        if why != AWAY:
            reply = super()._reply(message)
            if why != LATE or reply.has_error():
                return reply
        return Message(Error(ErrorCode.NODE_UNAVAILABLE, why), reply_to=message)

    def _why_not(self, message: Message) -> str:
        round_ = int(message.content.config_records[CONFIG][ROUND])  # type: ignore[arg-type]
        drawn = generator(self._seed, "absent", round_).random(len(list(self.get_node_ids())))
        place = message.metadata.dst_node_id - SERVER_NODE - 1
        most = self._absent.away + self._absent.late
        if place == int(np.argmax(drawn)) and bool((drawn < most).all()):
            return ""
        if drawn[place] < self._absent.away:
            return AWAY
        return LATE if drawn[place] < most else ""
