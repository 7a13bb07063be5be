"""The baseline without federation: every site trains on alone, through the same server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from medveil.contract import ARRAYS, CONFIG, ROUND


class LocalOnly(FedAvg):
    """Send each site the tensors it sent last; nothing is averaged.

    The model a round returns is the one it was given: the initial one. What the sites made of it is in `kept`.

    Parameters
    ----------
    sites
        Site name of each node id.
    """

    def __init__(self, sites: Mapping[int, str]) -> None:
        super().__init__(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self.sites = dict(sites)
        self.kept: dict[str, ArrayRecord] = {}
        self._given = ArrayRecord()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send every site its own tensors to train."""
        self._given = arrays
        return self._own(MessageType.TRAIN, server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Keep the tensors of each site apart."""
        replies = list(replies)
        for reply in replies:
            self.kept[self.sites[reply.metadata.src_node_id]] = reply.content.array_records[ARRAYS]
        _, metrics = super().aggregate_train(server_round, replies)
        return self._given, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send every site its own tensors to measure."""
        return self._own(MessageType.EVALUATE, server_round, arrays, config, grid)

    def _own(
        self, kind: str, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config[ROUND] = server_round
        return [
            Message(
                RecordDict({ARRAYS: self.kept.get(self.sites[node], arrays), CONFIG: config}),
                message_type=kind,
                dst_node_id=node,
            )
            for node in grid.get_node_ids()
        ]
