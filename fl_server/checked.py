"""The one wrapper around a Flower strategy: the wire on the way out, the checks on the way in."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl_server.arrays import to_record, to_tensors, to_wire
from fl_server.collect import said
from fl_server.config import ServerConfig
from fl_server.faults import reading
from fl_server.norms import (
    FEWEST_FOR_A_MEDIAN,
    Update,
    larger_than_most,
    limit_of,
    norm_over,
    refuse_not_finite,
    scaled_down,
)
from fl_server.strategies import RULES, TRAIN_LOSS, fit_to, set_state, state_of, too_few
from fl_server.weights import Weights
from medveil.contract import ARRAYS, CONFIG, METRICS, NUM_EXAMPLES, PACKED, measure_key
from medveil.errors import FederationError
from medveil.flower import AppExitException
from medveil.received import tensors_of
from medveil.secagg.members import MEMBERS, Join, members_record
from medveil.values import shown_value
from medveil.wire import Tensors, add_delta, decode, delta, encode, pack, unpack

_SMALLEST_NORM = 1.0
_LARGEST_NORM = 1e18
"""Beyond it the squares that rules compute leave fp32."""


class Checked(Strategy):
    """A Flower strategy between the wire and the sites.

    Outgoing tensors are encoded once a round for all sites that share them. Replies are decoded to fp32 weights (a
    delta is added to what its site really received, which bf16 has rounded), checked, and handed over in the order of
    the sites' names, so that the sum never depends on who was quicker. A bad update is left out by the name of its
    site. What a site says of itself in a reply weighs nothing: weights are those of the run.

    Parameters
    ----------
    inner
        The strategy, as `fl_server.strategies.make_strategy` builds it.
    config
        The server's configuration.
    sites
        Site name of each node id.
    weights
        How much each site weighs.
    wire, kind, packed
        As in `medveil.contract.RunConfig`.
    least_norm
        Norm the model is taken to have at least where a change is measured by it: most of what a light scope sends
        begins at zero.
    joins
        What sites signed of themselves; every site is shown it with the model it trains.

    Attributes
    ----------
    left_out
        Reason for each site whose update is left out of this round; a caller adds sites that sent none.
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        config: ServerConfig,
        sites: Mapping[int, str],
        weights: Weights,
        wire: str = "fp32",
        kind: str = "weights",
        packed: bool = False,
        least_norm: float = _SMALLEST_NORM,
        joins: Iterable[Join] = (),
    ) -> None:
        self._least_norm = max(least_norm, _SMALLEST_NORM)
        self.inner, self.config, self.sites = inner, config, dict(sites)
        self.weights = weights
        self.wire, self.kind, self.packed = wire, kind, packed
        self._joins = list(joins)
        self.left_out: dict[str, str] = {}
        self._received: dict[int, Tensors] = {}
        self._norms: dict[int, float] = {}

    def summary(self) -> None:
        """Log the strategy's own settings."""
        self.inner.summary()

    @property
    def state(self) -> Tensors:
        """What the strategy remembers between rounds, for a checkpoint."""
        return state_of(self.inner)

    @state.setter
    def state(self, state: Tensors) -> None:
        set_state(self.inner, state)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages of a training round, encoded for the wire and sorted by site."""
        self.left_out = {}
        with _quiet_flower():
            messages = list(self.inner.configure_train(server_round, arrays, config, grid))
        self._received, self._norms = self._encode(messages), {}
        for message in messages if self._joins else ():
            message.content[MEMBERS] = ConfigRecord(members_record(self._joins))
        return sorted(messages, key=self._site)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages of an evaluation, encoded for the wire and sorted by site."""
        with _quiet_flower():
            messages = list(self.inner.configure_evaluate(server_round, arrays, config, grid))
        self._encode(messages)
        return sorted(messages, key=self._site)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the updates and let the strategy make a model of the good ones.

        Raises
        ------
        FederationError
            Too few usable updates for the rule, or the strategy made no model.
        """
        updates = self._alike([update for reply in replies if (update := self._checked(reply)) is not None])
        lacks = too_few(self.config, len(updates))
        if lacks:
            reasons = "".join(f"; {site}: {reason}" for site, reason in sorted(self.left_out.items()))
            raise FederationError(f"'{self.config.strategy}' {lacks}{reasons}", where=f"round {server_round}")
        fit_to(self.inner, len(updates))
        updates.sort(key=lambda update: update.site)
        weights = self.weights.among(update.site for update in updates)
        handed = [self._handed(update, weights[update.site]) for update in updates]
        return self._merged(server_round, handed)

    def aggregate_mean(
        self, server_round: int, mean: npt.NDArray[np.float32], *, sites: int, examples: int, like: Message
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the strategy make a model of the mean of updates that nobody saw one by one.

        Parameters
        ----------
        mean
            (d,) fp32: what training changed, by tensor in the order of their names.
        sites, examples
            How many updates, and images, it is the mean of.
        like
            A reply of one of these sites, in whose place the mean is handed over.

        Raises
        ------
        FederationError
            Too few for the rule, a change too large for the model, or the strategy made no model.
        """
        base, where = self.base, f"round {server_round}"
        lacks = too_few(self.config, sites)
        if lacks:
            raise FederationError(f"'{self.config.strategy}' {lacks}", where=where)
        change = decode(unpack(mean, {name: each.shape for name, each in base.items()}), "fp32")
        try:
            self._check_change(norm_over(change), base)
        except FederationError as error:
            raise FederationError(f"of the mean: {error.problem}", where=where) from error
        handed = copy.copy(like)
        metrics = MetricRecord({NUM_EXAMPLES: float(examples)})
        handed.content = RecordDict({ARRAYS: to_record(add_delta(base, change)), METRICS: metrics})
        return self._merged(server_round, [handed])

    @property
    def base(self) -> Tensors:
        """The model of this round as its sites decode it."""
        return next(iter(self._received.values()))

    def _merged(self, server_round: int, handed: list[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        try:
            with _quiet_flower():
                made, metrics = self.inner.aggregate_train(server_round, handed)
        except AppExitException as error:
            raise FederationError(f"the strategy failed: {error}", where=f"round {server_round}") from error
        return to_record(self._model(made, server_round)), metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy average the metrics."""
        return self.inner.aggregate_evaluate(server_round, sorted(replies, key=self._site_of_reply))

    # -- on the way out ----------------------------------------------------------------------------------------------

    def _encode(self, messages: list[Message]) -> dict[int, Tensors]:
        """Encode in place; returns what each node will decode. Tensors shared by messages are encoded once."""
        encoded: dict[int, tuple[ArrayRecord, Tensors]] = {}
        received: dict[int, Tensors] = {}
        # The plain records are kept to the end: a freed one could lend its id to another.
        plain = [message.content.array_records[ARRAYS] for message in messages]
        for message, record in zip(messages, plain, strict=True):
            if id(record) not in encoded:
                encoded[id(record)] = _encoded(record, self.wire, packed=self.packed)
            sent, decoded = encoded[id(record)]
            message.content = RecordDict({ARRAYS: sent, CONFIG: message.content.config_records[CONFIG]})
            received[message.metadata.dst_node_id] = decoded
        return received

    # -- on the way in -----------------------------------------------------------------------------------------------

    def _checked(self, reply: Message) -> Update | None:
        site = self._site_of_reply(reply)
        try:
            with reading(site):
                return self._update(site, reply)
        except FederationError as error:
            self.left_out[site] = said(error.problem)
            return None

    def _update(self, site: str, reply: Message) -> Update:
        base = self._received[reply.metadata.src_node_id]
        records = reply.content.array_records
        if list(records) != [ARRAYS]:
            raise FederationError(
                f"the reply carries array records {shown_value(list(records))}, wanted '{ARRAYS}' alone"
            )
        shapes = {name: each.shape for name, each in base.items()}
        tensors = tensors_of(records[ARRAYS], shapes, self.wire, packed=self.packed)
        change = tensors if self.kind == "delta" else delta(tensors, base)
        norm = norm_over(change)
        if not norm <= _LARGEST_NORM:
            refuse_not_finite(change)
            raise FederationError(f"the update's norm is above {_LARGEST_NORM:g}, and no rule can compute with it")
        self._check_change(norm, base)
        if RULES[self.config.strategy].by_loss:
            _loss_of(reply)
        return Update(site, reply, add_delta(base, tensors) if self.kind == "delta" else tensors, norm)

    def _alike(self, updates: list[Update]) -> list[Update]:
        """Leave out updates far larger than most, and scale down the longer ones where the run says so."""
        if len(updates) < FEWEST_FOR_A_MEDIAN or not RULES[self.config.strategy].merges:
            return updates
        if self.config.max_norm:
            self.left_out |= larger_than_most(updates, self.config.max_norm)
            updates = [update for update in updates if update.site not in self.left_out]
        if not self.config.clip_norm:
            return updates
        limit = limit_of(updates, self.config.clip_norm)
        return [scaled_down(update, self._base_of(update), limit) for update in updates]

    def _handed(self, update: Update, weight: float) -> Message:
        """The reply as the strategy sees it: fp32 tensors and the weight, for sites measure different things."""
        tensors = update.tensors
        if self._centred:
            tensors = delta(tensors, self._base_of(update))
        metrics = MetricRecord({NUM_EXAMPLES: 1.0 if self._centred else weight})
        if RULES[self.config.strategy].by_loss:
            metrics[TRAIN_LOSS] = _loss_of(update.message)
        content = RecordDict({ARRAYS: to_record(tensors), METRICS: metrics})
        handed = copy.copy(update.message)
        handed.content = content
        return handed

    def _model(self, made: ArrayRecord | None, server_round: int) -> Tensors:
        base = self.base
        where = f"round {server_round}"
        if not made:
            raise FederationError(f"'{self.config.strategy}' made no model of the updates", where=where)
        tensors = to_tensors(made)
        if {name: each.shape for name, each in tensors.items()} != {name: each.shape for name, each in base.items()}:
            raise FederationError(f"'{self.config.strategy}' made a model of other tensors", where=where)
        if self._centred:
            tensors = add_delta(base, tensors)
        bad = [name for name, each in tensors.items() if not np.isfinite(each).all()]
        if bad:
            raise FederationError(f"the new model is not finite in '{bad[0]}'", where=where)
        return {name: tensors[name] for name in sorted(tensors)}

    def _check_change(self, norm: float, base: Tensors) -> None:
        """Compare an update's norm with the model's: another model in its place differs from it by more than its norm.

        A travelling part that starts near zero (a fresh head) is taken to have norm 1, so that it may begin to learn. A
        site that is alone puts nobody's model at risk but its own, and may train from scratch in one round.
        """
        most = self.config.max_change
        if not most or len(self.sites) == 1:
            return
        if id(base) not in self._norms:
            self._norms[id(base)] = norm_over(base)
        limit = most * max(self._norms[id(base)], self._least_norm)
        if norm > limit:
            of = f"{most:g} times the model's ({limit:.3g}; server.max_change)"
            raise FederationError(f"the update's norm is {norm:.3g}, above {of}")

    def _base_of(self, update: Update) -> Tensors:
        """What the site of an update really received."""
        return self._received[update.message.metadata.src_node_id]

    @property
    def _centred(self) -> bool:
        return RULES[self.config.strategy].centred

    def _site(self, message: Message) -> str:
        return self.sites[message.metadata.dst_node_id]

    def _site_of_reply(self, reply: Message) -> str:
        return self.sites[reply.metadata.src_node_id]


def _loss_of(reply: Message) -> float:
    """The training loss that a site tells (FederationError where it tells none that can be one)."""
    loss = reply.content.metric_records[METRICS].get(measure_key("train", "loss"))
    if not isinstance(loss, int | float) or not 0 <= loss < _LARGEST_NORM:
        raise FederationError("it tells no training loss, by which the strategy weighs it")
    return float(loss)


def _encoded(record: ArrayRecord, wire: str, *, packed: bool) -> tuple[ArrayRecord, Tensors]:
    """A record for the wire, sorted by name, and what its receiver makes of it."""
    tensors = to_tensors(record)
    arrays = encode(tensors, wire)
    received = tensors if wire == "fp32" else decode(arrays, wire)
    return to_wire({PACKED: pack(arrays)} if packed else arrays), received


@contextlib.contextmanager
def _quiet_flower() -> Iterator[None]:
    """Keep the strategies' running commentary off the terminal: we report the same, by the names of the sites."""
    flower = logging.getLogger("flwr")
    level = flower.level
    flower.setLevel(logging.WARNING)
    try:
        yield
    finally:
        flower.setLevel(level)
